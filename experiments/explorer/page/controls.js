'use strict';
// Sliders, choices and buttons: each has a visible label, which is also its accessible name.
// Each returns {node, set(value)}; `set` shows a value and calls nobody.

const controls = (() => {
  const {html, id} = dom;

  // onchange(value, final): `final` is false while the handle is dragged.
  function slider({label, min, max, step = 1, value = min, format = String, hint = null, onchange}) {
    const name = id('slider');
    const output = html('output', {for: name});
    const input = html('input', {
      id: name, type: 'range', min, max, step, value,
      oninput: () => { show(); onchange(Number(input.value), false); },
      onchange: () => onchange(Number(input.value), true),
    });
    function show() {
      output.textContent = format(Number(input.value));
      input.setAttribute('aria-valuetext', output.textContent);
    }
    show();
    return {
      node: html('div', {class: 'control slider'}, html('label', {for: name}, label), output, input, note(hint)),
      input,
      set(value, limits = {}) { dom.set(input, limits); input.value = value; show(); },
    };
  }

  // A whole number with - and + beside it.
  function stepper({label, min, max, step = 1, value = min, hidden = false, onchange}) {
    const name = id('stepper');
    let limits = {min, max};
    const input = html('input', {id: name, type: 'number', inputmode: 'numeric', min, max, step, value,
      onchange: () => change(Number(input.value))});
    const less = html('button', {type: 'button', 'aria-label': `${label}: less`,
      onclick: () => change(Number(input.value) - step)}, '−');
    const more = html('button', {type: 'button', 'aria-label': `${label}: more`,
      onclick: () => change(Number(input.value) + step)}, '+');
    function change(value) {
      const valid = Math.min(limits.max, Math.max(limits.min, Math.round(value) || limits.min));
      input.value = valid;
      onchange(valid, true);
    }
    return {
      node: html('div', {class: 'control stepper'},
        html('label', {for: name, class: hidden ? 'unseen' : null}, label),
        html('span', {class: 'joined'}, less, input, more)),
      input,
      set(value, changed = {}) {
        limits = {...limits, ...changed};
        dom.set(input, changed);
        input.value = value;
      },
    };
  }

  // choices: [[value, text], ...]
  function select({label, choices, value, onchange}) {
    const name = id('select');
    const input = html('select', {id: name, onchange: () => onchange(input.value, true)},
      choices.map(([key, text]) => html('option', {value: key}, text)));
    if (value !== undefined) input.value = value;
    return {
      node: html('div', {class: 'control select'}, html('label', {for: name}, label), input),
      input,
      set(value) { input.value = value; },
    };
  }

  // A row of buttons of which one is pressed (radio buttons in the browser's eyes).
  function choice({label, choices, value, onchange}) {
    const name = id('choice');
    const inputs = new Map();
    const node = html('fieldset', {class: 'control choice'}, html('legend', {}, label),
      html('span', {class: 'joined'}, choices.map(([key, text]) => {
        const input = html('input', {type: 'radio', name, value: key, onchange: () => onchange(key, true)});
        inputs.set(String(key), input);
        return html('label', {}, input, html('span', {}, text));
      })));
    const result = {node, set(value) { const input = inputs.get(String(value)); if (input) input.checked = true; }};
    if (value !== undefined) result.set(value);
    return result;
  }

  function checkbox({label, value = false, onchange}) {
    const input = html('input', {type: 'checkbox', onchange: () => onchange(input.checked, true)});
    input.checked = value;
    return {
      node: html('label', {class: 'control checkbox'}, input, html('span', {}, label)),
      input,
      set(value) { input.checked = value; },
    };
  }

  function button(label, onclick, attributes = {}) {
    return html('button', {type: 'button', onclick, ...attributes}, label);
  }

  // Play and pause; calls tick(seconds since the last frame) while it plays. It never starts by itself.
  function player({label = 'Play', tick}) {
    let last = null;
    const node = button(label, () => (last === null ? play() : pause()), {class: 'primary', 'aria-pressed': 'false'});
    function frame(now) {
      if (last === null) return;
      // A frame may have begun before the click that it follows.
      const seconds = Math.min(0.1, Math.max(0, (now - last) / 1000));
      last = now;
      if (tick(seconds) === false) return pause();
      requestAnimationFrame(frame);
    }
    function play() {
      last = performance.now();
      node.textContent = 'Pause';
      node.setAttribute('aria-pressed', 'true');
      requestAnimationFrame(frame);
    }
    function pause() {
      last = null;
      node.textContent = label;
      node.setAttribute('aria-pressed', 'false');
    }
    return {node, play, pause, get playing() { return last !== null; }};
  }

  function note(text) {
    return text ? html('small', {}, text) : null;
  }

  return {slider, stepper, select, choice, checkbox, button, player};
})();
