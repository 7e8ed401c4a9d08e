"""Trains, evaluates and predicts again and again in one process, and tells what grows.

  python -m tests.attacks.soak MINUTES

Each round is a line: seconds, memory, open files, threads. At the end the first rounds after the
warm-up are put beside the last ones.
"""

import contextlib
import gc
import io
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time
from typing import NamedTuple

from absl import flags
import numpy as np
import PIL.Image

from experiments import evaluate, predict, train
from tests import calling

WARM_UP = 5  # Rounds; what is compiled or imported once is in them.
NARROW = [
  '--model=dilation8', '--blocks=1', '--width=0.0625', '--stride=2', '--fc_kernel=3',
  '--fc_channels=4', '--dilations=1,2,1', '--norm=none',
]  # fmt: skip


class Round(NamedTuple):
  """What a round took, and what the process holds after it: memory in MiB."""

  seconds: float
  memory: float
  files: int
  threads: int


def soak(minutes: float, folder: pathlib.Path, tell=print) -> list[Round]:
  """Runs rounds for some minutes, and two beyond the warm-up at least."""
  own = _own_images(folder / 'own')
  end, rounds = time.monotonic() + 60 * minutes, []
  while time.monotonic() < end or len(rounds) < WARM_UP + 2:
    start = time.monotonic()
    silent = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory(dir=folder) as place, silent:
      calling.run(
        train, f'--workdir={place}/run', '--dataset=folder', f'--data_dir={own}', *NARROW,
        '--stage=front_end,context', '--num_steps=6,6', '--eval_every=3', '--batch_size=2',
        '--crop=16x32', '--log_every=3',
      )  # fmt: skip
      weights = f'--weights={place}/run/weights'
      calling.run(
        evaluate, weights, '--dataset=folder', f'--data_dir={own}', '--split=val',
        f'--output={place}/scores.json',
      )  # fmt: skip
      calling.run(predict, weights, f'--inputs={own}/images', f'--output={place}/labeled')
    gc.collect()
    rounds.append(Round(time.monotonic() - start, *held()))
    tell(f'{len(rounds):4d}  ' + '  '.join(f'{value:8.1f}' for value in rounds[-1]))
  return rounds


def held() -> tuple[float, int, int]:
  """Memory in MiB, open files and threads of this process."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  memory = pages * os.sysconf('SC_PAGE_SIZE') / 2**20
  return memory, len(os.listdir('/proc/self/fd')), threading.active_count()


def growth(rounds: list[Round]) -> Round:
  """How much more the last quarter of the rounds after the warm-up takes than the first one.

  Of the times the least counts, since other work on the machine only adds to them; of the rest the
  median.
  """
  after = rounds[WARM_UP:]
  part = max(1, len(after) // 4)
  first, last = (list(zip(*each)) for each in (after[:part], after[-part:]))
  return Round(
    min(last[0]) - min(first[0]),
    *(statistics.median(b) - statistics.median(a) for a, b in zip(first[1:], last[1:])),
  )


def _own_images(folder: pathlib.Path) -> pathlib.Path:
  draw = np.random.default_rng(0)
  for kind, shape in (('images', (32, 48, 3)), ('labels', (32, 48))):
    (folder / kind).mkdir(parents=True)
    for name in 'abcdefgh':
      content = draw.integers(0, 255 if kind == 'images' else 2, shape).astype(np.uint8)
      PIL.Image.fromarray(content).save(folder / kind / f'{name}.png')
  return folder


def main() -> None:
  flags.FLAGS.mark_as_parsed()
  print('round  seconds    MiB   files  threads', flush=True)
  with tempfile.TemporaryDirectory() as folder:
    rounds = soak(float(sys.argv[1]), pathlib.Path(folder), lambda line: print(line, flush=True))
  print('growth', growth(rounds), 'over', len(rounds) - WARM_UP, 'rounds')


if __name__ == '__main__':
  main()
