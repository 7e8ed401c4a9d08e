"""What the machine can reach: a large matrix product, and a triad of arrays larger than caches."""

from collections.abc import Iterator

import jax
import numpy as np

from . import peers, timing


def run(values, side: int | None = None, length: int | None = None) -> Iterator[dict]:
  """The product of square matrices, 2 n^3 operations; and a + 3 b, which reads two and writes one.

  (The triad of McCalpin's STREAM, which counts what is read and written and not what a cache reads
  before it writes.)

  Args:
    values: flags.
    side: of the matrices; by default 2048 on CPUs and 8192 elsewhere.
    length: of the arrays; by default 64 MiB each on CPUs and 1 GiB elsewhere.
  """
  cpu, torch = jax.default_backend() == 'cpu', peers.pytorch(values)
  side = side or (2048 if cpu else 8192)
  length = length or 2 ** (24 if cpu else 28)
  a = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
  yield _peak(
    values, f'matrix product {side}x{side}', 'peak_gflops', 2 * side**3 / 1e6,
    lambda a, b: a @ b, a, torch.job('product', a=a, b=a) if torch else None,
  )  # fmt: skip
  a = np.ones(length, np.float32)
  yield _peak(
    values, f'triad of {length} numbers', 'peak_gb_per_s', 3 * 4 * length / 1e6,
    lambda a, b: a + 3 * b, a, torch.job('triad', a=a, b=a) if torch else None,
  )  # fmt: skip


def _peak(values, what: str, name: str, work: float, function, a, theirs) -> dict:
  """A row, with the work (in millions) a second of the fastest run of any side."""
  given = jax.device_put(a), jax.device_put(a)
  row = timing.compare(
    f'{what}, float32', 'PyTorch', jax.jit(function), theirs, given, values.repeats
  )
  return row | {name: work / min(row['ours_min_ms'], row.get('theirs_min_ms', np.inf))}
