// Runs a network that is stated by a table of layers, as dilated_jax/nn/stack.py does, in plain
// JavaScript. A map is {height, width, channels, data}: a Float64Array of rows, columns, channels.
// (V8 multiplies doubles faster than floats, which it converts, and sums in them are exact enough.)
//
// Everything is inside one function, because a worker is made from its text (`live.js`).
'use strict';

function createEngine() {
  const map = (height, width, channels) =>
    ({height, width, channels, data: new Float64Array(height * width * channels)});

  // Four output channels of one tap and input channel lie together: that order is read in `conv`.
  function packed(kernel, scales, inputs, outputs) {
    const result = new Float64Array(4 * Math.ceil(outputs / 4) * inputs);
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++)
        result[((o >> 2) * inputs + i) * 4 + (o & 3)] = kernel[i * outputs + o] * scales[o];
    }
    return result;
  }

  function padded(x, before, after, value) {
    if (!before && !after[0] && !after[1]) return x;
    const result = map(x.height + before + after[0], x.width + before + after[1], x.channels);
    if (value) result.data.fill(value);
    const row = x.width * x.channels;
    for (let r = 0; r < x.height; r++) {
      const to = ((r + before) * result.width + before) * x.channels;
      result.data.set(x.data.subarray(r * row, (r + 1) * row), to);
    }
    return result;
  }

  // Correlation: the output at p reads the input at stride p + dilation t, as in Caffe and JAX.
  function conv(x, layer) {
    const {kernel, stride, dilation, padding, channels} = layer;
    x = padded(x, padding, [padding, padding], 0);
    const span = dilation * (kernel - 1), inputs = x.channels, step = stride * inputs;
    const height = Math.floor((x.height - span - 1) / stride) + 1;
    const width = Math.floor((x.width - span - 1) / stride) + 1;
    const groups = Math.ceil(channels / 4);
    // Two cells and four channels are computed at a time.
    const y = map(height, width, channels);
    const input = x.data, weights = layer.packed, bias = layer.bias, output = y.data;
    const floor = rectified(layer) ? 0 : -Infinity, size = kernel * kernel * inputs * 4;
    for (let group = 0; group < groups; group++) {
      const o = 4 * group, count = Math.min(4, channels - o);
      const c0 = bias[o], c1 = bias[o + 1], c2 = bias[o + 2], c3 = bias[o + 3];
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column += 2) {
          let a0 = c0, a1 = c1, a2 = c2, a3 = c3, b0 = c0, b1 = c1, b2 = c2, b3 = c3;
          // The second cell of the last pair may lie outside: the first is computed twice.
          const next = column + 1 < width ? step : 0;
          let k = group * size;
          for (let i = 0; i < kernel; i++) {
            for (let j = 0; j < kernel; j++) {
              const from = ((row * stride + i * dilation) * x.width + column * stride
                + j * dilation) * inputs;
              for (let p = from; p < from + inputs; p++, k += 4) {
                const u = input[p], v = input[p + next];
                const w0 = weights[k], w1 = weights[k + 1];
                const w2 = weights[k + 2], w3 = weights[k + 3];
                a0 += u * w0; a1 += u * w1; a2 += u * w2; a3 += u * w3;
                b0 += v * w0; b1 += v * w1; b2 += v * w2; b3 += v * w3;
              }
            }
          }
          let to = (row * width + column) * channels + o;
          output[to] = Math.max(a0, floor);
          if (count > 1) output[to + 1] = Math.max(a1, floor);
          if (count > 2) output[to + 2] = Math.max(a2, floor);
          if (count > 3) output[to + 3] = Math.max(a3, floor);
          if (next) {
            to += channels;
            output[to] = Math.max(b0, floor);
            if (count > 1) output[to + 1] = Math.max(b1, floor);
            if (count > 2) output[to + 2] = Math.max(b2, floor);
            if (count > 3) output[to + 3] = Math.max(b3, floor);
          }
        }
      }
    }
    return y;
  }

  // Whether a convolution has the ReLU of its row in its inner loop.
  const rectified = (layer) =>
    layer.kind === 'conv' && layer.activation === 'relu' && !layer.group_norm;

  // In place; see Flax's GroupNorm, whose mean and variance these are.
  function groupNorm(x, {group_norm: groups, scale, shift}) {
    const {channels, data} = x, size = channels / groups, count = x.height * x.width * size;
    for (let group = 0; group < groups; group++) {
      const each = (update) => {
        for (let at = group * size; at < data.length; at += channels) {
          for (let c = 0; c < size; c++) update(at + c, group * size + c);
        }
      };
      let mean = 0, variance = 0;
      each((i) => { mean += data[i] / count; });
      each((i) => { variance += (data[i] - mean) ** 2 / count; });
      const factor = 1 / Math.sqrt(variance + 1e-6);
      each((i, c) => { data[i] = (data[i] - mean) * factor * scale[c] + shift[c]; });
    }
    return x;
  }

  // The number of windows along an axis, rounded up as Caffe does; see `ops._pad_for_windows`.
  function windowCount(n, {kernel, stride, padding, round_up}) {
    const steps = Math.floor((n + 2 * padding - kernel) / stride);
    const rest = (n + 2 * padding - kernel) % stride;
    return steps + 1 + (rest && round_up && (steps + 1) * stride < n + padding ? 1 : 0);
  }

  function pool(x, layer) {
    const {kernel, stride, padding} = layer, channels = x.channels, average = layer.kind === 'avg_pool';
    const y = map(windowCount(x.height, layer), windowCount(x.width, layer), channels);
    const value = new Float64Array(channels);
    for (let row = 0; row < y.height; row++) {
      const top = row * stride - padding;
      for (let column = 0; column < y.width; column++) {
        const left = column * stride - padding;
        value.fill(average ? 0 : -Infinity);
        for (let r = Math.max(top, 0); r < Math.min(top + kernel, x.height); r++) {
          for (let q = Math.max(left, 0); q < Math.min(left + kernel, x.width); q++) {
            const from = (r * x.width + q) * channels;
            for (let c = 0; c < channels; c++) {
              const v = x.data[from + c];
              value[c] = average ? value[c] + v : Math.max(value[c], v);
            }
          }
        }
        // Zeros of the padding count in an average, what is clipped does not.
        const rows = Math.min(top + kernel, x.height + padding) - top;
        const columns = Math.min(left + kernel, x.width + padding) - left;
        const to = (row * y.width + column) * channels, divisor = average ? rows * columns : 1;
        for (let c = 0; c < channels; c++) y.data[to + c] = value[c] / divisor;
      }
    }
    return y;
  }

  // A linear map along the height and one along the width: for each output its inputs and weights.
  function along(x, rows, columns) {
    const channels = x.channels, between = map(rows.length, x.width, channels);
    const line = x.width * channels;
    rows.forEach((taps, row) => {
      for (const [from, weight] of taps) {
        for (let i = 0; i < line; i++) between.data[row * line + i] += weight * x.data[from * line + i];
      }
    });
    const y = map(rows.length, columns.length, channels);
    for (let row = 0; row < rows.length; row++) {
      columns.forEach((taps, column) => {
        const to = (row * columns.length + column) * channels;
        for (const [from, weight] of taps) {
          const at = row * line + from * channels;
          for (let c = 0; c < channels; c++) y.data[to + c] += weight * between.data[at + c];
        }
      });
    }
    return y;
  }

  // Weights that fall linearly from 1 to 0 within `reach` of the position of each output.
  function tent(count, n, positionOf, reach) {
    return Array.from({length: count}, (_, i) => {
      const position = positionOf(i), taps = [];
      for (let j = Math.max(0, Math.floor(position - 1)); j < n && j <= position + 1; j++) {
        const weight = 1 - Math.abs(position - j) / reach;
        if (weight > 0) taps.push([j, weight]);
      }
      return taps;
    });
  }

  function adaptivePool(x, count) {
    const windows = (n) => Array.from({length: count}, (_, i) => {
      const first = Math.floor(i * n / count), end = Math.ceil((i + 1) * n / count);
      return Array.from({length: end - first}, (_, j) => [first + j, 1 / (end - first)]);
    });
    return along(x, windows(x.height), windows(x.width));
  }

  function resize(x, height, width) {  // With aligned corners.
    const to = (count, n) =>
      tent(count, n, (i) => (count > 1 ? i * (n - 1) / (count - 1) : 0), 1);
    return along(x, to(height, x.height), to(width, x.width));
  }

  // Cell i is centered at pixel stride * i + stride - 1/2 - cut; beyond the border are zeros.
  function deconvolution(x, stride, cut) {
    const to = (n) => tent((n + 1) * stride - 2 * cut, n,
      (pixel) => (pixel - stride + 0.5 + cut) / stride, 1);
    return along(x, to(x.height), to(x.width));
  }

  // Cell i is at pixel stride * i; the last is repeated.
  function resizeCorner(x, stride) {
    const to = (n) => tent(n * stride, n, (pixel) => Math.min(pixel / stride, n - 1), 1);
    return along(x, to(x.height), to(x.width));
  }

  function crop(x, top, left, height, width) {
    const y = map(height, width, x.channels), row = width * x.channels;
    for (let r = 0; r < height; r++) {
      const from = ((r + top) * x.width + left) * x.channels;
      y.data.set(x.data.subarray(from, from + row), r * row);
    }
    return y;
  }

  function merge(inputs, kind) {
    const height = Math.min(...inputs.map((x) => x.height));
    const width = Math.min(...inputs.map((x) => x.width));
    inputs = inputs.map((x) => crop(x, 0, 0, height, width));
    if (kind === 'sum') {
      const y = map(height, width, inputs[0].channels);
      for (const x of inputs) for (let i = 0; i < y.data.length; i++) y.data[i] += x.data[i];
      return y;
    }
    const y = map(height, width, inputs.reduce((sum, x) => sum + x.channels, 0));
    for (let cell = 0, to = 0; cell < height * width; cell++) {
      for (const {channels, data} of inputs) {
        for (let c = 0; c < channels; c++) y.data[to++] = data[cell * channels + c];
      }
    }
    return y;
  }

  function relu(x) {
    for (let i = 0; i < x.data.length; i++) x.data[i] = Math.max(x.data[i], 0);
    return x;
  }

  function runLayer(layer, inputs) {
    const x = inputs[0];
    switch (layer.kind) {
      case 'conv': return conv(x, layer);
      case 'max_pool': case 'avg_pool': return pool(x, layer);
      case 'adaptive_avg_pool': return adaptivePool(x, layer.kernel);
      case 'deconv': {
        const half = layer.stride / 2;  // What a padding of its whole part means.
        return deconvolution(x, layer.stride, layer.padding === Math.floor(half) ? half : layer.padding);
      }
      case 'resize': return resize(x, inputs[1].height, inputs[1].width);
      case 'crop': {
        const cut = -layer.padding;
        return crop(x, cut, cut, x.height - cut, x.width - cut);
      }
      default: return merge(inputs, layer.kind);
    }
  }

  // The rows of a table, one after the other, on the input `x`.
  function runRows(rows, x) {
    const outputs = [];
    for (const layer of rows) {
      const inputs = layer.inputs.map((index) => (index < 0 ? x : outputs[index]));
      let y = runLayer(layer, inputs);
      if (layer.group_norm) y = groupNorm(y, layer);
      outputs.push(layer.activation === 'relu' && !rectified(layer) ? relu(y) : y);
    }
    return outputs.length ? outputs[outputs.length - 1] : x;
  }

  // Index `i` reflected into 0..size-1 without repeating the border, see `preprocessing.py`.
  function reflected(i, size) {
    if (size === 1) return 0;
    const period = 2 * (size - 1), folded = ((i % period) + period) % period;
    return Math.min(folded, period - folded);
  }

  // From bytes RGBA, as canvases hold them, to what the network is fed.
  function fed({data, width, height}, {margin, stride, mean}) {
    const axis = (n) => {
      const inner = Array.from({length: n + 2 * margin}, (_, i) => reflected(i - margin, n));
      const length = inner.length + (stride - n % stride) % stride;
      return Array.from({length}, (_, i) => inner[reflected(i, inner.length)]);
    };
    const rows = axis(height), columns = axis(width), x = map(rows.length, columns.length, 3);
    let to = 0;
    for (const r of rows) {
      for (const q of columns) {
        for (let c = 0; c < 3; c++) x.data[to++] = data[(r * width + q) * 4 + c] - mean[c];
      }
    }
    return x;
  }

  // Rounded as JAX's are: of sure cells, 1 and 0, two can be as near to a pixel, and the first counts.
  function softmax(x) {
    const {channels, data} = x;
    for (let at = 0; at < data.length; at += channels) {
      let most = -Infinity, sum = 0;
      for (let c = 0; c < channels; c++) most = Math.max(most, data[at + c]);
      for (let c = 0; c < channels; c++) sum += data[at + c] = Math.exp(data[at + c] - most);
      for (let c = 0; c < channels; c++) data[at + c] = Math.fround(data[at + c] / sum);
    }
    return x;
  }

  // Class ids of height x width pixels, from logits of the network's own grid or, with `fullSize`,
  // of pixels.
  function labelMap(logits, fullSize, {upsampling, stride}, height, width) {
    let x = logits;
    if (!fullSize) {
      if (upsampling === 'corner') x = softmax({...x, data: x.data.slice()});
      x = upsampling === 'deconvolution' ? deconvolution(x, stride, stride / 2) : resizeCorner(x, stride);
    }
    const labels = new Uint8Array(height * width), {channels, data} = x;
    for (let r = 0, to = 0; r < height; r++) {
      for (let q = 0; q < width; q++, to++) {
        const at = (r * x.width + q) * channels;
        let best = 0;
        for (let c = 1; c < channels; c++) if (data[at + c] > data[at + best]) best = c;
        labels[to] = best;
      }
    }
    return labels;
  }

  // A network as `live.network` of Python writes it, with its weights put into its rows.
  function load(network) {
    const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const high = new Int16Array(bytes(network.kernels.high).buffer), low = bytes(network.kernels.low);
    const kernels = Float64Array.from(high, (value, i) => 256 * value + (low.length ? low[i] : 0));
    const vectors = new Float32Array(bytes(network.vectors).buffer);
    let nextKernel = 0, nextVector = 0;
    const layer = (row) => {
      if (row.kind !== 'conv') return row;
      const {kernel, in_channels: inputs, channels} = row, taps = kernel ** 2;
      const vector = () => vectors.subarray(nextVector, nextVector += channels);
      const scales = vector(), bias = new Float64Array(channels + 3);  // Channels are read in fours.
      bias.set(vector());
      const whole = kernels.subarray(nextKernel, nextKernel += taps * inputs * channels);
      const arrays = {packed: packed(whole, scales, taps * inputs, channels), bias};
      if (row.group_norm) Object.assign(arrays, {scale: vector(), shift: vector()});
      return {...row, ...arrays};
    };
    const frontEnd = network.front_end.map(layer);
    return {...network, front_end: frontEnd, heads: network.heads.map((head) => ({...head, rows: head.rows.map(layer)}))};
  }

  // Index of the last cell of the scores from which the pixels up to `pixel` are blended.
  function lastCell(upsampler, pixel) {
    return upsampler.reduceRight((last, {kind, padding, stride}) =>
      (kind === 'deconv' ? Math.floor((last + padding) / stride) : last - padding), pixel);
  }

  // Of an image {data, width, height}, RGBA: a map of logits for each head.
  function logits(network, image) {
    const input = fed(image, network);
    let scores = runRows(network.front_end, input);
    if (network.upsampler.length && !network.margin) {  // FCN, see `Dilation.apply_front_end`.
      const sides = [input.height, input.width].map((side) => lastCell(network.upsampler, side - 1) + 1);
      scores = crop(scores, 0, 0, Math.min(sides[0], scores.height), Math.min(sides[1], scores.width));
    }
    return network.heads.map(({rows}) => runRows(rows, scores));
  }

  // Its class ids: a Uint8Array for each head.
  function run(network, image) {
    return logits(network, image).map((scores, i) =>
      labelMap(scores, network.heads[i].full_size, network, image.height, image.width));
  }

  return {load, logits, run};
}

if (typeof module !== 'undefined') module.exports = createEngine();
