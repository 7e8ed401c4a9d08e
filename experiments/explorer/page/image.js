'use strict';
// What a logit of a trained network depends on in a photograph: its theoretical field, and how much
// each part of it counts. Python has measured the derivatives; paths are counted here.
{
  const {html, svg, number} = dom;

  views.add({
    name: 'image',
    title: 'On an image',
    lead: 'The receptive field says which pixels may change an answer. Which ones do, and by how much, a trained network '
      + 'tells by its derivatives: that is its effective field, and it is far smaller.',
    defaults: {point: -1, show: 'measured'},
    create(root, store) {
      const given = data('image');
      if (!given) {
        root.append(html('p', {}, 'This page was made without a photograph.'));
        return {update() {}};
      }
      const {width, height, block, points, networks} = given;
      const mark = Math.max(width, height) / 320;  // Marks are of one size, however large the photograph is.
      const perRow = points.filter(([row]) => row === points[0][0]).length;
      let sprites = null, now = null;  // `now` is the state as it is drawn.
      const show = controls.choice({label: 'Show', choices: [['measured', 'derivatives, measured'], ['paths', 'paths, counted'], ['none', 'the field alone']],
        onchange: (value) => store.set({show: value})});
      const panels = networks.map((network, i) => panel(network, i));
      root.append(
        html('div', {class: 'controls'}, show.node,
          html('p', {class: 'note hint'}, 'Point at the photograph, or use the arrow keys.')),
        html('div', {class: networks.length > 1 ? 'pair' : 'single'}, panels.map(({node}) => node)),
        html('p', {class: 'text'}, 'A pixel is bright if the logit at the cross depends on it: by the absolute derivative, '
          + 'summed over its colors, as its square root. Paths are all ways through the taps of the layers: what a network '
          + 'with random weights depends on, on average. The frame is the receptive field, where it ends inside the photograph.'),
        html('p', {class: 'note text'}, `${given.title}. ${given.credit}. `, given.provenance ? given.provenance : ''),
        html('p', {class: 'note text'}, 'Effective fields: W. Luo, Y. Li, R. Urtasun and R. Zemel, “Understanding the Effective '
          + 'Receptive Field in Deep Convolutional Neural Networks”, NeurIPS 2016.'));

      // The maps come as gray images, one below the other.
      Promise.all(networks.map(async ({maps, map_size: [rows, columns]}) => {
        const image = new Image();
        image.src = maps;
        await image.decode();
        const context = html('canvas', {width: columns, height: rows * points.length}).getContext('2d', {willReadFrequently: true});
        context.drawImage(image, 0, 0);
        return points.map((_, i) => {
          const values = context.getImageData(0, i * rows, columns, rows).data;
          return {rows, columns, share: (at) => values[4 * at] / 255};
        });
      })).then((found) => { sprites = found; store.set({}, false); });

      function panel(network, index) {
        const title = networks.length === 1 ? 'The network' : network.context ? 'With context' : 'Without context: the front end';
        const drawing = svg('svg', {viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: 'application',
          'aria-roledescription': 'photograph', class: 'photo'});
        const heat = svg('image', {width, height, preserveAspectRatio: 'none', class: 'glow'});
        const frame = svg('rect', {class: 'frame'}), cross = svg('path', {class: 'cross'});
        const clip = dom.id('clip');
        drawing.append(
          svg('defs', {}, svg('clipPath', {id: clip}, svg('rect', {width, height}))),
          svg('image', {href: given.photo, width, height}),
          svg('rect', {width, height, class: 'dim'}),
          svg('g', {'clip-path': `url(#${clip})`}, heat, frame),
          svg('g', {}, points.map(([row, column]) => svg('circle', {class: 'place', cx: column, cy: row, r: 1.6 * mark}))), cross);
        const follow = (event) => {
          const box = drawing.getBoundingClientRect();
          const x = (event.clientX - box.left) * width / box.width, y = (event.clientY - box.top) * height / box.height;
          const distances = points.map(([row, column]) => Math.hypot(row - y, column - x));
          const nearest = distances.indexOf(Math.min(...distances));
          if (nearest !== now.point) store.set({point: nearest}, false);
        };
        drawing.addEventListener('pointermove', follow);
        drawing.addEventListener('pointerdown', follow);  // A finger that taps does not move.
        drawing.addEventListener('keydown', (event) => {
          const {point} = now, column = point % perRow;
          const next = {ArrowLeft: column ? point - 1 : point, ArrowRight: column < perRow - 1 ? point + 1 : point,
            ArrowUp: point - perRow, ArrowDown: point + perRow}[event.key];
          if (next === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
          event.preventDefault();
          if (!points[next]) return;
          now = {...now, point: next};  // A second key may come before this one is drawn.
          store.set({point: next}, false);
        });
        const figure = figures.figure({drawing, name: `field-${network.context ? 'with' : 'without'}-context`, title});
        const facts = html('dl', {class: 'facts facts-row'});
        const table = geometry.complete(network.table);
        return {node: html('div', {}, figure.node, facts), index, network, table, heat, frame, cross, facts, figure, title};
      }

      // Shares of the strongest, by pixel of a coarse map, as a picture that glows.
      function glow(rows, columns, share) {
        const canvas = html('canvas', {width: columns, height: rows});
        const context = canvas.getContext('2d');
        const image = context.createImageData(columns, rows);
        for (let i = 0; i < rows * columns; i++) {
          const value = share(i);
          image.data.set([255, 140 + 115 * value ** 1.5, 40 + 190 * value ** 4, 255 * Math.min(1, 1.15 * value)], 4 * i);
        }
        context.putImageData(image, 0, 0);
        return canvas.toDataURL();
      }

      function draw({table, network, index, heat, frame, cross, facts, figure, title}, {point, show}) {
        const [row, column] = points[point];
        const margin = geometry.margin(table);
        const [jump, center] = geometry.jumpsAndCenters(table).at(-1);
        const cellOf = (place) => Math.round((place + margin - center) / jump);
        const windows = [row, column].map((place) => geometry.window(table, cellOf(place)).map((pixel) => pixel - margin));
        const [[top, bottom], [left, right]] = windows;
        dom.set(frame, {x: left, y: top, width: right - left + 1, height: bottom - top + 1});
        const [arm, gap] = [5 * mark, 2 * mark];
        cross.setAttribute('d', `M${column - gap - arm},${row}h${arm}M${column + gap},${row}h${arm}`
          + `M${column},${row - gap - arm}v${arm}M${column},${row + gap}v${arm}`);
        const found = network.found[point];
        if (show === 'measured' && sprites) {
          const {rows, columns, share} = sprites[index][point];
          dom.set(heat, {href: glow(rows, columns, share), width: columns * block, height: rows * block});
        } else if (show === 'paths') {
          const across = geometry.pathCounts(table, cellOf(column)).counts, down = geometry.pathCounts(table, cellOf(row)).counts;
          const most = Math.max(...across) * Math.max(...down);
          const at = (pixel, counts, first) => counts[pixel - first] ?? 0;
          dom.set(heat, {width, height, href: glow(height, width, (i) =>
            Math.sqrt(at(Math.floor(i / width), down, top) * at(i % width, across, left) / most))});
        } else {
          dom.set(heat, {href: null});
        }
        const size = right - left + 1;
        facts.replaceChildren(...[
          ['Receptive field', `${number(size)} × ${number(size)} pixels`],
          ['Half of the derivative', `inside ${found.half} × ${found.half}`],
          ['Answer', found.label],
        ].map(([name, value]) => html('div', {}, html('dt', {}, name), html('dd', {}, value))));
        figure.describe(`${title}. At point ${point + 1} of ${points.length} the network says ${found.label}. Its receptive field is ${size} `
          + `pixels on a side; half of the derivative lies inside ${found.half} pixels. Arrow keys go to other points.`);
      }

      return {
        update(state) {
          now = {
            point: points[state.point] ? state.point : Math.floor(points.length / 2),
            show: ['measured', 'paths', 'none'].includes(state.show) ? state.show : 'measured',
          };
          show.set(now.show);
          panels.forEach((each) => draw(each, now));
        },
      };
    },
  });
}
