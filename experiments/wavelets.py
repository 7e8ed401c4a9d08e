"""Draws the scales of a photograph (starlet transform, algorithme à trous); denoises it.

  dilated-jax wavelets --image=dog.jpg --output=scales
  dilated-jax wavelets --image=dog.jpg --output=scales --num_scales=5 --noise=20 --denoise=3

Writes STEM_scales.png, a sheet of the photograph, its details from fine to coarse (gray is 0, full
contrast 4 deviations) and what is left; together they add up to the photograph. With --denoise also
STEM_denoised.png, without the details below that many deviations of the noise. --noise adds noise
of a known deviation first, so that there is something to remove and to compare with. Each channel
is transformed by itself.
"""

import functools
import math
import pathlib

from absl import flags
import numpy as np
from PIL import Image

from dilated_jax import signal
from dilated_jax.errors import InputError
from dilated_jax.files import write_atomic
from dilated_jax.images import files as image_files, visualization

from . import cli, path_flags

COLUMNS = 4  # Of the sheet.
SIDE = 560  # Larger photographs are reduced to this for the sheet.


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  path_flags.define('image', None, 'Photograph.', required=True, **into)
  path_flags.define('output', None, 'Folder for the results.', required=True, **into)
  flags.DEFINE_integer('num_scales', 5, 'Number of details.', 1, 12, **into)
  flags.DEFINE_enum('generation', '1', ('1', '2'), 'Of the starlet transform.', **into)
  flags.DEFINE_float(
    'denoise', None, 'Drop details below this many deviations of the noise.', 0.0, 1e6, **into
  )
  flags.DEFINE_enum('mode', 'hard', ('hard', 'soft'), 'Keep other details, or shrink them.', **into)
  flags.DEFINE_float('noise', 0.0, 'Add noise of this deviation first.', 0.0, 255.0, **into)
  flags.DEFINE_integer('seed', 0, 'Of that noise.', lower_bound=0, **into)


def main(values=flags.FLAGS):
  path, output = pathlib.Path(values.image), pathlib.Path(values.output)
  path_flags.check_folder(values, 'output')
  if math.isnan(values.noise):
    raise InputError(f'--noise={values.noise}: must be a number')
  clean = image_files.read_image(path).astype(np.float32)
  noise = np.random.default_rng(values.seed).normal(0, values.noise, clean.shape)
  image = clean + noise.astype(np.float32)

  generation = int(values.generation)
  transform = functools.partial(
    signal.wavelets.starlet, scales=values.num_scales, generation=generation
  )
  scales = np.asarray(_of_channels(transform, 3)(image))
  sigma = _of_channels(lambda x: signal.wavelets.estimate_noise_std(x, generation), 0)(scales[0])
  report(scales, np.asarray(sigma), generation)

  title = f'photograph and noise of {values.noise:g}' if values.noise else 'photograph'
  panels = [(title, shown(image)), *panels_of(scales)]
  if values.denoise is not None:
    denoise = functools.partial(
      signal.wavelets.denoise, scales=values.num_scales, k=values.denoise, mode=values.mode,
      generation=generation,
    )  # fmt: skip
    denoised = np.asarray(_of_channels(denoise, 2)(image))
    panels.append((f'{values.mode} threshold of {values.denoise:g} deviations', shown(denoised)))
    if values.noise:
      before, after = (signal_to_noise(clean, x) for x in (image, denoised))
      print(f'peak signal-to-noise ratio: {before:.2f} dB noisy, {after:.2f} dB denoised')
    write(output / f'{path.stem}_denoised.png', shown(denoised))
  write(output / f'{path.stem}_scales.png', image_grid(panels))


def _of_channels(function, last: int):
  """A function of (H, W) for all channels of (H, W, C); they come out as axis `last`."""
  import jax

  return jax.jit(jax.vmap(function, in_axes=-1, out_axes=last))


def report(scales, sigma, generation: int):
  """Prints what each scale is and holds."""
  count = len(scales) - 1
  factors = signal.wavelets.noise_factors(count, 2, generation)
  print('detail  dilation  spans pixels  deviation  of it noise')
  for j, factor in enumerate(factors):
    span = generation * 4 * 2**j + 4 * (2**j - 1) + 1
    expected = math.sqrt(np.mean((sigma * factor) ** 2))
    print(f'{j + 1:6}{2**j:10}{span:14}{scales[j].std():11.2f}{expected:13.2f}')
  print(f'noise: deviation {", ".join(f"{value:.2f}" for value in sigma)} in red, green, blue')


def panels_of(scales):
  """Titles and pictures of the details and of what is left."""
  for j, detail in enumerate(scales[:-1]):
    contrast = 127 / max(4 * float(detail.std()), 1e-6)
    yield f'w{j + 1}, dilation {2**j}, x {contrast:.1f}', shown(128 + contrast * detail)
  yield f'c{len(scales) - 1}, what is left', shown(scales[-1])


def shown(image) -> np.ndarray:
  return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def signal_to_noise(clean, image) -> float:
  """Of pictures of 0..255, in decibels."""
  return float(10 * np.log10(255**2 / np.mean((clean - image) ** 2)))


def image_grid(panels) -> np.ndarray:
  """Lays out titled pictures of one size in rows."""
  height, width = panels[0][1].shape[:2]
  factor = min(1, SIDE / max(height, width))
  size = max(1, round(width * factor)), max(1, round(height * factor))
  rows = []
  for start in range(0, len(panels), COLUMNS):
    titles, row = zip(*panels[start : start + COLUMNS])
    row = [np.asarray(Image.fromarray(picture).resize(size)) for picture in row]
    rows.append(visualization.image_grid([row], titles, side=SIDE // 2))
  page = np.full((sum(map(len, rows)), max(row.shape[1] for row in rows), 3), 255, np.uint8)
  top = 0
  for row in rows:
    page[top : top + len(row), : row.shape[1]] = row
    top += len(row)
  return page


def write(path, picture):
  write_atomic(path, image_files.encode_png(picture))
  print(f'written to {path}')


if __name__ == '__main__':
  define_flags()
  cli.run(main)
