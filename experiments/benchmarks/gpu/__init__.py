"""What a GPU can do with these networks, beside PyTorch on the same GPU, in about 8 minutes.

The parts run one after the other, each within its share of the time; what a part did not come to is
told. Rows are yielded as they are measured, so that a run that is cut still tells. On a CPU all
sizes are small: that is a rehearsal, whose times mean nothing.
"""

from collections.abc import Iterator
import time

import jax

from . import agreement, convolutions, crfs, networks, presets

# Seconds for each part, 460 in all.
PARTS = {
  'agreement': (agreement.rows, 90),
  'convolutions': (convolutions.rows, 110),
  'networks': (networks.rows, 170),
  'crf': (crfs.rows, 40),
  'presets': (presets.rows, 50),
}


def run(values) -> Iterator[dict]:
  """The parts of --gpu_parts; one that fails is told too, and does not end the others."""
  small = jax.default_backend() == 'cpu'
  left = 0.0  # What a part leaves goes to the next.
  for name in dict.fromkeys(values.gpu_parts):
    rows, seconds = PARTS[name]
    start, left = time.monotonic(), left + seconds
    try:
      for row in rows(small):
        yield {'part': name} | row
        if time.monotonic() - start > left:
          yield {'part': name, 'what': f'{name}: cut after {time.monotonic() - start:.0f} s'}
          break
    except Exception as error:
      yield {'part': name, 'what': f'{name}: {type(error).__name__}: {str(error)[:300]}'}
    left -= time.monotonic() - start
