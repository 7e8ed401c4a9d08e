"""Damaged files of every kind that is read end in one line of ours, soon and in little memory.

In short some 60 damaged copies for each reader, in full 120,000 in all.
Readers of published weights are attacked in `tests/weights/test_robustness.py` as well.
"""

import collections
import pathlib
import time
import traceback
import warnings

from dilated_jax.data import archive_index, archives
from dilated_jax.data.folder import builder, classes_file, layouts
from dilated_jax.data.folder.label_stats import read_label_stats
from dilated_jax.errors import InputError
from dilated_jax.evaluation import extremes, label_files
from dilated_jax.images import files
from dilated_jax.models import spec
from dilated_jax.signal import audio
from experiments import flag_files
from experiments.report import _DAMAGED as BAD_SCORES
from experiments.reports import single, source
from tests import mutations
from tests.attacks import damaged

SECONDS = 60.0  # For one file, of up to 179 million pixels, on a busy machine.


def attack(originals, read, path, count, seed=0):
  """Damages files, reads each copy, and tells what went wrong by where it did.

  Args:
    originals: {name: content}, whole files.
    read: reads a path; told the number of the copy too.
    path: from the name of an original, where its copies are written.
    count: copies in all.
    seed: of the damages.
  """
  wrong, outcomes = collections.defaultdict(list), collections.Counter()
  each = -(-count // len(originals))
  for name, original in originals.items():
    file = path(name)
    read(file.write_bytes(original) and file, 0)  # Whole, it is read.
    for number, content in enumerate(mutations.mutations(original, each, seed)):
      file.write_bytes(content)
      start = time.monotonic()
      try:
        with warnings.catch_warnings():
          warnings.simplefilter('error')
          read(file, number)
        outcomes['read'] += 1
      except InputError as error:
        outcomes['refused'] += 1
        if not str(error).isprintable() or len(str(error)) > 2010:
          wrong[f'message {str(error)[:60]!r}'].append((name, number))
      except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
          raise
        frame = traceback.extract_tb(error.__traceback__)
        ours = [each for each in frame if '/dilated_jax/' in each.filename] or frame
        last = ours[-1]
        where = f'{pathlib.Path(last.filename).name}:{last.lineno}'
        wrong[f'{where} {type(error).__name__}: {str(error)[:60]}'].append((name, number))
      if time.monotonic() - start > SECONDS:
        wrong[f'{time.monotonic() - start:.0f} s'].append((name, number))
  assert not wrong, '\n'.join(
    f'{len(where)} x {what}, first {where[0]}' for what, where in sorted(wrong.items())
  )
  assert outcomes.total() >= count  # Lines of metrics that are damaged are passed over.


SHORT, FULL = 60, 8000

_IMAGES = (
  files.read_image,
  files.read_label,
  files.read_colors,
  files.read_instances,
  files.read_mode_and_palette,
  read_label_stats,
)


def test_images(tmp_path, attempts):
  def read(path, number):
    if number:
      _IMAGES[number % len(_IMAGES)](path)
    else:
      files.read_mode_and_palette(path)

  attack(damaged.images(), read, lambda name: tmp_path / name, attempts(4 * SHORT, 4 * FULL))


def test_archives(tmp_path, attempts):
  def read(path, _):
    members = archive_index.read_index(path, ('data',), 'get it again')
    tree = archives.Tree(str(path), 'get it again', members)
    for name in tree.names():
      tree.read(name)

  attack(damaged.archives(), read, lambda name: tmp_path / name, attempts(SHORT, 2 * FULL))


def test_lists(tmp_path, attempts):
  damaged.folder(tmp_path)

  def read(path, _):
    layouts.find_pairs(path.parent)

  attack({'train.txt': damaged.LIST}, read, tmp_path.joinpath, attempts(SHORT, FULL // 2))
  (tmp_path / 'train.txt').unlink()
  table = {'train.csv': b'image,label\n' + damaged.LIST[3:]}
  attack(table, read, tmp_path.joinpath, attempts(SHORT, FULL // 2), seed=1)


def test_classes_file(tmp_path, attempts):
  def read(path, number):
    if number % 2:
      classes_file.read_classes_file(path)
    else:
      builder.read_description(path.parent)

  attack({'classes.json': damaged.CLASSES}, read, tmp_path.joinpath, attempts(SHORT, FULL))


def test_predictions_json(tmp_path, attempts):
  def read(path, _):
    if label_files.read_class_order(path.parent):
      label_files.read_dataset(path.parent)

  attack({'predictions.json': damaged.PREDICTIONS}, read, tmp_path.joinpath, attempts(SHORT, FULL))


def test_model_json(tmp_path, attempts):
  def read(path, _):
    spec.load_spec(path.parent)

  attack({'model.json': damaged.MODEL}, read, tmp_path.joinpath, attempts(SHORT, FULL))


def test_wav(tmp_path, attempts):
  def read(path, _):
    audio.read_wav(path)

  attack({'sound.wav': damaged.sound()}, read, tmp_path.joinpath, attempts(SHORT, FULL))


def test_best_and_worst_images(tmp_path, attempts):
  content = damaged.best_and_worst(tmp_path / 'val_images.npz')

  def read(path, _):
    extremes.load(path)

  attack({'val_images.npz': content}, read, tmp_path.joinpath, attempts(SHORT, FULL))


def test_scores_and_metrics(tmp_path, attempts):
  def read(path, number):
    found = source.load(path if path.suffix == '.json' else path.parent)
    if number % 4 == 0:
      try:
        single.render(found)
      except BAD_SCORES as error:
        raise InputError('no page') from error

  (tmp_path / 'context').mkdir()
  attack({'scores.json': damaged.SCORES}, read, tmp_path.joinpath, attempts(SHORT, FULL))
  attack({'metrics.jsonl': damaged.METRICS}, read, tmp_path.joinpath, attempts(SHORT, FULL))
  attack(
    {'val.json': damaged.SCORES},
    lambda path, _: source.load(tmp_path),
    (tmp_path / 'context').joinpath,
    attempts(SHORT, FULL // 4),
  )


def test_flag_files(tmp_path, attempts):
  (tmp_path / 'other.flags').write_text('--seed=3')

  def read(path, _):
    flag_files.expand([f'--flagfile={path}'])

  attack({'train.flags': damaged.FLAGS}, read, tmp_path.joinpath, attempts(SHORT, FULL))
