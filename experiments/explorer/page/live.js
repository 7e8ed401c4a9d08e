'use strict';
// A trained network at work in the page, on a scene that the reader changes.
{
  const {html} = dom;
  const ZOOM = 4;  // Pixels of a drawing for one of the image.
  const LANDMARKS = {lighthouse: ['sea'], cabin: ['snow'], both: ['sea', 'snow'], none: []};
  const NAMES = {sea: 'lighthouse', snow: 'cabin'};
  const LARGEST = 240;  // Pixels along the longer side of a picture of the reader's own.

  views.add({
    name: 'live',
    title: 'Live',
    lead: 'A trained network runs in this page. Is the pale plain sea or snow? Only the landmark tells: it is sea if there '
      + 'is a lighthouse anywhere, and snow if there is a cabin.',
    defaults: {picture: 0, landmark: 'lighthouse', x: -1, y: -1, column: 150, row: 12},
    create(root, store) {
      const content = data('live');
      if (!content) {
        root.append(html('p', {class: 'text'}, 'This page was made without a trained network. ', html('code', {}, 'make demo'),
          ' trains a small one in a few minutes and writes a page with it, ', html('code', {}, 'demo/explorer.html'), '; ',
          html('code', {}, 'dilated-jax explore --weights=DIR --output=page.html'), ' takes one of your own.'));
        return {update() {}};
      }
      if (content.refused) {
        root.append(html('p', {class: 'text'}, content.refused));
        return {update() {}};
      }
      return create(root, store, content);
    },
  });

  // Labels images, one at a time and the newest first, without holding up the page.
  function makeRunner(network, answered) {
    let send, running = null, next = null;

    function useWorker() {
      const text = `const engine = (${createEngine})(); let network;
        onmessage = ({data}) => {
          if (data.network) { network = engine.load(data.network); return; }
          const start = performance.now(), labels = engine.run(network, data);
          postMessage({labels, ms: performance.now() - start});
        };`;
      const url = URL.createObjectURL(new Blob([text], {type: 'text/javascript'}));
      const worker = new Worker(url);
      worker.onmessage = ({data}) => done(data);
      worker.onerror = () => {
        useThisThread();
        if (running) send(running);
      };
      worker.postMessage({network});
      send = ({data, width, height}) => worker.postMessage({data, width, height});
    }

    function useThisThread() {
      const engine = createEngine(), loaded = engine.load(network);
      send = (image) => setTimeout(() => {
        const start = performance.now(), labels = engine.run(loaded, image);
        done({labels, ms: performance.now() - start});
      });
    }

    function start(image) {
      running = image;
      send(image);
    }

    function done(answer) {
      const image = running, waiting = next;
      running = next = null;
      if (waiting) start(waiting);
      answered({...answer, image});
    }

    try { useWorker(); } catch { useThisThread(); }  // Some browsers allow files no workers.
    return {
      label(image) { if (running) next = image; else start(image); },
      get busy() { return running !== null; },
    };
  }

  function create(root, store, {network, pictures}) {
    const scenes = pictures.map(scene.load);
    const {classes, palette, heads} = network;
    const hasLandmarks = ['lighthouse', 'cabin'].every((name) => classes.includes(name));
    const hasContext = heads.length > 1;
    const titles = hasContext ? ['Front end alone', 'With context'] : ['The network'];
    const colors = new Uint32Array(Uint8Array.from(palette.flatMap((color) => [...color, 255])).buffer);
    let own = null;      // A picture of the reader's own.
    let shown = null;    // The state that is drawn, made valid.
    let image = null, answer = null, drag = null, key = '';

    // Controls.
    const picture = controls.select({
      label: 'Picture', choices: [...scenes.map((_, i) => [i, `Scene ${i + 1}`]), ['own', 'Your own …']],
      onchange: (value) => {
        if (value === 'own') { file.value = ''; file.click(); picture.set(shown.picture); return; }
        own = null;
        store.set({picture: Number(value), x: -1, y: -1});
      },
    });
    const file = html('input', {type: 'file', accept: 'image/*', class: 'unseen', tabindex: '-1', 'aria-hidden': 'true',
      onchange: async () => {
        if (!file.files.length) return;
        try {
          own = await scaled(file.files[0], network.image_scale);
        } catch {
          verdict.textContent = `${file.files[0].name} is no picture that this browser can open.`;
          return;
        }
        store.set({});
      }});
    const landmark = controls.choice({
      label: 'Landmark', choices: [['lighthouse', 'Lighthouse'], ['cabin', 'Cabin'], ['both', 'Both'], ['none', 'None']],
      onchange: (value) => store.set({landmark: value}),
    });
    const swap = controls.button('Lighthouse ⇄ cabin', () =>
      store.set({landmark: shown.landmark === 'lighthouse' ? 'cabin' : 'lighthouse'}), {class: 'primary'});
    root.append(html('div', {class: 'controls'}, picture.node, file, hasLandmarks ? [landmark.node, swap] : null));

    // Drawings: the picture, and a label map for each head.
    const canvas = (label) => html('canvas', {tabindex: 0, role: 'application', 'aria-label': label});
    const source = canvas('Picture');
    const maps = heads.map((_, i) => canvas(titles[i]));
    const sourceFigure = figures.figure({drawing: source, name: 'picture', title: 'Picture',
      caption: `${hasLandmarks ? 'Drag the landmark, or move it with the arrow keys. ' : ''}Click a pixel to ask about it.`});
    const mapFigures = heads.map(({field}, i) => figures.figure({drawing: maps[i], name: `labels-${i}`, title: titles[i],
      caption: field ? `A cell of its output sees ${field} × ${field} pixels.` : 'A cell of its output sees the whole image.'}));
    const drawings = html('div', {class: `live-figures live-${heads.length}`, 'aria-busy': 'true'},
      sourceFigure.node, mapFigures.map(({node}) => node));
    root.append(drawings);
    const legend = html('ul', {class: 'legend', 'aria-label': 'Classes'});
    classes.forEach((name, i) => {
      const swatch = html('span', {class: 'swatch'});
      swatch.style.background = `rgb(${palette[i]})`;
      legend.append(html('li', {}, swatch, name));
    });
    const verdict = html('p', {class: 'text', role: 'status'});
    const pixel = html('p', {class: 'text'});
    const speed = html('p', {class: 'note'});
    root.append(legend, verdict, pixel, speed);

    const times = [];  // The last ones; the first are slow, until the browser has compiled the loops.
    const runner = makeRunner(network, (result) => {
      answer = result;
      times.push(result.ms);
      if (times.length > 15) times.shift();
      const ms = times.toSorted((a, b) => a - b)[times.length >> 1], rate = 1000 / ms;
      speed.textContent = `${dom.number(network.parameters)} weights; ${dom.number(ms)} ms for `
        + `${hasContext ? 'both label maps' : 'a label map'}, ${dom.number(rate, rate < 10 ? 1 : 0)} times a second, `
        + 'in plain JavaScript on one core of this machine.';
      paint();
      if (!runner.busy) drawings.setAttribute('aria-busy', 'false');
      if (!runner.busy && !drag) conclude();
    });

    // What is drawn, from whatever the address says.
    function valid(state) {
      const index = Math.min(Math.max(Math.round(state.picture) || 0, 0), scenes.length - 1);
      const chosen = scenes[index], {size} = chosen;
      const kind = hasLandmarks && state.landmark in LANDMARKS ? state.landmark : hasLandmarks ? 'lighthouse' : 'none';
      const within = (value, start, most) => (value < 0 ? start : Math.min(Math.round(value), most));
      return {
        picture: index, landmark: kind,
        x: within(state.x, chosen.x, chosen.width - size.width), y: within(state.y, chosen.y, chosen.height - size.height),
        column: state.column, row: state.row,
      };
    }

    // From the place of one of two landmarks to that of the other, half a picture away.
    function other({width, height, size}, x, y) {
      const half = (value, count) => (value + (count >> 1)) % count;
      return [half(x, 2 * (width - size.width >> 1)), half(y, 2 * (height - size.height >> 1))];
    }

    // World, left and top of each landmark.
    function places({picture, landmark, x, y}) {
      return LANDMARKS[landmark].map((world, i) => [world, ...(i ? other(scenes[picture], x, y) : [x, y])]);
    }

    function update(state) {
      shown = valid(state);
      picture.set(own ? 'own' : shown.picture);
      landmark.set(shown.landmark);
      swap.disabled = landmark.node.disabled = own !== null;
      const now = own ? 'own' : JSON.stringify([shown.picture, places(shown)]);
      if (now !== key || own !== null && image !== own) {
        key = now;
        image = own ?? scene.draw(scenes[shown.picture], places(shown));
        drawings.setAttribute('aria-busy', 'true');
        runner.label(image);
      }
      shown.column = Math.min(Math.max(Math.round(shown.column), 0), image.width - 1);
      shown.row = Math.min(Math.max(Math.round(shown.row), 0), image.height - 1);
      paint();
    }

    function paint() {
      drawImage(source, image);
      const pen = source.getContext('2d');
      heads.forEach(({field}, i) => {
        if (field) frame(pen, field, i ? '--output' : '--accent');
      });
      cross(pen);
      if (!answer || answer.image.width !== image.width || answer.image.height !== image.height) return;
      answer.labels.forEach((labels, i) => {
        const colored = new ImageData(image.width, image.height), whole = new Uint32Array(colored.data.buffer);
        for (let at = 0; at < labels.length; at++) whole[at] = colors[labels[at]];
        drawImage(maps[i], colored);
        cross(maps[i].getContext('2d'));
      });
      const at = shown.row * image.width + shown.column;
      const named = answer.labels.map((labels) => classes[labels[at]]);
      const size = (i) => (heads[i].field ? `the ${heads[i].field} × ${heads[i].field} pixels around it` : 'the whole image');
      pixel.replaceChildren(`The marked pixel (${shown.column}, ${shown.row}): `, ...named.flatMap((name, i) =>
        [i ? '; with the context module, which sees ' : hasContext ? 'the front end, which sees ' : 'the network, which sees ',
          `${size(i)}, says `, html('b', {}, name)]), '.');
    }

    // What both make of the plain, in words.
    function conclude() {
      if (own || !hasLandmarks) {
        verdict.textContent = '';
        return;
      }
      const shares = answer.labels.map((labels) => {
        const count = (names) => labels.reduce((sum, label) => sum + names.includes(classes[label]), 0);
        const sea = count(['sea', 'sail']), snow = count(['snow', 'tent']);
        return Math.round(100 * sea / Math.max(1, sea + snow));
      });
      const said = (share) => (share >= 50 ? `${share}% sea` : `${100 - share}% snow`);
      const what = LANDMARKS[shown.landmark].map((world) => NAMES[world]).join(' and a ');
      verdict.replaceChildren(what ? `With a ${what} in the picture, ` : 'Without a landmark, ',
        hasContext ? 'the front end takes the plain for ' : 'the network takes the plain for ', html('b', {}, said(shares[0])),
        ...(hasContext ? [', and the network with context for ', html('b', {}, said(shares[1]))] : []), '.');
      sourceFigure.describe(`Picture${what ? `: ${what} at ${shown.x}, ${shown.y}. Arrow keys move it` : ''}`);
      mapFigures.forEach((each, i) => each.describe(`${titles[i]}: plain is ${said(shares[i])}. Arrow keys move the marked pixel`));
    }

    function drawImage(target, content) {
      if (target.width !== content.width * ZOOM) target.width = content.width * ZOOM;
      if (target.height !== content.height * ZOOM) target.height = content.height * ZOOM;
      const plain = html('canvas', {width: content.width, height: content.height});
      plain.getContext('2d').putImageData(content, 0, 0);
      const pen = target.getContext('2d');
      pen.imageSmoothingEnabled = false;
      pen.drawImage(plain, 0, 0, target.width, target.height);
    }

    // The square that the marked pixel is labeled from.
    function frame(pen, field, color) {
      const left = (shown.column + 0.5 - field / 2) * ZOOM, top = (shown.row + 0.5 - field / 2) * ZOOM;
      const clip = (value, most) => Math.min(Math.max(value, 1.5), most - 1.5);
      const [x0, x1] = [left, left + field * ZOOM].map((x) => clip(x, source.width));
      const [y0, y1] = [top, top + field * ZOOM].map((y) => clip(y, source.height));
      for (const [stroke, width] of [['#ffffff', 5], [dom.color(color), 3]]) {
        pen.strokeStyle = stroke;
        pen.lineWidth = width;
        pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
      }
    }

    function cross(pen) {
      const x = (shown.column + 0.5) * ZOOM, y = (shown.row + 0.5) * ZOOM;
      for (const [stroke, width] of [['#ffffff', 6], ['#000000', 2.5]]) {
        pen.strokeStyle = stroke;
        pen.lineWidth = width;
        pen.beginPath();
        pen.moveTo(x - 9, y); pen.lineTo(x + 9, y); pen.moveTo(x, y - 9); pen.lineTo(x, y + 9);
        pen.stroke();
      }
    }

    // Pointer and keyboard.
    const at = (target, event) => {
      const box = target.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width * image.width, (event.clientY - box.top) / box.height * image.height];
    };
    function grabbed([x, y]) {
      if (own) return null;
      const {size} = scenes[shown.picture], reach = 4;  // Fingers are thick.
      const found = places(shown).findIndex(([, left, top]) => x >= left - reach && x < left + size.width + reach
        && y >= top - reach && y < top + size.height + reach);
      if (found < 0) return null;
      const [, left, top] = places(shown)[found];
      return {second: found === 1, dx: x - left, dy: y - top};
    }
    function moveTo(left, top, second, final) {
      const {width, height, size} = scenes[shown.picture];
      const clip = (value, most) => Math.min(Math.max(Math.round(value), 0), most);
      let x = clip(left, width - size.width), y = clip(top, height - size.height);
      if (second) [x, y] = other(scenes[shown.picture], x, y);
      store.set({x, y}, final);
    }
    const mark = ([x, y], final) => store.set({column: Math.floor(x), row: Math.floor(y)}, final);
    dom.set(source, {
      onpointerdown: (event) => {
        drag = grabbed(at(source, event)) ?? {};
        source.setPointerCapture(event.pointerId);
        if (drag.dx === undefined) mark(at(source, event), false);
      },
      onpointermove: (event) => {
        const place = at(source, event);
        if (!drag) source.classList.toggle('grab', grabbed(place) !== null);
        else if (drag.dx === undefined) mark(place, false);
        else moveTo(place[0] - drag.dx, place[1] - drag.dy, drag.second, false);
      },
      onpointerup: () => { drag = null; store.set({}); if (!runner.busy) conclude(); },
      onpointercancel: () => { drag = null; },
      onkeydown: (event) => arrows(event, (now, dx, dy) => moveTo(now.x + dx, now.y + dy, false, true)),
    });
    // A finger on the landmark moves it; elsewhere it scrolls the page.
    source.addEventListener('touchstart', (event) => {
      if (grabbed(at(source, event.touches[0]))) event.preventDefault();
    }, {passive: false});
    for (const target of maps) {
      let down = false;
      dom.set(target, {
        onpointerdown: (event) => { down = true; target.setPointerCapture(event.pointerId); mark(at(target, event), false); },
        onpointermove: (event) => { if (down) mark(at(target, event), false); },
        onpointerup: () => { down = false; store.set({}); },
        onpointercancel: () => { down = false; },
        onkeydown: (event) => arrows(event, (now, dx, dy) => store.set({column: now.column + dx, row: now.row + dy})),
      });
    }
    function arrows(event, move) {
      const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
      if (!steps) return;
      event.preventDefault();
      const factor = event.shiftKey ? 1 : 8;
      move(valid(store.state), factor * steps[0], factor * steps[1]);  // Two keys may fall within a frame.
    }
    return {update};
  }

  // A picture file as ImageData of a size that runs in a moment.
  async function scaled(file, imageScale) {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(imageScale, LARGEST / Math.max(bitmap.width, bitmap.height));
    const width = Math.max(1, Math.round(bitmap.width * scale)), height = Math.max(1, Math.round(bitmap.height * scale));
    const canvas = html('canvas', {width, height}), pen = canvas.getContext('2d');
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(bitmap, 0, 0, width, height);
    return pen.getImageData(0, 0, width, height);
  }
}
