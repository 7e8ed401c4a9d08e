'use strict';
// A network layer by layer: ours, or a table that is pasted. What Python derived is shown as it is; the
// page's own geometry is for sizes that are typed and for pasted tables.
{
  const {html, svg, number} = dom;
  const LANE = 15, ROW = 30;
  const EXAMPLE = JSON.stringify([
    {name: 'stem', kernel: 7, stride: 2, padding: 3, channels: 64},
    {name: 'pool', kind: 'max_pool', kernel: 3, stride: 2, padding: 1},
    {name: 'branch1', kernel: 1, channels: 128, inputs: ['pool']},
    {name: 'branch6', kernel: 3, dilation: 6, padding: 6, channels: 128, inputs: ['pool']},
    {name: 'branch12', kernel: 3, dilation: 12, padding: 12, channels: 128, inputs: ['pool']},
    {name: 'both', kind: 'concat', inputs: ['branch1', 'branch6', 'branch12']},
    {name: 'scores', kernel: 1, channels: 21},
  ], null, 1);

  // {title, table, frontEnd, input, derived, notes, network} of one of ours, or of a pasted text.
  const prepared = new Map();
  function ours(index) {
    if (!prepared.has(index)) {
      const entry = data('networks')[index];
      prepared.set(index, {...entry, table: geometry.complete(entry.table), frontEnd: entry.front_end});
    }
    return prepared.get(index);
  }

  function pasted(text) {
    const {table, error} = geometry.parse(text);
    if (error) return {error};
    const fields = geometry.receptiveFields(table);
    let taps = 0, work = 0;
    const read = table.map(({kernel}, i) => {
      taps += kernel;
      work += fields[i].size * taps;
      if (work > 3e8) return null;  // Of very deep tables, holes are told of the layer that is looked at.
      const found = fields[i].size && geometry.pathCounts(table.slice(0, i + 1));
      return found ? geometry.coverage(found.counts).read : null;
    });
    const side = geometry.validSize(table, 256 + 2 * geometry.margin(table)) ?? 512;
    return {
      title: 'Your table', name: 'yours', table, frontEnd: table.length, input: [side, side],
      derived: {channels: geometry.channelCounts(table).slice(1), field: fields.map((field) => field.size), read,
        jump: fields.map((field) => field.jump), offset: fields.map((field) => field.center),
        parameters: geometry.costs(table, side, side).map((cost) => cost.parameters)},
    };
  }

  // Lanes of the graph, as in pictures of version histories: the output of a row keeps its lane until
  // the last row that reads it.
  function lanes(table) {
    const reads = geometry.inputIndices(table);
    const last = new Map();
    reads.forEach((sources, index) => sources.forEach((source) => last.set(source, index)));
    const live = [-1];  // By lane: whose output.
    const rows = table.map((_, index) => {
      const before = [...live];
      const sources = [...new Set(reads[index])].map((source) => before.indexOf(source));
      for (const lane of before.keys()) if (last.get(before[lane]) === index) live[lane] = null;
      const own = sources.filter((lane) => live[lane] === null).sort((a, b) => a - b)[0];
      let lane = own ?? live.indexOf(null);
      if (lane < 0) lane = live.length;
      const through = [...live.keys()].filter((each) => live[each] !== null && live[each] !== undefined);
      live[lane] = last.has(index) ? index : null;
      return {lane, sources, through, ends: !last.has(index)};
    });
    return {rows, count: Math.max(...rows.map(({lane, through}) => Math.max(lane, ...through))) + 1};
  }

  function drawLanes({lane, sources, through, ends}, count, kind) {
    const x = (each) => 9 + each * LANE, middle = ROW / 2;
    const path = [
      ...through.map((each) => `M${x(each)},0V${ROW}`),
      ...sources.map((each) => (each === lane ? `M${x(each)},0V${middle}`
        : `M${x(each)},0C${x(each)},${middle * 0.8} ${x(lane)},${middle * 0.2} ${x(lane)},${middle}`)),
      ends ? '' : `M${x(lane)},${middle}V${ROW}`,
    ];
    const node = {class: `knot knot-${kind}`, cx: x(lane), cy: middle};
    return svg('svg', {width: 18 + (count - 1) * LANE, height: ROW, 'aria-hidden': 'true', class: 'lanes'},
      svg('path', {class: 'lane', d: path.join('')}),
      kind.endsWith('pool') ? svg('rect', {class: node.class, x: x(lane) - 4.5, y: middle - 4.5, width: 9, height: 9})
        : svg('circle', {...node, r: kind === 'conv' ? 5 : 4}));
  }

  // What a cell of a layer sees, along an axis: paths from each pixel.
  function drawProfile(drawing, table, width) {
    const found = geometry.pathCounts(table);
    const height = 220, left = 8, right = width - 8, base = height - 58, top = 32;
    dom.set(drawing, {viewBox: `0 0 ${width} ${height}`});
    if (!found) {
      drawing.replaceChildren(svg('text', {x: width / 2, y: height / 2, 'text-anchor': 'middle'}, 'Reads means of the whole image.'));
      return 'Each cell reads means of the whole image.';
    }
    const {first, counts} = found;
    const most = Math.max(...counts), total = counts.reduce((sum, count) => sum + count, 0);
    const pad = Math.max(1, Math.round(counts.length * 0.06));
    const unit = (right - left) / (counts.length + 2 * pad);
    const x = (pixel) => left + (pixel - first + pad) * unit;
    const bars = [], holes = [];
    counts.forEach((count, i) => {
      if (count) bars.push(`M${x(first + i).toFixed(2)},${base}v${(-(base - top) * count / most).toFixed(2)}h${(unit * (unit > 4 ? 0.9 : 1.02)).toFixed(2)}V${base}z`);
      else holes.push(`M${x(first + i).toFixed(2)},${base + 3}h${Math.max(0.6, unit * 0.9).toFixed(2)}v7h${-Math.max(0.6, unit * 0.9).toFixed(2)}z`);
    });
    let sum = 0, from = null, to = null;
    counts.forEach((count, i) => {
      sum += count;
      if (from === null && 4 * sum >= total) from = i;
      if (to === null && 4 * sum >= 3 * total) to = i;
    });
    const {read, size, hole} = geometry.coverage(counts);
    const half = `half of all paths: ${to - from + 1}`;
    drawing.replaceChildren(
      svg('line', {class: 'rule', x1: left, x2: right, y1: base, y2: base}),
      svg('path', {class: 'bars', d: bars.join('')}),
      svg('path', {class: 'holes', d: holes.join('')}),
      svg('path', {class: 'bracket', d: `M${x(first).toFixed(1)},${base + 17}v5H${x(first + size).toFixed(1)}v-5`}),
      svg('text', {class: 'tick', x: (left + right) / 2, y: base + 38, 'text-anchor': 'middle'}, `${number(size)} pixels`),
      svg('path', {class: 'bracket strong', d: `M${x(first + from).toFixed(1)},${top - 6}v-5H${x(first + to + 1).toFixed(1)}v5`}),
      svg('text', {class: 'tick', x: (left + right) / 2, y: 13, 'text-anchor': 'middle'}, half));
    return `A cell reads ${read === size ? `all ${number(size)}` : `${number(read)} of ${number(size)}`} pixels along an axis`
      + `${read < size ? `, with holes up to ${hole} wide` : ''}; half of all paths to it start in the ${to - from + 1} in the middle.`;
  }

  // How an input becomes cells: margins, the image inside, cells, and the context module's border.
  function drawStrip(drawing, net, size, width) {
    const grid = geometry.withoutUpsampling(net.table.slice(0, net.frontEnd));
    const margin = geometry.margin(grid), stride = geometry.stride(grid);
    const cells = geometry.sizes(grid, size).at(-1).cells;
    const context = geometry.withoutUpsampling(net.table.slice(net.frontEnd));
    const border = context.length ? (geometry.largestField(context) - 1) / 2 : 0;
    const height = border ? 176 : 118;
    dom.set(drawing, {viewBox: `0 0 ${width} ${height}`});
    if (!(cells > 0)) return drawing.replaceChildren(svg('text', {x: 4, y: 30}, `An input of ${size} pixels vanishes on the way.`));
    const full = Math.max(size, (cells + 2 * border) * stride);
    const unit = (width - 4) / full, x0 = 2 + (full - size) / 2 * unit;
    const x = (pixel) => x0 + pixel * unit;
    const inside = size - 2 * margin;
    const bar = (from, to, y, kind, text) => {
      const wide = Math.max(0, x(to) - x(from));
      return [svg('rect', {class: `bar bar-${kind}`, x: x(from), y, width: wide, height: 30, rx: 3}),
        text && wide > 7.2 * text.length ? svg('text', {class: `bar-text on-${kind}`, x: x(from) + wide / 2, y: y + 20, 'text-anchor': 'middle'}, text) : null];
    };
    const y = border ? 66 : 8;
    const ticks = Array.from({length: Math.min(cells, 400)}, (_, i) => `M${x(margin + i * stride).toFixed(1)},${y + 52}v22h${(stride * unit * 0.82).toFixed(1)}v-22z`);
    const content = [
      ...(margin ? [...bar(0, margin, y, 'margin', String(margin)), ...bar(size - margin, size, y, 'margin', String(margin))] : []),
      ...bar(margin, size - margin, y, 'image', `${number(size)} pixels${margin ? `, ${number(inside)} of them image` : ''}`),
      svg('path', {class: 'cells', d: ticks.join('')}),
      svg('text', {class: 'tick', x: width / 2, y: y + 92, 'text-anchor': 'middle'}, `${number(cells)} cells, one for ${stride === 1 ? 'each pixel' : `${stride} × ${stride} pixels`}`),
    ];
    if (border) {
      const from = margin - border * stride, to = margin + (cells + border) * stride;
      content.push(
        svg('path', {class: 'cells border-cells', d: [-1, 1].flatMap((end) => Array.from({length: Math.min(border, 200)}, (_, i) => {
          const cell = end < 0 ? -1 - i : cells + i;
          return `M${x(margin + cell * stride).toFixed(1)},${y + 52}v22h${(stride * unit * 0.82).toFixed(1)}v-22z`;
        })).join('')}),
        svg('path', {class: 'bracket', d: `M${x(from).toFixed(1)},22v-6H${x(margin).toFixed(1)}v6M${x(margin + cells * stride).toFixed(1)},22v-6H${x(to).toFixed(1)}v6`}),
        svg('text', {class: 'tick', x: Math.max(30, (x(from) + x(margin)) / 2), y: 10, 'text-anchor': 'middle'}, `${border} cells`),
        svg('text', {class: 'tick', x: Math.min(width - 30, (x(margin + cells * stride) + x(to)) / 2), y: 10, 'text-anchor': 'middle'}, `${border} cells`),
        svg('text', {class: 'tick', x: width / 2, y: 40, 'text-anchor': 'middle'}, 'of the context module’s border'));
    }
    drawing.replaceChildren(...content.filter(Boolean));
  }

  // The numbers of the paper's networks, said of whichever network is shown.
  function meanings(net, height, width) {
    const grid = geometry.withoutUpsampling(net.table.slice(0, net.frontEnd));
    const margin = geometry.margin(grid), stride = geometry.stride(grid), field = geometry.largestField(grid);
    const [rows, columns] = [height, width].map((size) => geometry.sizes(grid, size).at(-1).cells);
    const context = geometry.withoutUpsampling(net.table.slice(net.frontEnd));
    const lines = [];
    const add = (value, ...text) => lines.push(html('div', {}, html('dt', {}, value), html('dd', {}, ...text)));
    const padded = grid.some((layer) => layer.padding > 0);
    const lost = 2 * margin;
    if (!padded) {
      add(number(height), height - lost === rows * stride
        ? `pixels go in: ${number(rows)} cells × ${stride} + ${lost}`
        : `pixels go in and make ${number(rows)} cells: ${number(rows)} × ${stride} + ${lost} would be ${number(rows * stride + lost)}, so the last windows overhang the end`);
      if (width !== height) add(number(width), `pixels across: ${number(columns)} cells`);
      add(number(lost), `are lost: ${margin} on each side. So many pixels are reflected around an image, and its labels begin ${margin} pixels inside the input`);
      add(number(margin), `is half of what a cell sees beyond its own ${pixels(stride)}: (${field} − ${stride}) / 2`);
    } else {
      add(number(height), `pixels go in and make ${number(rows)} cells. The network pads inside, so an image needs no margin around it`);
      if (width !== height) add(number(width), `pixels across: ${number(columns)} cells`);
    }
    add(field === null ? 'all' : number(field), field === null ? 'of the image is seen by every cell' : 'pixels along an axis are seen by a cell of the front end'.replace('the front end', context.length ? 'the front end' : 'the network'));
    if (context.length) {
      const seen = geometry.largestField(context);
      const rates = context.filter((layer) => layer.kernel > 1).map((layer) => layer.dilation);
      add(number((seen - 1) / 2), `cells on each side are read by the context module: ${rates.join(' + ')}, the sum of its rates. Beyond the border it reads zeros`);
      add(number(seen), `cells along an axis, 2 · ${(seen - 1) / 2} + 1, are seen by a cell behind the context module: ${number(geometry.largestField([...grid, ...context]))} pixels of the input`);
    }
    return lines;
  }

  const pixels = (count) => `${number(count, 4)} ${count === 1 ? 'pixel' : 'pixels'}`;
  const large = (value) => (value < 1e8 ? `${number(value / 1e6, 1)} million` : `${number(value / 1e9, 1)} billion`);
  const finite = (value, fallback) => (Number.isInteger(value) && value > 0 && value <= 20_000 ? value : fallback);

  views.add({
    name: 'network',
    title: 'A network',
    lead: 'Every network of this library is a table of layers, and everything here is derived from it: what a cell sees, '
      + 'where cells lie, how large the output is. Paste a table of your own to see the same of it.',
    defaults: {net: '0', height: 0, width: 0, layer: '', table: ''},
    create(root, store) {
      const entries = data('networks') ?? [];
      const choose = controls.select({label: 'Network',
        choices: [...entries.map((entry, i) => [String(i), entry.title]), ['own', 'A table of your own …']],
        onchange: (value) => store.set({net: value, height: 0, width: 0, layer: '', ...(value === 'own' && !store.state.table ? {table: EXAMPLE} : {})})});
      const height = controls.stepper({label: 'Input height', min: 1, max: 20_000, onchange: (value) => store.set({height: value})});
      const width = controls.stepper({label: 'Input width', min: 1, max: 20_000, onchange: (value) => store.set({width: value})});
      const nearest = controls.button('Next valid size', () => {
        const {table} = shown;
        store.set({height: geometry.validSize(table, now.height) ?? now.height,
          width: geometry.validSize(table, now.width) ?? now.width});
      });
      const id = dom.id('table');
      const text = html('textarea', {id, rows: 9, spellcheck: 'false', autocomplete: 'off',
        oninput: () => store.set({table: text.value, layer: '', height: 0, width: 0}, false),
        onchange: () => store.set({table: text.value})});
      const error = html('p', {class: 'error', role: 'alert'});
      const own = html('div', {class: 'own'}, html('label', {for: id}, 'Layers as JSON: ',
        html('span', {class: 'note'}, 'name, kind, kernel, stride, dilation, padding, channels, inputs; what is left out is as in a 3×3 convolution')), text, error);
      const facts = html('dl', {class: 'facts facts-row'});
      const profile = svg('svg', {class: 'chart'}), strip = svg('svg', {class: 'chart'});
      const profileFigure = figures.figure({drawing: profile, name: 'paths', title: 'What a cell sees'});
      const heading = profileFigure.node.querySelector('.figure-title');
      const seen = html('p', {class: 'note', role: 'status'});
      const stripFigure = figures.figure({drawing: strip, name: 'sizes', title: 'From pixels to cells'});
      const means = html('dl', {class: 'meanings'});
      const rounding = html('p', {class: 'text'});
      const notes = html('ul', {class: 'note'});
      const body = html('tbody');
      const heads = ['layer', 'kind', 'kernel', 'rate', 'stride', 'padding', 'channels', 'sees', 'jump', 'offset', 'output', 'parameters'];
      const table = html('table', {class: 'layers-table'}, html('caption', {class: 'unseen'}, 'Layers of the network'),
        html('thead', {}, html('tr', {}, heads.map((head) => html('th', {scope: 'col'}, head)))), body);
      const list = html('div', {class: 'scroll tall', tabindex: 0, role: 'group', 'aria-label': 'Layers of the network'}, table);
      const content = html('div', {},
        facts,
        html('div', {class: 'wide-and-narrow'},
          html('div', {}, html('h2', {}, 'Layer by layer'), list),
          html('div', {class: 'sticky'}, profileFigure.node, seen, notes)),
        html('h2', {}, 'What the numbers mean'), stripFigure.node, means, rounding);
      root.append(html('div', {class: 'controls'}, choose.node, height.node, width.node, nearest), own, content);

      let shown = null, source = null, rows = [], visible = null;
      let now = null;  // The size as it is drawn; the address has none where it is the network's own.

      // Up and down go through the layers.
      body.addEventListener('keydown', (event) => {
        const step = {ArrowUp: -1, ArrowDown: 1}[event.key];
        const next = step && rows[rows.findIndex(({button}) => button === event.target) + step];
        if (!next) return;
        event.preventDefault();
        next.button.focus();
        store.set({layer: next.name}, false);
      });

      function build(net) {
        const {rows: places, count} = lanes(net.table);
        const {derived} = net;
        rows = net.table.map((layer, i) => {
          const button = html('button', {type: 'button', class: 'pick', onclick: () => store.set({layer: layer.name})}, layer.name);
          const output = html('td');
          const hole = derived.read[i] !== null && derived.read[i] < derived.field[i];
          const conv = layer.kind === 'conv' || layer.kind.endsWith('pool') || layer.kind === 'deconv';
          const node = html('tr', {class: i === net.frontEnd ? 'part' : null},
            html('th', {scope: 'row'}, html('span', {class: 'lane-and-name'}, drawLanes(places[i], count, layer.kind), button)),
            ...[layer.kind === 'adaptive_avg_pool' ? 'avg of parts' : layer.kind.replaceAll('_', ' '), conv ? `${layer.kernel}×${layer.kernel}` : '', layer.kind === 'conv' ? layer.dilation : '',
              conv ? layer.stride : '', layer.padding || '', number(derived.channels[i])].map((value) => html('td', {}, value)),
            html('td', {class: hole ? 'bad' : null, title: hole ? `reads ${derived.read[i]} of them` : null}, derived.field[i] === null ? 'all' : number(derived.field[i])),
            html('td', {}, number(derived.jump[i], 4)), html('td', {}, number(derived.offset[i], 2)), output,
            html('td', {}, derived.parameters[i] ? number(derived.parameters[i]) : ''));
          return {node, button, output, name: layer.name};
        });
        body.replaceChildren(...rows.map(({node}) => node));
        notes.replaceChildren(...(net.notes ?? []).map((note) => html('li', {}, note)));
      }

      return {
        update(state) {
          const isOwn = state.net === 'own';
          own.hidden = !isOwn;
          if (isOwn && document.activeElement !== text) text.value = state.table;
          // A number, or in links a name.
          const index = entries[Number(state.net)] ? Number(state.net) : Math.max(0, entries.findIndex(({name}) => name === state.net));
          choose.set(isOwn ? 'own' : String(index));
          const key = isOwn ? `own ${state.table}` : String(index);
          if (key !== source) {
            const net = isOwn ? pasted(state.table) : ours(index);
            error.textContent = net.error ?? '';
            content.hidden = Boolean(net.error);
            source = key;
            if (net.error) return;
            shown = net;
            build(net);
          }
          if (content.hidden) return;
          const net = shown;
          now = {height: finite(state.height, net.input[0]), width: finite(state.width, net.input[1])};
          height.set(now.height);
          width.set(now.width);
          const sizes = [now.height, now.width].map((size) => geometry.sizes(net.table, size));
          const vanishes = sizes.flat().some(({cells}) => cells < 1);
          rows.forEach(({node, button, output, name}, i) => {
            const [down, across] = sizes.map((found) => found[i]);
            output.textContent = `${down.cells > 0 ? number(down.cells) : '–'} × ${across.cells > 0 ? number(across.cells) : '–'}`;
            const rounded = down.rounded || across.rounded;
            dom.set(output, {class: rounded ? 'rounded' : null, title: rounded ? 'rounded up, as in Caffe' : null});
            const current = name === state.layer || (!rows.some((row) => row.name === state.layer) && i === rows.length - 1);
            dom.set(node, {class: `${i === net.frontEnd ? 'part' : ''} ${current ? 'current' : ''}`.trim() || null});
            dom.set(button, {'aria-pressed': String(current)});
          });
          const found = rows.findIndex(({name}) => name === state.layer);
          const layer = found < 0 ? rows.length - 1 : found;
          if (key + layer !== visible && !list.contains(document.activeElement))
            list.scrollTop = layer * ROW - list.clientHeight / 2;
          visible = key + layer;
          heading.textContent = `What a cell of ${rows[layer].name} sees`;
          const words = drawProfile(profile, net.table.slice(0, layer + 1), Math.round(profile.parentElement.clientWidth) || 400);
          seen.textContent = words;
          profileFigure.describe(`${heading.textContent}: ${words}`);
          const grid = geometry.withoutUpsampling(net.table);
          const costs = geometry.costs(net.table, now.height, now.width);
          const total = (field) => costs.reduce((sum, cost) => sum + cost[field], 0);
          const field = geometry.largestField(grid);
          const last = [0, 1].map((axis) => sizes[axis].at(-1).cells);
          facts.replaceChildren(...[
            ['Receptive field', field === null ? 'the whole image' : `${number(field)} × ${number(field)} pixels`],
            ['Stride', pixels(geometry.stride(net.table))],
            ['Output', vanishes ? 'none: the input is too small' : `${number(last[0])} × ${number(last[1])}`],
            ['Parameters', number(total('parameters'))],
            ['Operations', vanishes ? '–' : large(total('flops'))],
          ].map(([name, value]) => html('div', {}, html('dt', {}, name), html('dd', {}, value))));
          drawStrip(strip, net, now.height, Math.round(strip.parentElement.clientWidth) || 900);
          means.replaceChildren(...(vanishes ? [] : meanings(net, now.height, now.width)));
          stripFigure.describe(means.textContent || 'The input is too small for this network.');
          const down = net.table.map((each) => ({...each, round_up: false}));
          const floor = [now.height, now.width].map((size) => geometry.sizes(down, size).at(-1).cells);
          const up = net.table.filter((_, i) => sizes[0][i].rounded || sizes[1][i].rounded).map(({name}) => name);
          const valid = [geometry.validSize(net.table), null];
          if (valid[0] !== null) valid[1] = geometry.validSize(net.table, valid[0] + 1);
          rounding.textContent = (up.length
            ? `Caffe’s poolings round up: in ${up.join(', ')} the last window overhangs the end of its map. Rounded down, the output would be ${number(floor[0])} × ${number(floor[1])}. `
            : 'No pooling has to round at this size. ')
            + (valid[1] === null ? '' : `Sizes that lose and clip nothing: ${number(valid[0])}, ${number(valid[1])}, … Convolutions round down, poolings up.`);
        },
      };
    },
  });
}
