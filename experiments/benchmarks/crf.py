"""The dense CRF against pydensecrf2: time, and the peak memory of a process of each."""

from collections.abc import Iterator
import functools
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from dilated_jax import crf

from . import peers
from .timing import compare

# Height, width, classes.
SIZES = {'480x360': (360, 480, 11), '500x375': (375, 500, 21)}


def run(values) -> Iterator[dict]:
  """Both sizes, two settings: set-up alone (0 iterations), and with 5 and 10 iterations."""
  library = peers.pydensecrf(values)
  for size, shape in SIZES.items():
    image, unary = segmented(*shape)
    for bilateral in ((80, 13, 10), (160, 3, 5)):
      for iterations in (0, 5, 10):
        options = dict(bilateral=bilateral, iterations=iterations)
        ours = functools.partial(crf.dense_crf, unary, image, **options)
        theirs = library and library.job('dense_crf', unary=unary, image=image, **options)
        start = time.perf_counter()
        marginals = np.asarray(ours())
        more = {'first_call_ms': 1000 * (time.perf_counter() - start)}
        if theirs:
          more['difference'] = float(abs(marginals - theirs.result()).max())
        name = (
          f'{size}, {shape[2]} classes, sxy {bilateral[0]} srgb {bilateral[1]}, {iterations} it.'
        )
        yield compare(name, 'pydensecrf2', ours, theirs, (), values.repeats, **more)
    yield memories(size, library)


def segmented(height: int, width: int, classes: int):
  """A drawn picture, smooth with edges and some noise, and energies of a network in doubt.

  Returns:
    image uint8 (H, W, 3), and unary energies float32 (H, W, C).
  """
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (height // 60 + 1, width // 60 + 1, 3))
  rows, columns = np.mgrid[:height, :width]
  # Patches whose edges wave, shaded and grainy, as photographs are.
  y = np.clip(rows + 14 * np.sin(columns / 23), 0, height - 1).astype(int) // 60
  x = np.clip(columns + 14 * np.sin(rows / 31), 0, width - 1).astype(int) // 60
  image = coarse[y, x] * (0.7 + 0.3 * rows[..., None] / height) + rng.normal(
    0, 4, (height, width, 3)
  )
  labels = rng.integers(0, classes, coarse.shape[:2])[y, x]
  scores = 2.0 * np.eye(classes)[labels] + rng.normal(0, 1, (height, width, classes))
  scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
  return np.clip(image, 0, 255).astype(np.uint8), -scores.astype(np.float32)


def memories(size: str, library: peers.Peer | None) -> dict:
  """Peak memory of a process that does it once, 10 iterations, imports included; Linux.

  `ours_base` and `theirs_base` are the peaks of one that does it for 8x8 pixels: of the
  interpreter, the libraries and what they compile.
  """
  image, unary = segmented(*SIZES[size])
  corner = image[:8, :8], unary[:8, :8]
  ours = ['from dilated_jax.crf import dense_crf', 'dense_crf(unary, image)']
  found = {'ours_ms': _peak_mib(sys.executable, ours, image, unary)}
  found['ours_base'] = _peak_mib(sys.executable, ours, *corner)
  if library:
    folder = os.path.dirname(peers.__file__)
    theirs = [f'sys.path.insert(0, {folder!r})', 'import dense_crf']
    theirs.append('dense_crf.dense_crf(unary, image)()')
    found['theirs_ms'] = _peak_mib(library.python, theirs, image, unary)
    found['theirs_base'] = _peak_mib(library.python, theirs, *corner)
    found['ratio'] = found['theirs_ms'] / found['ours_ms']
  what = f'{size}, peak memory of a process'
  return {'what': what, 'theirs': 'pydensecrf2', 'unit': 'MiB', **found}


def _peak_mib(python: str, lines: list[str], image, unary) -> float:
  """Peak memory of a process that runs these lines, in MiB."""
  # Told by the process itself: what its parent sees counts the parent, from which it was forked.
  peak = 'print(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])'
  with tempfile.TemporaryDirectory() as folder:
    np.savez(f'{folder}/given.npz', image=image, unary=unary)
    given = f'given = np.load({folder + "/given.npz"!r})'
    program = ['import sys', 'import numpy as np', given]
    program += ['image, unary = given["image"], given["unary"]', *lines, peak]
    done = subprocess.run(
      [python, '-c', '\n'.join(program)], capture_output=True, text=True, check=True
    )
  return int(done.stdout.split()[-1]) / 1024
