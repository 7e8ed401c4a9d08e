"""The folder of a run: what it keeps of its settings, and the weights of its last stage."""

import json
import pathlib
import shutil

import jax

from dilated_jax.errors import InputError
from dilated_jax.files import replace_folder, write_atomic


def check_or_save_config(folder, config: dict) -> None:
  """Writes what a stage is into its folder, or checks that it is the same.

  A stage that ended before its first checkpoint has left nothing to protect: it may change.

  Args:
    folder: of the stage.
    config: JSON-able settings, by name.

  Raises:
    InputError: the folder holds a stage with other settings; says which.
  """
  path = pathlib.Path(folder) / 'config.json'
  config = json.loads(json.dumps(config))
  begun = any((path.parent / 'checkpoints').glob('[0-9]*')) or (path.parent / 'weights').exists()
  if path.exists() and begun:
    try:
      old = dict(json.loads(path.read_text()))
    except ValueError as error:
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


def copy_weights(source, target):
  """Makes `target` the same weights folder as `source`."""
  temporary = target.with_name(f'.{target.name}.new')
  shutil.rmtree(temporary, ignore_errors=True)
  shutil.copytree(source, temporary)
  replace_folder(temporary, target)
