'use strict';
// Figures: a drawing with a title, a text for those who can't see it, and buttons that save it.

const figures = (() => {
  const {html, svg} = dom;
  const KEPT = ['fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-opacity', 'stroke-dasharray',
    'stroke-linecap', 'stroke-linejoin', 'opacity', 'font-family', 'font-size', 'font-weight', 'font-style',
    'text-anchor', 'dominant-baseline', 'visibility', 'display', 'paint-order', 'font-variant-numeric'];

  // drawing: an <svg> or a <canvas>. name: of the saved file. title: its heading, or null.
  // Returns {node, describe(text)}: what a screen reader says of the drawing as it is now.
  function figure({drawing, name, title, caption = null}) {
    const label = dom.id('figure');
    const heading = html('p', {id: label, class: 'figure-title'}, title);
    const isSvg = drawing.tagName.toLowerCase() === 'svg';
    // A drawing that takes the keyboard has a role of its own (say 'application' or 'slider').
    if (!drawing.hasAttribute('role')) drawing.setAttribute('role', 'img');
    if (!drawing.hasAttribute('aria-label')) drawing.setAttribute('aria-label', title);
    const save = (kind) => controls.button(kind, () => (kind === 'SVG' ? saveSvg : savePng)(drawing, name),
      {'aria-label': `Save “${title}” as ${kind}`, title: `Save as ${kind}`});
    const node = html('figure', {'aria-labelledby': label},
      html('div', {class: 'figure-head'}, heading,
        html('span', {class: 'save'}, isSvg ? save('SVG') : null, save('PNG'))),
      drawing, caption ? html('figcaption', {}, caption) : null);
    return {
      node,
      describe(text) { drawing.setAttribute('aria-label', text); },
    };
  }

  // A copy of a drawing that looks the same outside of the page: style.css does not follow it.
  function standalone(drawing) {
    const copy = drawing.cloneNode(true);
    const [from, to] = [drawing, copy].map((root) => [root, ...root.querySelectorAll('*')]);
    from.forEach((node, i) => {
      const style = getComputedStyle(node);
      for (const name of KEPT) {
        const value = style.getPropertyValue(name);
        if (value) to[i].setAttribute(name, value);
      }
      to[i].removeAttribute('class');
    });
    const box = drawing.viewBox.baseVal;
    const size = box && box.width ? box : drawing.getBoundingClientRect();
    dom.set(copy, {xmlns: 'http://www.w3.org/2000/svg', width: size.width, height: size.height, role: null,
      tabindex: null});
    copy.prepend(svg('rect', {x: box ? box.x : 0, y: box ? box.y : 0, width: size.width, height: size.height,
      fill: dom.color('--paper')}));
    return {text: new XMLSerializer().serializeToString(copy), width: size.width, height: size.height};
  }

  function saveSvg(drawing, name) {
    download(new Blob([standalone(drawing).text], {type: 'image/svg+xml'}), `${name}.svg`);
  }

  async function savePng(drawing, name) {
    let canvas = drawing;
    if (drawing.tagName.toLowerCase() === 'svg') {
      const {text, width, height} = standalone(drawing);
      const image = new Image();
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
      await image.decode();
      canvas = html('canvas', {width: 2 * width, height: 2 * height});
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
    }
    canvas.toBlob((blob) => download(blob, `${name}.png`), 'image/png');
  }

  function download(blob, name) {
    const url = URL.createObjectURL(blob);
    html('a', {href: url, download: name}).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  return {figure, standalone, saveSvg, savePng};
})();
