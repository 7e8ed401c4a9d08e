'use strict';
// Sizes, receptive fields and costs of tables of layers, as dilated_jax.nn.geometry and .costs derive
// them: for rates that a reader changes and for tables that are pasted. The tests compare the two for
// every network. Positions are counted along one axis; counts of paths are floating-point numbers.

const geometry = (() => {
  const DEFAULTS = {kind: 'conv', kernel: 3, stride: 1, dilation: 1, padding: 0, channels: null, norm: 'none',
    inputs: [], bias: true, round_up: true};
  const KINDS = ['conv', 'max_pool', 'avg_pool', 'adaptive_avg_pool', 'deconv', 'resize', 'crop', 'sum', 'concat'];
  const NORMS = ['none', 'batch', 'group'];
  // Kinds of layers whose cells read the whole map.
  const isGlobal = (layer) => layer.kind === 'adaptive_avg_pool' || layer.kind === 'resize';
  const span = (layer) => layer.dilation * (layer.kernel - 1) + 1;

  function complete(layers) {
    return layers.map((layer) => ({...DEFAULTS, ...layer}));
  }

  // For each row, the indices of the rows that it reads; -1 is the input of the network.
  function inputIndices(table) {
    const indexOf = new Map([['input', -1]]);
    return table.map((layer, index) => {
      const found = layer.inputs.map((name) => indexOf.get(name));
      indexOf.set(layer.name, index);
      return found.length ? found : [index - 1];
    });
  }

  // Receptive fields.

  function jumpsAndCenters(table) {
    const result = new Map([[-1, [1, 0]]]);
    inputIndices(table).forEach((reads, index) => {
      const layer = table[index];
      let [jump, center] = result.get(layer.kind === 'resize' ? reads.at(-1) : reads[0]);
      if (!isGlobal(layer)) {
        const middle = (span(layer) - 1) / 2 - layer.padding;
        if (layer.kind === 'deconv') {
          jump /= layer.stride;
          center -= middle * jump;
        } else {
          center += middle * jump;
          jump *= layer.stride;
        }
      }
      result.set(index, [jump, center]);
    });
    return table.map((_, index) => result.get(index));
  }

  // What a row reads of the rows before it: the first and the last cell, for cells first ... last.
  function reach(layer, first, last) {
    if (layer.kind === 'deconv') {
      return [-Math.floor((layer.kernel - 1 - layer.padding - first) / layer.stride),
        Math.floor((last + layer.padding) / layer.stride)];
    }
    return [first * layer.stride - layer.padding, last * layer.stride - layer.padding + span(layer) - 1];
  }

  // [first, last] input pixel that a cell of the output reads; null if only means of the whole image.
  function window(table, cell = 0, reads = inputIndices(table)) {
    const windows = new Map([[table.length - 1, [cell, cell]]]);
    for (let index = table.length - 1; index >= 0; index--) {
      if (!windows.has(index) || isGlobal(table[index])) continue;
      const [first, last] = reach(table[index], ...windows.get(index));
      windows.delete(index);
      for (const source of reads[index]) {
        const other = windows.get(source) ?? [first, last];
        windows.set(source, [Math.min(first, other[0]), Math.max(last, other[1])]);
      }
    }
    return windows.get(-1) ?? null;
  }

  function largestField(table) {
    const reads = inputIndices(table);
    const phases = new Map([[-1, 1]]);
    table.forEach((layer, index) => phases.set(index,
      (layer.kind === 'deconv' ? layer.stride : 1) * Math.max(...reads[index].map((source) => phases.get(source)))));
    let size = 0;
    for (let cell = 0; cell < phases.get(table.length - 1); cell++) {
      const seen = window(table, cell, reads);
      if (seen === null) return null;
      size = Math.max(size, seen[1] - seen[0] + 1);
    }
    return size;
  }

  // After each layer: {size, jump, center}.
  function receptiveFields(table) {
    const places = jumpsAndCenters(table);
    return table.map((_, index) => ({
      size: largestField(table.slice(0, index + 1)), jump: places[index][0], center: places[index][1],
    }));
  }

  // {first, counts}: ways from each input pixel of the cell's window to it, one tap of every layer each.
  // With `upTo`, those from the cells of that row instead of the input's.
  function pathCounts(table, cell = 0, upTo = -1) {
    const reads = inputIndices(table);
    const found = new Map([[table.length - 1, {first: cell, counts: Float64Array.of(1)}]]);
    for (let index = table.length - 1; index > upTo; index--) {
      if (!found.has(index) || isGlobal(table[index])) continue;
      const counts = countsOfInput(table[index], found.get(index));
      found.delete(index);
      for (const source of reads[index]) {
        found.set(source, found.has(source) ? addCounts(counts, found.get(source)) : counts);
      }
    }
    return found.get(upTo) ?? null;
  }

  function countsOfInput(layer, {first, counts}) {
    const [begin, end] = reach(layer, first, first + counts.length - 1);
    const result = new Float64Array(end - begin + 1);
    counts.forEach((count, i) => {
      for (let tap = 0; tap < layer.kernel; tap++) {
        if (layer.kind === 'deconv') {
          const place = first + i + layer.padding - tap;
          if (place % layer.stride === 0) result[place / layer.stride - begin] += count;
        } else {
          result[(first + i) * layer.stride - layer.padding + tap * layer.dilation - begin] += count;
        }
      }
    });
    return {first: begin, counts: result};
  }

  function addCounts(a, b) {
    const first = Math.min(a.first, b.first);
    const end = Math.max(a.first + a.counts.length, b.first + b.counts.length);
    const counts = new Float64Array(end - first);
    for (const part of [a, b]) part.counts.forEach((count, i) => { counts[part.first - first + i] += count; });
    return {first, counts};
  }

  // How many pixels of a field are read along an axis, and the widest hole.
  function coverage(counts) {
    let read = 0, hole = 0, run = 0;
    for (const count of counts) {
      run = count ? 0 : run + 1;
      read += count > 0;
      hole = Math.max(hole, run);
    }
    return {read, size: counts.length, hole};
  }

  // The grid of the scores.

  function withoutUpsampling(table) {
    let end = table.length;
    while (end && table[end - 1].kind === 'crop') end--;
    return end && table[end - 1].kind === 'deconv' ? table.slice(0, end - 1) : table;
  }

  function stride(table) {
    return jumpsAndCenters(withoutUpsampling(table)).at(-1)?.[0] ?? 1;
  }

  function margin(table) {
    const [jump, center] = jumpsAndCenters(withoutUpsampling(table)).at(-1);
    return Math.max(0, Math.ceil(center - (jump - 1) / 2));
  }

  // Sizes: of each layer {cells, rest, rounded}; rest is what is left over of the input, or clipped;
  // rounded says that a pooling made one more cell of it, as Caffe's do.

  function sizes(table, size) {
    const found = new Map([[-1, size]]);
    return inputIndices(table).map((reads, index) => {
      const layer = table[index];
      let cells = Math.min(...reads.map((source) => found.get(source))), rest = 0, rounded = false;
      if (layer.kind === 'adaptive_avg_pool') cells = layer.kernel;
      else if (layer.kind === 'resize') cells = found.get(reads.at(-1));
      else if (layer.kind === 'deconv') cells = (cells - 1) * layer.stride + layer.kernel - 2 * layer.padding;
      else {
        const free = cells + 2 * layer.padding - span(layer), steps = Math.floor(free / layer.stride);
        rest = free - steps * layer.stride;
        cells = steps + 1;
        if (layer.kind === 'crop') cells -= layer.padding;
        else if (rest && layer.kind.endsWith('pool') && layer.round_up) {
          rounded = steps * layer.stride + layer.stride < found.get(reads[0]) + layer.padding;
          cells += rounded;
        }
      }
      found.set(index, cells);
      return {cells, rest, rounded};
    });
  }

  // The smallest size from `least` on at which every layer uses its whole input; null if there is none,
  // which strides of parallel branches can bring about.
  function validSize(table, least = 1) {
    const grid = withoutUpsampling(table);
    for (let size = least; size < least + 20_000; size++)
      if (sizes(grid, size).every(({cells, rest}) => cells > 0 && !rest)) return size;
    return null;
  }

  // Costs.

  function channelCounts(table, channels = 3) {
    const result = [channels];
    inputIndices(table).forEach((reads, index) => {
      const given = reads.map((source) => result[source + 1]);
      const total = table[index].kind === 'concat' ? given.reduce((a, b) => a + b) : given[0];
      result.push(table[index].channels || total);
    });
    return result;
  }

  // Of each layer, {parameters, flops}: a multiply-add counts as 2.
  function costs(table, height, width, channels = 3) {
    const counts = channelCounts(table, channels), reads = inputIndices(table);
    const [rows, columns] = [sizes(table, height), sizes(table, width)];
    return table.map((layer, index) => {
      if (layer.kind !== 'conv') return {parameters: 0, flops: 0};
      const [inputs, outputs] = [counts[reads[index][0] + 1], counts[index + 1]];
      const taps = layer.kernel ** 2 * inputs;
      return {
        parameters: (taps + (layer.bias ? 1 : 0) + (layer.norm === 'none' ? 0 : 2)) * outputs,
        flops: 2 * rows[index].cells * columns[index].cells * taps * outputs,
      };
    });
  }

  // Why a table cannot be drawn, in a moment and in numbers that a float holds; null if it can.
  function tooLarge(table) {
    if (!withoutUpsampling(table).length) return 'There is nothing before the deconv; give the layers whose output it enlarges';
    const jumps = jumpsAndCenters(table).map(([jump]) => jump);
    const apart = Math.max(...jumps), parts = 1 / Math.min(...jumps);
    if (!(apart <= 100_000)) return `Cells that lie ${apart} pixels apart; up to 100000 can be drawn`;
    if (!(parts * table.length <= 1000)) return `Deconvs make ${Math.round(parts)} cells of a pixel; with ${table.length} layers up to ${Math.floor(1000 / table.length)} can be drawn`;
    const size = largestField(table);
    if (size > 100_000) return `A receptive field of ${size} pixels; up to 100000 can be drawn`;
    const taps = table.reduce((sum, layer) => sum + layer.kernel, 0);
    if (size * taps > 3e8) return `A receptive field of ${size} pixels and kernels of ${taps} taps together are too many to draw`;
    const found = size && pathCounts(table);
    if (found && !Number.isFinite(found.counts.reduce((sum, count) => sum + count, 0)))
      return 'More paths lead from the input to a cell than a number can hold; give fewer layers';
    return null;
  }

  // Checks a table that somebody wrote, {table} or {error: one line}.
  function parse(text) {
    const fail = (error) => ({error});
    let rows;
    try { rows = JSON.parse(text); } catch (error) { return fail(`This is not JSON: ${error.message}`); }
    if (!Array.isArray(rows)) rows = rows?.layers ?? rows?.table;
    if (!Array.isArray(rows) || !rows.length) return fail('Give a list of layers: [{"kernel": 3, "dilation": 2}, …]');
    if (rows.length > 1000) return fail(`${rows.length} layers are too many; up to 1000 can be drawn`);
    const names = new Set(['input']), table = [];
    for (const [i, row] of rows.entries()) {
      if (typeof row !== 'object' || row === null || Array.isArray(row)) return fail(`Layer ${i + 1} is no object {…}`);
      const layer = {...DEFAULTS, name: `layer ${i + 1}`};
      for (const key of [...Object.keys(DEFAULTS), 'name']) if (row[key] !== undefined) layer[key] = row[key];
      const at = `Layer ${i + 1} (${layer.name})`;
      if (typeof layer.name !== 'string' || layer.name.length > 60) return fail(`Layer ${i + 1}: its name is no text of up to 60 letters`);
      if (names.has(layer.name)) return fail(`${at}: this name is there twice`);
      if (!KINDS.includes(layer.kind)) return fail(`${at}: kind is ${JSON.stringify(layer.kind)}; choose ${KINDS.join(', ')}`);
      if (row.kernel === undefined && ['sum', 'concat', 'crop', 'resize'].includes(layer.kind)) layer.kernel = 1;
      for (const key of ['kernel', 'stride', 'dilation'])
        if (!Number.isInteger(layer[key]) || layer[key] < 1 || layer[key] > 10_000)
          return fail(`${at}: ${key} is ${JSON.stringify(layer[key])}; give a whole number of 1 or more`);
      if (!Number.isInteger(layer.padding) || Math.abs(layer.padding) > 10_000)
        return fail(`${at}: padding is ${JSON.stringify(layer.padding)}; give a whole number`);
      if (layer.padding < 0 && layer.kind !== 'crop') return fail(`${at}: padding is ${layer.padding}; only a crop has less than 0`);
      if (layer.channels !== null && !(Number.isInteger(layer.channels) && layer.channels > 0 && layer.channels <= 1e6))
        return fail(`${at}: channels is ${JSON.stringify(layer.channels)}; give a whole number of 1 to 1000000`);
      if (!NORMS.includes(layer.norm)) return fail(`${at}: norm is ${JSON.stringify(layer.norm)}; choose ${NORMS.join(', ')}`);
      for (const key of ['bias', 'round_up'])
        if (typeof layer[key] !== 'boolean') return fail(`${at}: ${key} is ${JSON.stringify(layer[key])}; give true or false`);
      if (!Array.isArray(layer.inputs)) return fail(`${at}: inputs is no list of names`);
      for (const name of layer.inputs)
        if (!names.has(name)) return fail(`${at}: there is no layer ${JSON.stringify(name)} before it`);
      if (layer.kind === 'resize' && layer.inputs.length < 2) return fail(`${at}: a resize names two inputs: what, and as large as which`);
      names.add(layer.name);
      table.push(layer);
    }
    const counts = channelCounts(table), reads = inputIndices(table);
    for (const [i, layer] of table.entries()) {
      const given = [...new Set(reads[i].map((source) => counts[source + 1]))];
      if (layer.kind === 'sum' && given.length > 1)
        return fail(`Layer ${i + 1} (${layer.name}): a sum of ${given.join(' and ')} channels; they must be equal`);
    }
    const error = tooLarge(table);
    return error ? fail(error) : {table};
  }

  return {complete, inputIndices, jumpsAndCenters, window, receptiveFields, largestField, pathCounts, coverage,
    withoutUpsampling, stride, margin, sizes, validSize, channelCounts, costs, parse, span, KINDS};
})();
