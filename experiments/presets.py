"""Lists the flag files and recipes that come with the project.

  dilated-jax presets
  dilated-jax train --flagfile=preset:camvid_cpu --workdir=runs/camvid --manual_dir=FOLDER
  dilated-jax compare --recipe=preset:compare/scenes --workdir=runs/compare

The head of each file tells what it is for, the whole command, the time it takes and what came out.
"""

from absl import flags

from . import cli, flag_files


def define_flags(values=flags.FLAGS):
  """There are none."""


def main(values=flags.FLAGS):
  recipes = flag_files.recipes()
  runs = {
    name: path for name, path in flag_files.presets().items() if path.parent not in recipes.values()
  }
  width = max(map(len, [*runs, *recipes]))
  print('For train, by --flagfile:')
  for name, path in runs.items():
    print(f'  preset:{name:{width}}  {summary(path)}')
  print('\nFor compare, by --recipe:')
  for name, path in recipes.items():
    print(f'  preset:{name:{width}}  {summary(path / "common.flags")}')
  print(f'\nThe files are in {flag_files.PRESETS}')


def summary(path) -> str:
  """The first line of a flag file's head."""
  return path.read_text(encoding='utf-8').partition('\n')[0].lstrip('# ')


if __name__ == '__main__':
  define_flags()
  cli.run(main)
