'use strict';
// Convolution and pooling beside dilated convolution: what one cell of the output reads, layer by layer.
{
  const {html, svg, number} = dom;
  const LARGEST = 96;  // Pixels along an axis that can still be told apart.
  const MOST = 7;  // Layers.
  const CHANNELS = 64;  // Of every layer, where parameters and operations are counted.
  const KERNELS = [1, 3, 5, 7];
  const POOLS = [1, 2, 4];
  const PRESETS = {
    'Pooling, and the same without': ['3:1:1,3:1:2,3:1:2,3:1:2', '3:1:1,3:2:1,3:4:1,3:8:1'],
    'Plain layers, and doubled rates': ['3:1:1,3:1:1,3:1:1,3:1:1', '3:1:1,3:2:1,3:4:1,3:8:1'],
    'Holes: rates 2, 2, 2': ['3:1:1,3:1:1,3:1:1', '3:2:1,3:2:1,3:2:1'],
    'Holes: rates 2, 4, 8': ['3:1:1,3:2:1,3:4:1', '3:2:1,3:4:1,3:8:1'],
    'No holes: rates 1, 2, 5': ['3:2:1,3:2:1,3:2:1', '3:1:1,3:2:1,3:5:1'],
    'The paper’s module, without and with rates':
      ['3:1:1,3:1:1,3:1:1,3:1:1,3:1:1,3:1:1,3:1:1', '3:1:1,3:1:1,3:2:1,3:4:1,3:8:1,3:16:1,3:1:1'],
  };

  // Lists of layers: 'kernel:rate:pooling before it', separated by commas. Whatever is in a text, the
  // list is valid: fields that are too large are cut back from the last layer on.

  function parse(text, fallback) {
    const layers = text.split(',').slice(0, MOST).map((part) => {
      const [kernel, rate, pool] = part.split(':').map(Number);
      return {
        kernel: KERNELS.includes(kernel) ? kernel : 3,
        rate: Number.isInteger(rate) && rate >= 1 ? Math.min(rate, LARGEST) : 1,
        pool: POOLS.includes(pool) ? pool : 1,
      };
    });
    while (size(layers) > LARGEST) {
      const last = layers.findLast((layer) => layer.rate > 1) ?? layers.findLast((layer) => layer.pool > 1);
      if (!last) { layers.pop(); continue; }
      if (last.rate > 1) last.rate--;
      else last.pool = 1;
    }
    return layers.length ? layers : parse(fallback);
  }

  const write = (layers) => layers.map(({kernel, rate, pool}) => `${kernel}:${rate}:${pool}`).join(',');
  const size = (layers) => geometry.largestField(tableOf(layers));
  const jumpOf = (layers) => layers.reduce((jump, layer) => jump * layer.pool, 1);

  // The rows of a network: a pooling, where there is one, and the convolution behind it.
  function tableOf(layers) {
    return geometry.complete(layers.flatMap(({kernel, rate, pool}, i) => [
      ...(pool > 1 ? [{name: `pool ${i + 1}`, kind: 'max_pool', kernel: pool, stride: pool}] : []),
      {name: `layer ${i + 1}`, kernel, dilation: rate, padding: rate * (kernel - 1) / 2, channels: CHANNELS},
    ]));
  }

  // How many paths lead from each cell of each row down from (row, cell), and up to each row above.
  // maps[0] is the input, maps[i + 1] the output of row i; only what lies inside counts.
  function trace(table, counts, row, cell) {
    const maps = counts.map((count) => new Float64Array(count));
    maps[row][cell] = 1;
    for (let i = row; i > 0; i--) {
      eachTap(table[i - 1], maps[i].length, maps[i - 1].length, (o, s) => { maps[i - 1][s] += maps[i][o]; });
    }
    for (let i = row; i < table.length; i++) {
      eachTap(table[i], maps[i + 1].length, maps[i].length, (o, s) => { maps[i + 1][o] += maps[i][s]; });
    }
    return maps;
  }

  function eachTap(layer, outputs, inputs, visit) {
    for (let o = 0; o < outputs; o++) {
      for (let tap = 0; tap < layer.kernel; tap++) {
        const s = o * layer.stride - layer.padding + tap * layer.dilation;
        if (s >= 0 && s < inputs) visit(o, s);
      }
    }
  }

  // The sides of the comparison.

  function makeSide({key, hue, title, store, both}) {
    const side = svg('svg', {class: `stack hue-${hue}`, tabindex: 0, role: 'application',
      'aria-roledescription': 'diagram'});
    const above = svg('svg', {class: `above hue-${hue}`, tabindex: 0, role: 'application',
      'aria-roledescription': 'diagram'});
    const editor = html('div', {class: 'layers', role: 'group', 'aria-label': `Layers: ${title}`});
    const facts = html('dl', {class: 'facts'});
    const verdict = html('p', {class: 'verdict'});
    const sideFigure = figures.figure({drawing: side, name: `${key}-side`, title: 'From the side'});
    const aboveFigure = figures.figure({drawing: above, name: `${key}-above`, title: 'From above'});
    const node = html('div', {class: `side hue-${hue}`},
      html('h2', {}, title), verdict, editor, sideFigure.node,
      html('div', {class: 'above-and-facts'}, aboveFigure.node, facts));
    let parts = null, shape = null, editing = null;

    const listen = (drawing) => {
      drawing.addEventListener('keydown', (event) => {
        const {x, y, layer} = both.now;
        const step = jump();
        const moves = {ArrowLeft: {x: x - step}, ArrowRight: {x: x + step}, ArrowUp: {y: y - step},
          ArrowDown: {y: y + step}, PageUp: {layer: layer + 1}, PageDown: {layer: layer - 1}};
        const change = moves[event.key];
        if (!change || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        both.probe = null;
        for (const axis of ['x', 'y']) if (axis in change) change[axis] = Math.max(0, change[axis]);
        both.now = {...both.now, ...change};  // A second key may come before this one is drawn.
        store.set(change, false);
      });
    };
    listen(side);
    listen(above);
    follow(side, (u, v) => {
      const found = parts.rows.findIndex((row) => v >= row.y - 4 && v <= row.y + row.height + 6);
      if (found < 0 || u < 0 || u >= shape.cells) return;
      const pixel = Math.floor(u);
      both.probe = found === shape.top ? null : {key, row: found, cell: Math.floor(pixel / shape.jumps[found])};
      store.set({x: pixel}, false);
    });
    side.addEventListener('pointerleave', () => { if (both.probe) { both.probe = null; store.set({}, false); } });
    follow(above, (u, v) => {
      if (u >= 0 && v >= 0 && u < shape.cells && v < shape.cells) {
        both.probe = null;
        store.set({x: Math.floor(u), y: Math.floor(v)}, false);
      }
    });

    function follow(drawing, act) {
      for (const kind of ['pointermove', 'pointerdown']) drawing.addEventListener(kind, (event) => point(event, drawing, act));
    }

    function point(event, drawing, act) {
      if (!shape) return;
      const box = drawing.getBoundingClientRect();
      const scale = drawing.viewBox.baseVal.width / box.width;
      const left = (event.clientX - box.left) * scale, top = (event.clientY - box.top) * scale;
      if (drawing === side) act((left - parts.left) / parts.unit, top);
      else act((left - parts.edge) / parts.pixel, (top - parts.edge) / parts.pixel);
    }

    const jump = () => shape?.jumps[shape.top] ?? 1;

    // Everything that does not depend on where the output cell is.
    function build(layers, cells, layer, width, span) {
      const table = tableOf(layers);
      const counts = [cells, ...geometry.sizes(table, cells).map((found) => found.cells)];
      const jumps = counts.map((count) => cells / count);
      // The row of the current layer: its convolution.
      const top = table.findIndex((row) => row.name === `layer ${layer}`) + 1;
      shape = {layers, table, counts, jumps, top, cells, layer};
      drawRows(width, span);
      drawAbove();
      tell();
    }

    function drawRows(width, span) {
      const {table, counts, cells} = shape;
      const labels = Math.min(112, Math.max(104, width * 0.2));
      const unit = (width - labels - 2) / cells, left = labels;
      // Layers of both sides stand at the same height, whether there are poolings between them or not.
      const conv = 44, pool = span.pooled ? 30 : 8, cell = Math.min(18, Math.max(10, unit));
      const rows = [];
      const height = span.layers * conv + (span.layers - 1) * pool + cell + 34;
      const yOf = (index) => height - cell - 22 - index * (conv + pool) + (index ? pool : 0);
      const of = ['input', ...table.map((row) => row.name)];
      of.forEach((name, index) => {
        const which = index === 0 ? 0 : Number(name.split(' ')[1]);
        const isPool = name.startsWith('pool');
        rows.push({name, isPool, y: isPool ? yOf(which) + conv - 8 : yOf(which), height: isPool ? cell * 0.6 : cell,
          which});
      });
      dom.set(side, {viewBox: `0 0 ${width} ${height}`});
      const lines = svg('g', {class: 'wires'});
      const maps = svg('g');
      const texts = svg('g', {class: 'labels'});
      parts = {...parts, rows, unit, left, maps: [], wires: [], height, cell};
      rows.forEach((row, index) => {
        const count = counts[index], wide = unit * cells / count;
        const gap = Math.min(1.5, wide * 0.12);
        const group = svg('g', {class: row.which > shape.layer ? 'later' : null});
        const fills = [];
        for (let i = 0; i < count; i++) {
          const box = {x: left + i * wide + gap / 2, y: row.y, width: wide - gap, height: row.height,
            rx: Math.min(3, wide / 4)};
          group.append(svg('rect', {class: 'cell', ...box}));
          fills.push(svg('rect', {class: 'fill', ...box}));
        }
        group.append(...fills);
        maps.append(group);
        parts.maps.push(fills);
        const layer = shape.layers[row.which - 1];
        const text = index === 0 ? 'Input' : row.isPool ? `pooling ${layer.pool}`
          : `${row.which}: ${layer.kernel}×${layer.kernel}${layer.rate > 1 ? `, rate ${layer.rate}` : ''}`;
        texts.append(svg('text', {x: 0, y: row.y + row.height / 2 + 4.5,
          class: `${row.which > shape.layer ? 'later' : ''} ${row.isPool ? 'small' : ''}`}, text));
        if (index) {
          const wire = svg('path', {class: row.which > shape.layer ? 'wire later' : 'wire'});
          lines.append(wire);
          parts.wires.push(wire);
        }
      });
      const field = svg('path', {class: 'bracket'});
      const fieldText = svg('text', {class: 'bracket-text', y: height - 3, 'text-anchor': 'middle'});
      const ring = svg('rect', {class: 'ring', rx: 4});
      parts = {...parts, field, fieldText, ring};
      side.replaceChildren(lines, maps, texts, field, fieldText, ring);
    }

    function drawAbove() {
      const {cells, layers, layer} = shape;
      const extent = 300, edge = 4, pixel = (extent - 2 * edge) / cells;
      dom.set(above, {viewBox: `0 0 ${extent} ${extent}`});
      const clip = dom.id('clip');
      const used = tableOf(layers.slice(0, layer));
      const {first, counts} = geometry.pathCounts(used, 0);
      const most = Math.max(...counts);
      const canvas = html('canvas', {width: counts.length, height: counts.length});
      const context = canvas.getContext('2d');
      const image = context.createImageData(counts.length, counts.length);
      const [red, green, blue] = rgb(dom.color(hue === 'pooled' ? '--pooled' : '--dilated'));
      counts.forEach((a, i) => counts.forEach((b, j) => {
        image.data.set([red, green, blue, a * b ? 255 * shade(a * b / most ** 2) : 0], 4 * (i * counts.length + j));
      }));
      context.putImageData(image, 0, 0);
      const lines = Array.from({length: cells + 1}, (_, i) => edge + i * pixel);
      const grid = lines.map((at) => `M${at},${edge}V${extent - edge}M${edge},${at}H${extent - edge}`).join('');
      const field = svg('g', {},
        svg('image', {href: canvas.toDataURL(), width: counts.length * pixel, height: counts.length * pixel,
          preserveAspectRatio: 'none', class: 'heat'}),
        svg('rect', {class: 'outline', width: counts.length * pixel, height: counts.length * pixel}));
      const taps = svg('g', {class: 'taps'});
      const last = layers[layer - 1], reach = jumpOf(layers.slice(0, layer));
      for (let i = 0; i < last.kernel; i++) {
        for (let j = 0; j < last.kernel; j++) {
          const at = (tap) => (tap - (last.kernel - 1) / 2) * last.rate * reach * pixel;
          taps.append(svg('circle', {cx: at(j), cy: at(i), r: Math.max(2.2, Math.min(4.5, pixel * 0.45))}));
        }
      }
      const cellBox = svg('rect', {class: 'ring', width: reach * pixel, height: reach * pixel, rx: 2});
      const content = svg('g', {'clip-path': `url(#${clip})`}, field, svg('path', {d: grid, class: 'mesh'}), cellBox, taps);
      above.replaceChildren(
        svg('defs', {}, svg('clipPath', {id: clip}, svg('rect', {x: edge, y: edge, width: extent - 2 * edge, height: extent - 2 * edge}))),
        svg('rect', {class: 'sheet', x: edge, y: edge, width: extent - 2 * edge, height: extent - 2 * edge}), content);
      parts = {...parts, heat: field, taps, cellBox, pixel, edge, first, reach};
    }

    // What can be said in numbers.
    function tell() {
      const {layers, layer, cells} = shape;
      const table = tableOf(layers.slice(0, layer));
      const {counts} = geometry.pathCounts(table, 0);
      const {read, size: field, hole} = geometry.coverage(counts);
      const grid = cells / jumpOf(layers.slice(0, layer));
      const costs = geometry.costs(table, cells, cells, CHANNELS);
      const parameters = costs.reduce((sum, row) => sum + row.parameters, 0);
      const flops = costs.reduce((sum, row) => sum + row.flops, 0) / cells ** 2;
      const step = cells / grid;
      const holes = read < field;
      shape.facts = {field, read, grid, step, holes, hole, parameters, flops};
      facts.replaceChildren(...[
        ['Receptive field', `${field} × ${field} pixels`, ''],
        ['Pixels read', holes ? `${number(read ** 2)} of ${number(field ** 2)}` : `all ${number(field ** 2)}`, holes ? 'bad' : 'good'],
        ['Output', `${grid} × ${grid} of ${cells} × ${cells}`, grid < cells ? 'bad' : 'good'],
        ['Parameters', number(parameters), ''],
        ['Operations a pixel', `${number(flops / 1000)} k`, ''],
      ].map(([name, value, kind]) => html('div', {class: kind || null}, html('dt', {}, name), html('dd', {}, value))));
      verdict.replaceChildren(
        html('strong', {class: holes ? 'bad' : null}, holes
          ? `Sees ${field} × ${field} pixels, but skips ${Math.round(100 * (1 - (read / field) ** 2))} % of them`
          : `Sees ${field} × ${field} pixels, every one of them`), '; ',
        html('strong', {class: step > 1 ? 'bad' : null}, step > 1
          ? `one answer for ${step} × ${step} pixels` : 'an answer for every pixel'), '.');
    }

    // Only what depends on where the output cell is.
    function place({x, y}) {
      const {table, counts, jumps, top, cells, layer} = shape;
      const {probe} = both;
      const at = probe && probe.key === key ? probe : {row: top, cell: Math.floor(x / jumps[top])};
      const maps = trace(table, counts, at.row, at.cell);
      maps.forEach((map, row) => {
        const most = Math.max(...map);
        const later = row > top;
        parts.maps[row].forEach((fill, i) => {
          const value = later ? 0 : map[i];
          const kind = row === at.row && i === at.cell ? 'fill self' : row > at.row ? 'fill up' : 'fill';
          if (fill.getAttribute('class') !== kind) fill.setAttribute('class', kind);
          fill.setAttribute('fill-opacity', value ? shade(value / most).toFixed(3) : 0);
        });
      });
      parts.wires.forEach((wire, i) => {
        if (i >= top) return wire.setAttribute('d', '');
        const [low, high] = [parts.rows[i], parts.rows[i + 1]];
        const [wide, narrow] = [parts.unit * jumps[i + 1], parts.unit * jumps[i]];
        const steps = [];
        eachTap(table[i], counts[i + 1], counts[i], (o, s) => {
          if (!maps[i][s] || !maps[i + 1][o]) return;
          steps.push(`M${(parts.left + (o + 0.5) * wide).toFixed(1)},${(high.y + high.height).toFixed(1)}`
            + `L${(parts.left + (s + 0.5) * narrow).toFixed(1)},${low.y.toFixed(1)}`);
        });
        wire.setAttribute('d', steps.join(''));
        wire.setAttribute('class', `wire${i >= at.row ? ' up' : ''}${i === top - 1 ? ' current' : ''}`);
      });
      // The field, below the input; what lies outside is padding.
      const used = table.slice(0, at.row);
      const [first, last] = used.length ? geometry.window(used, at.cell) : [at.cell, at.cell];
      const [from, to] = [Math.max(0, first), Math.min(cells - 1, last)];
      const base = parts.rows[0].y + parts.rows[0].height + 4;
      const [start, end] = [parts.left + from * parts.unit, parts.left + (to + 1) * parts.unit];
      parts.field.setAttribute('d', `M${start},${base}v4H${end}v-4`);
      const seen = last - first + 1;
      parts.fieldText.textContent = first < 0 || last >= cells
        ? `${seen} pixels, ${seen - (to - from + 1)} of them padding` : `${seen} pixels`;
      const half = 3.4 * parts.fieldText.textContent.length;
      parts.fieldText.setAttribute('x', Math.min(parts.left + cells * parts.unit - half, Math.max(half, (start + end) / 2)));
      const row = parts.rows[at.row], wide = parts.unit * jumps[at.row];
      dom.set(parts.ring, {x: parts.left + at.cell * wide - 1.5, y: row.y - 2, width: wide + 3, height: row.height + 4});
      // From above: the pattern is the same everywhere, so that it only moves.
      const {pixel, edge, reach} = parts;
      const [column, line] = [Math.floor(x / reach), Math.floor(y / reach)];
      const corner = (cell) => edge + (cell * reach + parts.first) * pixel;
      parts.heat.setAttribute('transform', `translate(${corner(column)} ${corner(line)})`);
      dom.set(parts.cellBox, {x: edge + column * reach * pixel, y: edge + line * reach * pixel});
      parts.taps.setAttribute('transform',
        `translate(${edge + (column + 0.5) * reach * pixel} ${edge + (line + 0.5) * reach * pixel})`);
      const {facts: found} = shape;
      const words = `${title}, up to layer ${layer}. Output cell ${column}, ${line} sees ${found.field} × ${found.field} `
        + `pixels and reads ${number(found.read ** 2)} of them; the output has ${found.grid} × ${found.grid} cells for `
        + `${cells} × ${cells} pixels. Arrow keys move the cell, Page Up and Page Down change the layer.`;
      sideFigure.describe(words);
      aboveFigure.describe(words);
    }

    // The editor: a column for each layer, with what is legal there.
    function edit(layers, layer) {
      const text = write(layers);
      const mark = () => editor.querySelectorAll('[data-layer]').forEach((each) =>
        each.classList.toggle('later', Number(each.dataset.layer) >= layer));
      if (text === editing) return mark();
      const focused = editor.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      editing = text;
      const change = (index, field) => (event) => {
        const next = layers.map((each) => ({...each}));
        next[index][field] = Number(event.target.value);
        store.set({[key]: write(next), preset: ''});
      };
      const row = (label, field, choices, words) => [
        html('span', {class: 'row-label', 'aria-hidden': 'true'}, label),
        ...layers.map((each, index) => {
          const select = html('select', {'aria-label': `${label}, layer ${index + 1}`, 'data-key': `${field}${index}`,
            'data-layer': index, onchange: change(index, field)},
            choices(each, index).map((value) => html('option', {value}, words(value))));
          select.value = each[field];
          return select;
        }),
      ];
      const legal = (index, field) => (value) =>
        size(layers.map((each, i) => (i === index ? {...each, [field]: value} : each))) <= LARGEST;
      const rates = Array.from({length: 48}, (_, i) => i + 1);
      editor.style.gridTemplateColumns = `auto repeat(${layers.length}, minmax(0, 1fr))`;
      editor.replaceChildren(
        html('span', {class: 'row-label', 'aria-hidden': 'true'}, 'Layer'),
        ...layers.map((_, index) => html('span', {class: 'head', 'data-layer': index, 'aria-hidden': 'true'}, index + 1)),
        ...row('Pooling', 'pool', (each, index) => POOLS.filter(legal(index, 'pool')), (value) => (value > 1 ? value : 'no')),
        ...row('Kernel', 'kernel', (each, index) => KERNELS.filter(legal(index, 'kernel')), (value) => `${value}×${value}`),
        ...row('Rate', 'rate', (each, index) => rates.filter(legal(index, 'rate')), String));
      mark();
      if (focused) editor.querySelector(`[data-key="${focused}"]`)?.focus();
    }

    return {key, node, side, build, place, edit};
  }

  const shade = (share) => 0.16 + 0.84 * Math.sqrt(share);

  function rgb(color) {
    const context = html('canvas', {width: 1, height: 1}).getContext('2d');
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data;
  }

  views.add({
    name: 'pooling',
    title: 'Pooling or dilation',
    lead: 'To label a pixel, a network has to see what is around it. Pooling widens the view by throwing pixels away. '
      + 'Dilation widens it by spreading the taps of its kernels, and keeps an answer for every pixel.',
    defaults: {preset: Object.keys(PRESETS)[0], left: PRESETS[Object.keys(PRESETS)[0]][0],
      right: PRESETS[Object.keys(PRESETS)[0]][1], layer: 4, x: -1, y: -1},
    create(root, store) {
      const layer = controls.slider({label: 'Layers', min: 1, max: 4, value: 4, format: (n) => `${n}`,
        onchange: (value, final) => store.set({layer: value}, final)});
      const preset = controls.select({label: 'Compare', choices: [...Object.keys(PRESETS).map((name) => [name, name]), ['', 'Your own']],
        onchange: (name) => {
          if (!PRESETS[name]) return store.set({preset: ''});
          const [left, right] = PRESETS[name];
          store.set({preset: name, left, right, layer: left.split(',').length, x: -1, y: -1});
        }});
      const count = (by) => () => {
        const lists = ['left', 'right'].map((key) => [key, parse(store.state[key], views.all.get('pooling').defaults[key])]);
        const length = Math.min(MOST, Math.max(1, lists[0][1].length + by));
        store.set({...Object.fromEntries(lists.map(([key, layers]) => {
          const next = layers.slice(0, length);
          while (next.length < length) next.push({kernel: 3, rate: 1, pool: 1});
          return [key, write(next)];
        })), layer: length, preset: ''});
      };
      const fewer = controls.button('− layer', count(-1)), more = controls.button('+ layer', count(1));
      // `now`: the state as it is drawn, which is what an address says, made valid. `probe`: a cell
      // below the output that the pointer is on, {key, row, cell}.
      const both = {now: null, probe: null};
      const sides = [
        makeSide({key: 'left', hue: 'pooled', title: 'Standard', store, both}),
        makeSide({key: 'right', hue: 'dilated', title: 'Dilated', store, both}),
      ];
      root.append(
        html('div', {class: 'controls'}, preset.node, layer.node, html('span', {class: 'joined'}, fewer, more),
          html('p', {class: 'note hint'}, 'Point at a cell, or use the arrow keys in a figure.')),
        html('div', {class: 'pair'}, ...sides.map((side) => side.node)),
        html('p', {class: 'note text'}, 'Stronger cells are read in more ways: the shade is the square root of the number of '
          + 'paths from a cell to the output. Circles are the taps of the current layer’s kernel. A cell below the '
          + 'output shows both what it reads and, in pink, all that it has a part in. Every layer has '
          + `${CHANNELS} channels in the counts of parameters and operations.`));
      let built = null;
      return {
        update(state) {
          const {defaults} = views.all.get('pooling');
          let [left, right] = ['left', 'right'].map((key) => parse(state[key], defaults[key]));
          const length = Math.min(left.length, right.length);
          [left, right] = [left.slice(0, length), right.slice(0, length)];
          const current = Math.min(length, Math.max(1, Math.round(state.layer)));
          const lists = [left, right];
          const step = Math.max(...lists.map(jumpOf));
          const cells = Math.max(16, Math.ceil(Math.max(...lists.map(size)) / step + (step > 1 ? 0 : 1)) * step);
          const width = Math.round(sides[0].node.clientWidth) || 540;
          const key = JSON.stringify([lists, current, cells, width, dom.color('--pooled')]);
          if (key !== built) {
            built = key;
            both.probe = null;
            const span = {layers: length, pooled: lists.some((layers) => jumpOf(layers) > 1)};
            layer.set(current, {max: length});
            preset.set(PRESETS[state.preset]?.[0] === write(left) && PRESETS[state.preset]?.[1] === write(right) ? state.preset : '');
            fewer.disabled = length === 1;
            more.disabled = length === MOST;
            sides.forEach((side, i) => {
              side.edit(lists[i], current);
              side.build(lists[i], cells, current, width, span);
            });
          }
          const inside = (value) => (value < 0 ? (value === -1 ? Math.floor(cells / 2) : 0) : Math.min(cells - 1, Math.round(value)));
          both.now = {layer: current, x: inside(state.x), y: inside(state.y)};
          sides.forEach((side) => side.place(both.now));
        },
      };
    },
  });
}
