"""What each step of `compare` was told: it counts as finished as long as the recipe says the same.

A record is what the flags of a command are once all flag files are read, the digest of the record
of what it starts from, and those of the images and of the weights that it is given. It is kept as
recipe.json in the folder of the step, from before the step begins.
"""

from collections.abc import Sequence
import hashlib
import json
import pathlib
import re

from absl import logging

from dilated_jax import checksums
from dilated_jax.files import decode_json, format_json, replace_folder, walk, write_atomic
from dilated_jax.temporary import temporary_folder
from dilated_jax.training.config import StageConfig

from . import flag_files, option_flags

# Where data is, and how a step is done, makes it no other step.
_PLACES = {'data_dir', 'manual_dir'}
_FILE = 'recipe.json'


def record(
  command: str,
  options: Sequence[str],
  after: dict | None = None,
  pictures: str | None = None,
) -> dict:
  """The record of a step.

  Args:
    command: that it runs.
    options: of the command, flag files among them.
    after: the record of the step that it starts from.
    pictures: a digest of the images and labels.

  Returns:
    'command', 'flags' by name, 'after', a digest, 'pictures' and, where there are any, 'weights', a
    digest by their path; `json.dumps` can write it.
  """
  aside = _PLACES | {
    option_flags.flag_name(option)
    for option in option_flags.options_of(StageConfig)
    if option.may_change
  }
  flags, weights = {}, {}
  for argument in flag_files.expand(options):
    name, _, value = re.sub('^--?', '', argument).partition('=')
    several = name == 'init' and name in flags  # Of others, what comes later wins.
    flags[name] = f'{flags[name]}, {value}' if several else value
    if name == 'init' and (found := weights_digest(value)):
      weights[value] = found
  flags = {name: flags[name] for name in sorted(flags.keys() - aside)}
  done = {'command': command, 'flags': flags, 'after': after and digest(after)}
  done |= {'weights': weights} if weights else {}
  return done if pictures is None else done | {'pictures': pictures}


def starting_from(now: dict, weights: pathlib.Path) -> dict:
  """A record that also tells the content of the weights of the step before."""
  return now | {'weights': {**now.get('weights', {}), 'before': weights_digest(weights)}}


def weights_digest(path: str | pathlib.Path) -> str | None:
  """A short digest of the content of a weights folder or file; None where there is none."""
  path = pathlib.Path(path)
  if (path / checksums.FILE).is_file():  # Which says it of all files, and is checked with them.
    files = [path / checksums.FILE]
  else:
    files = sorted(walk(path).files) if path.is_dir() else [path] if path.is_file() else []
  if not files:
    return None
  found = hashlib.sha256()
  for file in files:
    with file.open('rb') as content:
      found.update(hashlib.file_digest(content, 'sha256').digest())
  return found.hexdigest()[:16]


def digest(of: dict) -> str:
  """A short digest of a record."""
  return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


def begin(folder: pathlib.Path, now: dict) -> None:
  """Keeps the record of a step; what its folder has of another one is set aside, and told."""
  before = _read(folder / _FILE)
  if before == now:
    return
  if folder.exists():
    aside = _free_name(folder)
    folder.rename(aside)
    logging.info(
      '%s: %s, so that it is run again; what was there is in %s',
      folder, changes(before, now), aside,
    )  # fmt: skip
  # At once: a folder without a record, left by a process that was killed, would be set aside too.
  with temporary_folder(folder) as new:
    write_atomic(new / _FILE, format_json(now))
    replace_folder(new, folder)


def changes(before: dict | None, now: dict) -> str:
  """What of a recipe has changed."""
  if not before:
    return 'nothing tells by which recipe it was made'
  old, new = before['flags'], now['flags']
  found = [
    f'--{name} is {_said(new, name)} and was {_said(old, name)}'
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
  ]
  if not found and before.get('pictures') != now.get('pictures'):
    return 'its images or labels are others'
  if not found and before['after'] == now['after']:
    return 'the weights that it starts from are others'
  if not found:
    return 'what it starts from is another'
  return f'the recipe has changed ({"; ".join(found)})'


def _said(flags: dict, name: str) -> str:
  return (flags[name] or 'set') if name in flags else 'not given'


def read(path: pathlib.Path) -> dict:
  """What was written of a step before; {} where nothing can be read."""
  try:
    found = decode_json(path.read_text())
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _read(path: pathlib.Path) -> dict | None:
  """A record; None where there is none that can be read."""
  found = read(path)
  return found if {'command', 'flags', 'after'} <= found.keys() else None


def _free_name(folder: pathlib.Path) -> pathlib.Path:
  number = 1
  while (path := folder.with_name(f'{folder.name}.before{number}')).exists():
    number += 1
  return path
