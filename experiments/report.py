"""Makes a page of a run, or of several side by side.

  dilated-jax report runs/camvid
  dilated-jax report runs/basic runs/large --output=comparison.html
  dilated-jax report basic.json large.json

A run is the workdir of train, or the JSON file of evaluate. Of one, the page has curves, scores by
class, confusions, images and settings; of several, curves lie over each other, and what differs in
scores and flags stands beside each other. The page is one file that needs nothing else.
"""

from absl import flags

from dilated_jax.errors import InputError, first_line
from dilated_jax.files import write_atomic

from . import cli, path_flags
from .reports import several, single, source


def define_flags(values=flags.FLAGS):
  path_flags.define('output', 'report.html', 'HTML file to write.', flag_values=values)


def main(runs, values=flags.FLAGS):
  if not runs:
    raise InputError('name the runs: workdirs of train, or JSON files of evaluate')
  if len(runs) > 26:
    raise InputError(f'{len(runs)} runs are named; up to 26 can be compared')
  path_flags.check_file(values, 'output')
  found = [source.load(run) for run in runs]
  try:
    content = single.render(found[0]) if len(found) == 1 else several.render(found)
  except _DAMAGED as error:
    raise InputError(f'{_culprit(found)}: no page can be made of it: {_told(error)}') from error
  write_atomic(values.output, content)
  print(f'written to {values.output}')


# What numbers and names lead to that are not as `train` and `evaluate` write them.
_DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def _culprit(sources) -> str:
  """The first run of which no page can be made by itself, or all."""
  for each in sources:
    try:
      single.render(each)
    except _DAMAGED:
      return str(each.path)
  return ', '.join(str(each.path) for each in sources)


def _told(error: Exception) -> str:
  text = first_line(error)
  return f'{text} is missing' if isinstance(error, KeyError) else text


if __name__ == '__main__':
  define_flags()
  cli.run(main, named='runs')
