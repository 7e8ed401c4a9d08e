"""The dense CRF against pydensecrf2: time, and the peak memory of a process of each."""

import functools
import importlib.util
import inspect
import subprocess
import sys
import tempfile
import time

import numpy as np

from dilated_jax import crf
from dilated_jax.errors import InputError

from .timing import compare

# Height, width, classes.
SIZES = {'480x360': (360, 480, 11), '500x375': (375, 500, 21)}


def run(values) -> list[dict]:
  """Both sizes, two settings, 5 and 10 iterations, set-up included."""
  if not importlib.util.find_spec('pydensecrf'):
    raise InputError('suite crf compares with pydensecrf2; pip install pydensecrf2')
  rows = []
  for size, shape in SIZES.items():
    image, unary = segmented(*shape)
    for bilateral in ((80, 13, 10), (160, 3, 5)):
      for iterations in (5, 10):
        options = dict(bilateral=bilateral, iterations=iterations)
        ours = functools.partial(crf.dense_crf, unary, image, **options)
        theirs = functools.partial(pydensecrf2, unary, image, **options)
        start = time.perf_counter()
        difference = abs(ours() - theirs()).max()
        first = time.perf_counter() - start
        name = (
          f'{size}, {shape[2]} classes, sxy {bilateral[0]} srgb {bilateral[1]}, {iterations} it.'
        )
        row = compare(name, 'pydensecrf2', ours, theirs, (), values.repeats)
        rows.append(row | {'first_call_ms': 1000 * first, 'difference': float(difference)})
    rows.append(memories(size))
  return rows


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


def pydensecrf2(unary, image, bilateral, iterations):
  """The same by the library."""
  import pydensecrf.densecrf

  height, width, classes = unary.shape
  model = pydensecrf.densecrf.DenseCRF2D(width, height, classes)
  model.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, classes).T))
  model.addPairwiseGaussian(sxy=3, compat=3)
  sxy, srgb, compat = bilateral
  model.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=image, compat=compat)
  return np.array(model.inference(iterations)).T.reshape(unary.shape)


def memories(size: str) -> dict:
  """Peak memory of a process that does it once, 10 iterations, imports included; Linux."""
  image, unary = segmented(*SIZES[size])
  # Told by the process itself: what its parent sees counts the parent, from which it was forked.
  peak = 'print(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])'
  calls = {
    'ours': ('from dilated_jax.crf import dense_crf', 'dense_crf(unary, image)'),
    'theirs': (inspect.getsource(pydensecrf2), 'pydensecrf2(unary, image, (80, 13, 10), 10)'),
  }
  peaks = {}
  with tempfile.TemporaryDirectory() as folder:
    np.savez(f'{folder}/given.npz', image=image, unary=unary)
    for name, lines in calls.items():
      given = f'import numpy as np\ngiven = np.load({folder + "/given.npz"!r})'
      program = [given, 'image, unary = given["image"], given["unary"]', *lines, peak]
      done = subprocess.run(
        [sys.executable, '-c', '\n'.join(program)], capture_output=True, text=True, check=True
      )
      peaks[name] = int(done.stdout.split()[-1]) / 1024
  return {
    'what': f'{size}, peak memory of a process', 'theirs': 'pydensecrf2', 'unit': 'MiB',
    'ours_ms': peaks['ours'], 'theirs_ms': peaks['theirs'],
    'ratio': peaks['theirs'] / peaks['ours'],
  }  # fmt: skip
