'use strict';
// How fast receptive fields grow with depth, and the same along time, with WaveNet's queues.
{
  const {html, svg, number} = dom;
  const DEEPEST = 10;
  const POWERS = Array.from({length: DEEPEST}, (_, i) => 2 ** i);

  // The kinds of stacks that are compared: rates and poolings of layer i, and the formula.
  const KINDS = [
    {
      key: 'plain', name: 'Rate 1', hue: 'soft',
      table: (n, k) => chain(k, Array(n).fill(1)),
      formula: (n, k) => ['1 + n (k − 1)', `1 + ${n} · ${k - 1}`],
    },
    {
      key: 'pooled', name: 'Pooling by 2 between layers', hue: 'pooled',
      table: (n, k) => chain(k, Array(n).fill(1), 2),
      formula: (n, k) => ['1 + (k − 1)(2ⁿ − 1) + 2ⁿ⁻¹ − 1', `1 + ${k - 1} · ${2 ** n - 1} + ${2 ** (n - 1) - 1}`],
    },
    {
      key: 'doubled', name: 'Rates doubled', hue: 'dilated',
      table: (n, k) => chain(k, POWERS.slice(0, n)),
      formula: (n, k) => ['1 + (k − 1)(2ⁿ − 1)', `1 + ${k - 1} · ${2 ** n - 1}`],
    },
    {
      key: 'own', name: 'Your rates', hue: 'output',
      table: (n, k, rates) => chain(k, rates.slice(0, n)),
      formula: (n, k, rates) => ['1 + (k − 1)(r₁ + … + rₙ)', `1 + ${k - 1} · (${rates.slice(0, n).join(' + ')})`],
    },
  ];

  function chain(kernel, rates, pool = 1) {
    return geometry.complete(rates.flatMap((dilation, i) => [
      ...(i && pool > 1 ? [{name: `pool ${i}`, kind: 'max_pool', kernel: pool, stride: pool}] : []),
      {name: `layer ${i + 1}`, kernel, dilation},
    ]));
  }

  function parseRates(text) {
    const rates = text.split(/[\s,]+/).map(Number).filter((rate) => Number.isInteger(rate) && rate >= 1 && rate <= 512);
    return rates.length ? rates.slice(0, DEEPEST) : [1];
  }

  const clamp = (value, low, high) => Math.min(high, Math.max(low, Math.round(value) || low));

  // The chart: receptive field against layers, drawn up to `depth`, which moves while it plays.

  function drawChart(drawing, fields, depth, {scale, layers}, width) {
    const height = Math.min(440, Math.max(260, width * 0.62));
    const left = 52, right = width - (width < 480 ? 14 : 150), top = 14, bottom = height - 38;
    const most = Math.max(...fields.map(({sizes}) => sizes[Math.min(layers, sizes.length - 1)]), 4);
    const x = (n) => left + (right - left) * n / layers;
    const y = (size) => (scale === 'log'
      ? bottom - (bottom - top) * Math.log2(size) / Math.log2(most)
      : bottom - (bottom - top) * (size - 1) / (most - 1));
    const ticks = scale === 'log'
      ? Array.from({length: Math.floor(Math.log2(most)) + 1}, (_, i) => 2 ** i).filter((_, i, all) => all.length < 9 || i % 2 === 0)
      : nice(most);
    const content = [
      ...ticks.map((value) => svg('g', {},
        svg('line', {class: 'rule', x1: left, x2: right, y1: y(value), y2: y(value)}),
        svg('text', {class: 'tick', x: left - 8, y: y(value) + 4, 'text-anchor': 'end'}, number(value)))),
      ...Array.from({length: layers + 1}, (_, n) =>
        svg('text', {class: 'tick', x: x(n), y: bottom + 18, 'text-anchor': 'middle'}, n)),
      svg('text', {class: 'tick', x: (left + right) / 2, y: height - 4, 'text-anchor': 'middle'}, 'layers'),
    ];
    const ends = [];
    for (const {kind, sizes} of fields) {
      const reached = Math.min(depth, sizes.length - 1);
      const whole = Math.floor(reached), part = reached - whole;
      const points = sizes.slice(0, whole + 1).map((size, n) => [x(n), y(size)]);
      if (part > 0) {
        const [a, b] = [sizes[whole], sizes[whole + 1]];
        const size = scale === 'log' ? a * (b / a) ** part : a + (b - a) * part;
        points.push([x(reached), y(size)]);
      }
      content.push(svg('path', {class: `curve curve-${kind.hue}`, d: `M${points.map((point) => point.map((v) => v.toFixed(1)).join(',')).join('L')}`}));
      sizes.slice(0, whole + 1).forEach((size, n) => content.push(svg('circle', {class: `dot dot-${kind.hue}`, cx: x(n), cy: y(size), r: 3.2})));
      ends.push({kind, size: sizes[Math.round(reached)], y: points.at(-1)[1], x: points.at(-1)[0]});
    }
    if (width >= 480) {
      ends.sort((a, b) => a.y - b.y);
      ends.forEach((end, i) => { end.text = Math.max(end.y, i ? ends[i - 1].text + 17 : 0); });
      for (let i = ends.length - 1, limit = bottom; i >= 0; i--, limit = ends[i + 1].text - 17)
        ends[i].text = Math.min(ends[i].text, limit);
      content.push(...ends.map((end) => svg('text', {class: `label label-${end.kind.hue}`, x: Math.max(end.x + 9, left + 30), y: end.text + 4},
        `${number(end.size)}  ${end.kind.name.replace(' by 2 between layers', '')}`)));
    }
    dom.set(drawing, {viewBox: `0 0 ${width} ${height}`});
    drawing.replaceChildren(...content);
  }

  function nice(most) {
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000].find((each) => most / each <= 5) ?? 50000;
    return Array.from({length: Math.floor(most / step) + 1}, (_, i) => i * step || 1);
  }

  // The same as squares of input pixels.
  function drawSquares(drawing, fields, depth, width) {
    const gap = 14, count = fields.length, side = (width - gap * (count - 1)) / count;
    const n = Math.round(depth);
    const most = Math.max(...fields.map(({sizes}) => sizes[Math.min(n, sizes.length - 1)]), 3);
    const unit = side / most, height = side + 26;
    dom.set(drawing, {viewBox: `0 0 ${width} ${height}`});
    drawing.replaceChildren(...fields.flatMap(({kind, sizes}, i) => {
      const middle = i * (side + gap) + side / 2;
      const shown = sizes.slice(1, n + 1).reverse();
      return [
        ...shown.map((size) => svg('rect', {class: `nested nested-${kind.hue}`, x: middle - size * unit / 2,
          y: side / 2 - size * unit / 2, width: size * unit, height: size * unit})),
        svg('text', {x: middle, y: height - 5, 'text-anchor': 'middle', class: `label label-${kind.hue}`},
          `${number(sizes[Math.min(n, sizes.length - 1)])}²`),
      ];
    }));
  }

  // Along time: samples arrive at the right, each layer reads its newest input and older ones. `late` is
  // how much of its way the newest one still has to go.

  function drawQueues(drawing, {steps, time, kernel, queues}, width, late = 0) {
    const rates = POWERS.slice(0, steps);
    const field = 1 + (kernel - 1) * (2 ** steps - 1);
    const labels = Math.min(92, width * 0.22);
    const columns = Math.max(field + 3, 12), unit = (width - labels - 4) / columns;
    const rowHeight = 50, radius = Math.min(11, unit * 0.38);
    const height = rowHeight * steps + 58;
    const y = (row) => height - 42 - row * rowHeight;
    // The newest sample stands at the right, older ones move to the left.
    const x = (age) => labels + (columns - 0.5 - age + late) * unit;
    const lines = [], nodes = [], texts = [];
    // What is computed for this sample: with queues the newest column, without them the whole tree.
    const fresh = Array.from({length: steps + 1}, () => new Set());
    const read = Array.from({length: steps + 1}, () => new Set());
    fresh[steps].add(0);
    for (let row = steps; row > 0; row--) {
      for (const age of fresh[row]) {
        for (let tap = 0; tap < kernel; tap++) {
          const source = age + tap * rates[row - 1];
          if (queues && source > 0) read[row - 1].add(source);
          else fresh[row - 1].add(source);
          lines.push({from: [x(source), y(row - 1)], to: [x(age), y(row)], fresh: !queues || source === 0});
        }
      }
    }
    for (let row = 0; row <= steps; row++) {
      const kept = row < steps ? (kernel - 1) * rates[row] : 0;
      if (queues && kept) {
        nodes.push(svg('rect', {class: 'queue', x: x(kept) - unit / 2 + 1, y: y(row) - radius - 5,
          width: kept * unit - 2, height: 2 * radius + 10, rx: 6}));
      }
      for (let age = 0; age < columns; age++) {
        if (time - age < 0) break;
        const kind = fresh[row].has(age) ? 'fresh' : read[row].has(age) ? 'read' : queues && age <= kept && kept ? 'kept' : 'old';
        if (x(age) < labels + radius) break;
        nodes.push(svg('circle', {class: `node ${kind}`, cx: x(age), cy: y(row), r: radius}));
        if (row === 0 && (radius > 9 || (time - age) % 5 === 0))
          nodes.push(svg('text', {class: `index ${radius > 9 ? `on-${kind}` : ''}`, x: x(age), y: radius > 9 ? y(0) + 3.5 : y(0) + radius + 13,
            'text-anchor': 'middle'}, time - age));
      }
      texts.push(svg('text', {x: 0, y: y(row) + 4}, row ? `Rate ${rates[row - 1]}` : 'Samples'));
    }
    if (time >= field - 1) {
      const [start, end] = [x(field - 1) - unit / 2, x(0) + unit / 2];
      texts.push(svg('path', {class: 'bracket', d: `M${start + 2},${height - 18}v4H${end - 2}v-4`}));
      if ((end - start) > 200) texts.push(svg('text', {class: 'tick', x: (start + end) / 2 - 20, y: height - 3, 'text-anchor': 'middle'}, `${field} samples`));
    }
    dom.set(drawing, {viewBox: `0 0 ${width} ${height}`});
    const clip = dom.id('clip');
    drawing.replaceChildren(
      svg('defs', {}, svg('clipPath', {id: clip}, svg('rect', {x: labels - 8, width: width - labels + 8, height}))),
      svg('g', {'clip-path': `url(#${clip})`}, svg('g', {}, lines.map(({from, to, fresh}) => svg('line', {class: fresh ? 'step' : 'step from-queue',
        x1: from[0], y1: from[1], x2: to[0], y2: to[1]}))), svg('g', {}, nodes)),
      svg('g', {}, texts));
    const whole = fresh.slice(1).reduce((sum, set) => sum + set.size, 0);
    return {whole, field, kept: rates.reduce((sum, rate) => sum + (kernel - 1) * rate, 0)};
  }

  views.add({
    name: 'growth',
    title: 'Growth',
    lead: 'Each plain layer adds the same few pixels: the view grows linearly. If each layer’s rate is twice the last, '
      + 'each layer adds twice as many: the view grows exponentially, for the same number of weights.',
    defaults: {kernel: 3, layers: 6, scale: 'linear', rates: '1,2,5,1,2,5', steps: 4, taps: 2, time: 20, queues: true,
      block: 10, repeat: 1, first: 1},
    create(root, store) {
      let depth = null;  // Where the animation is; null when it stands still.
      const kernel = controls.choice({label: 'Kernel', choices: [2, 3, 5, 7].map((k) => [k, `${k}×${k}`]),
        onchange: (value) => store.set({kernel: value})});
      const layers = controls.slider({label: 'Layers', min: 1, max: DEEPEST, onchange: (value, final) => { depth = null; store.set({layers: value}, final); }});
      const scale = controls.choice({label: 'Axis', choices: [['linear', 'linear'], ['log', 'logarithmic']],
        onchange: (value) => store.set({scale: value})});
      const id = dom.id('rates');
      const rates = html('input', {id, type: 'text', inputmode: 'numeric', autocomplete: 'off', spellcheck: 'false',
        oninput: () => store.set({rates: rates.value}, false), onchange: () => store.set({rates: parseRates(rates.value).join(',')})});
      const play = controls.player({label: 'Grow', tick(seconds) {
        depth = (depth ?? 0) + seconds * 1.6;
        if (depth >= store.state.layers) { depth = null; draw(); return false; }
        draw();
      }});
      play.node.addEventListener('click', () => { if (play.playing && depth === null) depth = 0; });
      const chart = svg('svg', {class: 'chart'}), squares = svg('svg', {class: 'chart'});
      const chartFigure = figures.figure({drawing: chart, name: 'growth', title: 'Receptive field, in pixels along an axis'});
      const squaresFigure = figures.figure({drawing: squares, name: 'growth-squares', title: 'The same as squares of pixels',
        caption: 'One square for each layer, all to one scale.'});
      const formulas = html('table', {class: 'formulas'});
      const remark = html('p', {class: 'text', role: 'status'});

      const steps = controls.slider({label: 'Layers', min: 1, max: 5, onchange: (value, final) => store.set({steps: value}, final)});
      const taps = controls.choice({label: 'Kernel', choices: [[2, '2'], [3, '3']], onchange: (value) => store.set({taps: value})});
      const time = controls.slider({label: 'Time', min: 0, max: 63, format: (t) => `sample ${t}`, onchange: (value, final) => store.set({time: value}, final)});
      const queues = controls.checkbox({label: 'Keep queues', onchange: (value) => store.set({queues: value})});
      let clock = 0, late = 0;
      const still = matchMedia('(prefers-reduced-motion: reduce)');
      const run = controls.player({label: 'Run', tick(seconds) {
        clock += seconds;
        late = still.matches ? 0 : Math.max(0, 1 - clock / 0.35) ** 2;
        if (clock < 0.8) return drawTime();
        clock = 0;
        late = still.matches ? 0 : 1;
        store.set({time: (clamp(store.state.time, 0, 63) + 1) % 64}, false);
      }});
      const step = controls.button('Next sample', () => store.set({time: (clamp(store.state.time, 0, 63) + 1) % 64}));
      const queueDrawing = svg('svg', {class: 'chart'});
      const queueFigure = figures.figure({drawing: queueDrawing, name: 'queues', title: 'A causal stack at work'});
      const told = html('p', {class: 'text'});

      const block = controls.stepper({label: 'Layers in a block', min: 1, max: 16, onchange: (value) => store.set({block: value})});
      const repeat = controls.stepper({label: 'Blocks', min: 1, max: 10, onchange: (value) => store.set({repeat: value})});
      const first = controls.stepper({label: 'Width of a layer before them', min: 1, max: 32, onchange: (value) => store.set({first: value})});
      const answer = html('p', {class: 'answer', role: 'status'});

      root.append(
        html('div', {class: 'controls'}, kernel.node, layers.node, scale.node,
          html('div', {class: 'control'}, html('label', {for: id}, 'Your rates'), rates), play.node),
        html('div', {class: 'growth'}, chartFigure.node, html('div', {}, html('div', {class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'Formulas'}, formulas), squaresFigure.node)),
        remark,
        html('h2', {}, 'Along time: WaveNet and its queues'),
        html('p', {class: 'text'}, 'A causal layer reads the present and the past, never the future: kernels of 2 at rates 1, 2, 4, … '
          + 'To make sound, sample follows sample, and most of what a sample needs was computed for earlier ones. A queue in '
          + 'front of each layer keeps it: as long as the layer’s rate, the newest value in at one end, the one that is due '
          + 'out at the other.'),
        html('div', {class: 'controls'}, steps.node, taps.node, time.node, queues.node, html('span', {class: 'joined'}, step, run.node)),
        queueFigure.node, told,
        html('h2', {}, '1024 or 1025?'),
        html('p', {class: 'text'}, 'Kernels of 2 at the rates 1, 2, 4, …, 512 see 1 + (1 + 2 + … + 512) = 1024 samples: the present one '
          + 'and 1023 before it. Programs that put one more causal layer of width 2 in front of the block see a sample more, 1025. '
          + 'Both numbers are right, each for its network. Blocks in a row add 1023 each, so three see 3070, not 3072.'),
        html('div', {class: 'controls'}, block.node, repeat.node, first.node), answer);

      function draw() {
        const {state} = store;
        const width = Math.round(chart.parentElement.clientWidth) || 640;
        const k = state.kernel, own = parseRates(state.rates);
        const fields = KINDS.map((kind) => ({kind, sizes: [1, ...Array.from(
          {length: kind.key === 'own' ? Math.min(state.layers, own.length) : state.layers},
          (_, i) => geometry.largestField(kind.table(i + 1, k, own)))]}));
        const now = depth ?? state.layers;
        drawChart(chart, fields, now, state, width);
        drawSquares(squares, fields, now, Math.round(squares.parentElement.clientWidth) || 400);
        const n = Math.max(1, Math.round(now));
        formulas.replaceChildren(
          html('thead', {}, html('tr', {}, ['rates', `n = ${n}, k = ${k}`, 'sees'].map((text) => html('th', {scope: 'col'}, text)))),
          html('tbody', {}, fields.map(({kind, sizes}) => {
            const count = Math.min(n, sizes.length - 1);
            const [general, filled] = kind.formula(count, k, own);
            return html('tr', {}, html('th', {scope: 'row', class: `label-${kind.hue}`}, kind.name),
              html('td', {}, html('span', {class: 'general'}, general), html('span', {}, `= ${filled}`)),
              html('td', {}, html('strong', {}, number(sizes[count]))));
          })));
        const doubled = fields[2].sizes[Math.min(n, fields[2].sizes.length - 1)];
        const table = KINDS[3].table(n, k, own);
        const {read, size} = geometry.coverage(geometry.pathCounts(table).counts);
        const odd = k === 2 ? ' (kernels of 2 have no center: a network with them is causal)' : '';
        remark.textContent = `${n} layers with doubled rates see ${number(doubled)} pixels; at rate 1 that takes `
          + `${number((doubled - 1) / (k - 1))} layers${odd}. Pooling sees as far, but answers for one of ${number(4 ** (n - 1))} pixels. `
          + (read < size ? `Your rates leave holes: of ${number(size)} pixels along an axis ${number(read)} are read.`
            : `Your rates leave no holes: all ${number(size)} pixels along an axis are read.`);
        chartFigure.describe(`Receptive field after ${n} layers with kernels of ${k}: ${fields.map(({kind, sizes}) =>
          `${kind.name} ${sizes[Math.min(n, sizes.length - 1)]}`).join(', ')}.`);
        squaresFigure.describe('The receptive fields as nested squares, one for each layer, to one scale.');
      }

      const drawTime = () => drawQueues(queueDrawing, {...store.state, kernel: store.state.taps},
        Math.round(queueDrawing.parentElement.clientWidth) || 1000, late);

      return {
        hide() { play.pause(); run.pause(); depth = null; },
        update(state) {
          Object.assign(state, {
            kernel: [2, 3, 5, 7].includes(state.kernel) ? state.kernel : 3,
            layers: clamp(state.layers, 1, DEEPEST), scale: state.scale === 'log' ? 'log' : 'linear',
            steps: clamp(state.steps, 1, 5), taps: state.taps === 3 ? 3 : 2, time: clamp(state.time, 0, 63),
            block: clamp(state.block, 1, 16), repeat: clamp(state.repeat, 1, 10), first: clamp(state.first, 1, 32),
          });
          // Kernels of 3 see so far that five layers no longer fit.
          if (state.taps === 3) state.steps = Math.min(state.steps, 4);
          kernel.set(state.kernel);
          layers.set(state.layers);
          scale.set(state.scale);
          if (document.activeElement !== rates) rates.value = state.rates;
          draw();
          steps.set(state.steps, {max: state.taps === 3 ? 4 : 5});
          taps.set(state.taps);
          time.set(state.time);
          queues.set(state.queues);
          if (!run.playing) late = 0;
          const {whole, field, kept} = drawTime();
          const cheap = state.steps, dear = drawn(state);
          told.textContent = state.queues
            ? `With queues a sample takes ${cheap} ${cheap === 1 ? 'value' : 'values'}, one a layer, and ${kept} are kept. Without, it takes ${dear}.`
            : `Without queues a sample takes ${whole} values, almost all of them computed before. With queues it takes ${cheap}, one a layer.`;
          queueFigure.describe(`A causal stack of ${state.steps} layers with kernels of ${state.taps} at sample ${state.time}. `
            + `Its newest output sees ${field} samples. ${told.textContent}`);
          block.set(state.block);
          repeat.set(state.repeat);
          first.set(state.first);
          const once = 2 ** state.block - 1;
          answer.replaceChildren(`1 + ${state.repeat} · ${number(once)}${state.first > 1 ? ` + ${state.first - 1}` : ''} = `,
            html('strong', {}, number(1 + state.repeat * once + state.first - 1)), ' samples');
        },
      };

      // Values that the tree of one output has, without what is shared between outputs.
      function drawn({steps, taps}) {
        let ages = new Set([0]), count = 0;
        for (let row = steps; row > 0; row--) {
          count += ages.size;
          const next = new Set();
          for (const age of ages) for (let tap = 0; tap < taps; tap++) next.add(age + tap * POWERS[row - 1]);
          ages = next;
        }
        return count;
      }
    },
  });
}
