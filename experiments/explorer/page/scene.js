'use strict';
// The data set `scenes`, drawn from its pieces as dilated_jax/data/builders/scenes.py draws it, to the
// last digit, with the landmark in any place.

const scene = (() => {
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  // From what Python wrote: {width, height, background, light, box, landmarks}.
  function load({width, height, background, light, box, landmarks}) {
    const [x, y, x1, y1] = box, size = {width: x1 - x, height: y1 - y};
    const values = ([name, text]) => [name, new Uint16Array(bytes(text).buffer)];
    return {
      width, height, background: bytes(background), brightness: brightness(width, height, light),
      x, y, size, landmarks: Object.fromEntries(Object.entries(landmarks).map(values)),
    };
  }

  function brightness(width, height, [right, down, strength]) {
    const result = new Float32Array(width * height);
    for (let r = 0; r < height; r++) {
      for (let q = 0; q < width; q++) {
        const slope = (right * (-1 + q * (2 / (width - 1))) + down * (-1 + r * (2 / (height - 1)))) / Math.SQRT2;
        result[r * width + q] = 1 + strength * slope;
      }
    }
    return result;
  }

  // places: [[landmark, x, y], ...], left and top. Returns an ImageData.
  function draw({width, height, background, brightness, size, landmarks}, places) {
    const colors = background.slice();
    for (const [name, x, y] of places) {
      const cells = landmarks[name];
      for (let r = 0, from = 0; r < size.height; r++) {
        for (let q = 0; q < size.width; q++, from += 4) {
          const to = ((y + r) * width + x + q) * 3, uncovered = 16 - cells[from];
          for (let c = 0; c < 3; c++)
            colors[to + c] = (uncovered * colors[to + c] + cells[from + 1 + c] + 8) >> 4;
        }
      }
    }
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) {
        // A Uint8ClampedArray rounds halves to even and cuts at 0 and 255, as Python does.
        image.data[4 * i + c] = Math.fround(colors[3 * i + c] * brightness[i]);
      }
      image.data[4 * i + 3] = 255;
    }
    return image;
  }

  return {load, draw, bytes};
})();
