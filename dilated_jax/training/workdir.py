"""The folder of a run: what it keeps of its settings, and the weights of its last stage."""

from collections.abc import Mapping
import contextlib
import json
import pathlib
import shutil

import jax

from dilated_jax import locks, temporary
from dilated_jax.errors import InputError
from dilated_jax.evaluation.extremes import Extremes
from dilated_jax.files import decode_json, replace_folder, write_atomic
from dilated_jax.training import checkpoints


@contextlib.contextmanager
def held(folder, patience: float = 10):
  """Keeps others from training in a folder during the block.

  Args:
    folder: of the run; made if it is missing, and removed again if it stays empty. Where its file
      system has no locks, nobody is kept away.
    patience: seconds to wait for one that is ending.

  Raises:
    InputError: another process trains there.
  """
  folder = pathlib.Path(folder)
  missing = not folder.exists()
  folder.mkdir(parents=True, exist_ok=True)
  with locks.Lock(folder) as lock:
    try:
      free = lock.take(patience=patience)
    except locks.NoLocks:
      free = True
    if not free:
      raise InputError(
        f'{folder}: another process is training there; wait for it, or take another `workdir`'
      )
    try:
      yield
    finally:
      if missing:
        with contextlib.suppress(OSError):
          folder.rmdir()


def check_or_save_config(
  folder, config: dict, checkpoint_dir=None, defaults: Mapping | None = None
) -> None:
  """Writes what a stage is into its folder, or checks that it is the same.

  A stage that ended before its first checkpoint has left nothing to protect: it may change.

  Args:
    folder: of the stage.
    config: JSON-able settings, by name.
    checkpoint_dir: folder in which the folder of that name has the checkpoints, if it is not here.
    defaults: of the settings, by name; an older version has written none of those it did not know.

  Raises:
    InputError: the folder holds a stage with other settings; says which.
  """
  path = pathlib.Path(folder) / 'config.json'
  config, defaults = json.loads(json.dumps([config, defaults or {}]))
  saved = checkpoints.folder_of(checkpoint_dir or path.parent.parent, path.parent.name)
  begun = (path.parent / 'weights').exists() or any(saved.glob('[0-9]*'))
  if path.exists() and begun:
    try:
      old = _completed(dict(decode_json(path.read_text())), defaults)
    except (ValueError, TypeError) as error:
      raise InputError(f'{path}: not the settings of a stage; take another `workdir`') from error
    differences = [
      f'{name} is {config.get(name)!r} and was {old.get(name)!r}'
      for name in sorted(old.keys() | config.keys())
      if old.get(name) != config.get(name)
    ]
    if differences:
      raise InputError(
        f'{folder}: holds another run: {"; ".join(differences)}; take another `workdir`, or the '
        'same settings to continue it'
      )
  if jax.process_index() == 0:
    write_atomic(path, json.dumps(config, indent=2).encode() + b'\n')


def _completed(settings: dict, defaults: Mapping) -> dict:
  """Settings, and in them those of their parts, with the defaults of those that they lack."""
  parts = {
    name: _completed(value, defaults[name])
    for name, value in settings.items()
    if isinstance(value, dict) and isinstance(defaults.get(name), dict)
  }
  return {**defaults, **settings, **parts}


def keep_best_scores(folder, scores: dict, extremes: Extremes) -> None:
  """Writes scores into the folder of a stage, and images beside them, if none there are better.

  Args:
    folder: of the stage; they are written to val.json and val_images.npz.
    scores: of the validation images, with 'step'.
    extremes: the images that were labeled best and worst.
  """
  path = pathlib.Path(folder) / 'val.json'
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
    kept = json.loads(path.read_text())
    # Of equal scores the later step counts, as for checkpoints; lost steps are done again.
    if kept['mean_iou'] > scores['mean_iou'] and kept['step'] < scores['step']:
      return
  extremes.save(path.with_name('val_images.npz'))
  write_atomic(path, json.dumps(scores, indent=2).encode() + b'\n')


def forget_scores(folder) -> None:
  """Removes what `keep_best_scores` has written for a stage that starts anew."""
  for name in ('val.json', 'val_images.npz') if jax.process_index() == 0 else ():
    (pathlib.Path(folder) / name).unlink(missing_ok=True)


def copy_weights(source, target):
  """Makes `target` the same weights folder as `source`."""
  with temporary.temporary_folder(target) as new:
    shutil.copytree(source, new, dirs_exist_ok=True)
    replace_folder(new, target)
