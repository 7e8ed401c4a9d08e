"""Training pictures read by threads of ours and by worker processes of PyTorch's DataLoader."""

import functools
import importlib
import importlib.util
import itertools
import os

import numpy as np

from dilated_jax import data
from dilated_jax.data import augmentation, pipeline
from dilated_jax.errors import InputError

from .timing import compare


def run(values) -> list[dict]:
  """Of the training pictures of a data set."""
  return pictures(values.repeats, data.load(values.dataset, 'train', values.data_dir))


def pictures(repeats, source, batch_size: int = 8, batches: int = 16) -> list[dict]:
  """Batches of training pictures; the figures are of one batch."""
  torch = importlib.util.find_spec('torch') and importlib.import_module('torch.utils.data')
  if not hasattr(os, 'sched_setaffinity'):
    raise InputError('suite input chooses cores, which Linux alone lets it do')
  options = augmentation.Augmentation(random_scale=(0.75, 1.5), color_jitter=0.4)
  augment = functools.partial(augmentation.augment, crop=(256, 256), margin=186, options=options)

  class Examples:
    """What a DataLoader wants."""

    def __len__(self):
      return len(source)

    def __getitem__(self, index):
      return augment(source[index], np.random.default_rng(index))

  def stack(examples):
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}

  rows, cores = [], sorted(os.sched_getaffinity(0))
  for used in sorted({1, len(cores)}):
    os.sched_setaffinity(0, cores[:used])
    mine = pipeline.batches(source, augment, batch_size=batch_size, seed=0, threads=2 * used)
    loader = torch and torch.DataLoader(
      Examples(), batch_size, shuffle=True, num_workers=used, collate_fn=stack, drop_last=True,
      persistent_workers=True, multiprocessing_context='fork',
    )  # fmt: skip
    others = loader and itertools.chain.from_iterable(itertools.repeat(loader))

    def ours(mine=mine):
      for _ in range(batches):
        next(mine)

    def theirs(others=others):
      for _ in range(batches):
        next(others)

    row = compare(
      f'{batch_size} pictures, {used} cores', 'DataLoader', ours, loader and theirs, (), repeats
    )
    for key in row:
      if key.endswith('quartiles_ms'):
        row[key] = [each / batches for each in row[key]]
      elif key.endswith('_ms'):
        row[key] /= batches
    row['pictures_per_second'] = 1000 * batch_size / row['ours_ms']
    rows.append(row)
    mine.close()
  os.sched_setaffinity(0, cores)
  return rows
