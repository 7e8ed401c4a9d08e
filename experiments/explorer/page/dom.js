'use strict';
// Elements of HTML and SVG, and the data that stands in the page.

const dom = (() => {
  const SVG = 'http://www.w3.org/2000/svg';
  let count = 0;

  // Sets attributes; 'on...' are listeners, true is an empty attribute, null and false are left out.
  function set(node, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
      else if (value === false || value === null || value === undefined) node.removeAttribute(name);
      else node.setAttribute(name, value === true ? '' : value);
    }
    return node;
  }

  function make(node, attributes = {}, ...children) {
    set(node, attributes).append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  return {
    set,
    // html('p', {class: 'note'}, 'text', element): texts are never read as markup.
    html: (tag, ...rest) => make(document.createElement(tag), ...rest),
    svg: (tag, ...rest) => make(document.createElementNS(SVG, tag), ...rest),
    // An id that nothing else has.
    id: (prefix) => `${prefix}-${++count}`,
    // 12,345 and 1.5: as tables of the project write them.
    number: (value, digits = 0) =>
      value.toLocaleString('en-US', {maximumFractionDigits: digits, minimumFractionDigits: 0}),
    // The value of a variable of style.css, say '--accent', as it stands now (light or dark).
    color: (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim(),
  };
})();

// What Python put into the page under this name; null if nothing. Parsed once.
const data = (() => {
  const parsed = new Map();
  return (name) => {
    if (!parsed.has(name)) {
      const element = document.getElementById(`data-${name}`);
      parsed.set(name, element ? JSON.parse(element.textContent) : null);
    }
    return parsed.get(name);
  };
})();
