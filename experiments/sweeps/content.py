"""What trials read, by its content, so that no table mixes results of different data or weights."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
import pathlib

from absl import flags

from dilated_jax import data
from dilated_jax.errors import InputError

from .. import comparison_records, path_flags

_PATHS = ('init', 'weights', 'predictions', 'labels', 'inputs')


def digests(trials: Iterable[flags.FlagValues]) -> dict[str, str]:
  """Digests of the data sets and weights that trials read, by flag: '--init=PATH'.

  What is not there is left out, as are data sets that are yet to be prepared: the trials will say
  what they miss.

  Args:
    trials: flags of each.
  """
  paths, datasets = set(), collections.defaultdict(set)
  for values in trials:
    flags_of_paths = (values[name] for name in _PATHS if name in values)
    paths |= {(flag.name, path) for flag in flags_of_paths for path in path_flags.paths_of(flag)}
    for name in _datasets(values):
      datasets[name].add((values.data_dir, values.manual_dir))
  found = {}
  for name, path in sorted(paths):
    if digest := comparison_records.weights_digest(path):
      found[f'--{name}={path}'] = digest
  for name, places in sorted(datasets.items()):
    if known := {digest for place in places if (digest := _fingerprint(name, *place))}:
      found[f'--dataset={name}'] = ' '.join(sorted(known))
  return found


def _datasets(values: flags.FlagValues) -> Iterator[str]:
  """Names of the data sets of a trial, those within its splits too."""
  if 'dataset' not in values:
    return
  name = values.dataset
  if not name and values.weights:
    name = comparison_records.read(pathlib.Path(values.weights) / 'model.json').get('dataset')
  if name not in data.NAMES:
    return
  yield name
  for flag in ('train_split', 'val_split', 'split'):
    if flag in values and values[flag].value:
      yield from {part for part, _ in data.parts(name, values[flag].value)} & {*data.NAMES}


def _fingerprint(name: str, data_dir: str | None, manual_dir: str | None) -> str | None:
  """A digest of a data set; None where it is not ready to be read."""
  in_place = name == 'folder' and not (data_dir and manual_dir)
  if not in_place and not data.is_prepared(name, data_dir):
    return None
  try:
    return data.fingerprint(name, data_dir, manual_dir)
  except InputError:
    return None
