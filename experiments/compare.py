"""Runs the paper's comparison again: networks x context modules x CRFs, scored alike.

  dilated-jax compare --recipe=preset:compare/scenes --workdir=runs/compare
  dilated-jax compare --recipe=... --workdir=runs/compare --crfs=none --seeds=0,1,2

A recipe is a folder of flag files: common.flags (data and loop, of every training), one for each
network (front_end.flags, fcn8s.flags, ...) and context module (basic.flags, large.flags), where a
pair needs its own, front_end_basic.flags, rnn.flags (the stage of the CRF-RNN), tune.flags (the
search for the dense CRF, on val), evaluate.flags (how to score, where that is said).
published_SPLIT.json has figures to stand beside: `columns` (classes and mean) and `rows`, by
'network context crf'. A network is trained first, then each context module on its maps, then each
CRF behind; every step is a command that is printed and can be run by itself. What is finished is
not done again while the recipe says the same of the same images and weights; what an edit changes
is run again, and what was there before is kept beside it. A run that was interrupted goes on.

Leaves table.md, classes.md, results.json, grid.png (pictures), bars.png (classes) and a page of all
of it, report.html, in the workdir; the folder of each system has pages of its training and scores.
"""

import json
import pathlib
import re
import statistics

from absl import flags, logging

from dilated_jax import data, models
from dilated_jax.errors import InputError
from dilated_jax.files import write_atomic
from dilated_jax.images.files import encode_png
from dilated_jax.nn import costs, geometry

from . import cli, comparison_images, comparison_records, comparison_tables, flag_files, path_flags
from .commands import run
from .reports import systems

CONTEXTS = ('none', 'basic', 'large')
CRFS = ('none', 'dense', 'rnn')
_PLACES = ('data_dir', 'manual_dir')


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  path_flags.define('recipe', None, 'Folder of flag files, or preset:NAME.', required=True, **into)
  path_flags.define('workdir', None, 'Folder of all results.', required=True, **into)
  flags.DEFINE_list('models', ['front_end'], 'Networks that have a file in the recipe.', **into)
  flags.DEFINE_list('contexts', list(CONTEXTS), f'Which of {", ".join(CONTEXTS)}.', **into)
  flags.DEFINE_list('crfs', list(CRFS), f'Which of {", ".join(CRFS)}.', **into)
  flags.DEFINE_list('seeds', ['0'], 'Seeds; figures are means over them.', **into)
  flags.DEFINE_string('split', 'test', 'Split to report.', **into)
  path_flags.define('data_dir', None, 'Folder of prepared data sets.', **into)
  path_flags.define('manual_dir', None, 'Folder of the raw data set, to prepare it.', **into)
  flags.DEFINE_integer('num_images', 4, 'Rows of grid.png.', lower_bound=1, **into)


def main(values=flags.FLAGS):
  path_flags.check_folder(values, 'workdir')
  recipe = flag_files.locate('recipe', values.recipe)
  workdir = pathlib.Path(values.workdir)
  for name, known in (('models', ()), ('contexts', CONTEXTS), ('crfs', CRFS), ('seeds', ())):
    cli.check_choices(name, values[name].value, known)
  seeds = [cli.parsed('seeds', text, cli.whole) for text in values.seeds]
  needed = {*values.models, *values.contexts, *values.crfs} - {'none', 'dense'}
  needed |= {'tune'} if 'dense' in values.crfs else set()
  if not recipe.is_dir():
    raise InputError(f'--recipe={values.recipe}: is a file; name the folder that it lies in')
  for name in ('common', *sorted(needed)):
    if not (recipe / f'{name}.flags').is_file():
      there = ', '.join(sorted(path.stem for path in recipe.glob('*.flags')))
      raise InputError(
        f'{recipe}: has no {name}.flags; {f"it has {there}" if there else "it is no recipe"}; see '
        'dilated-jax compare --help'
      )
    flags_of = flag_files.expand([f'--flagfile={recipe / name}.flags'])
    for place in _PLACES:
      if any(flag.lstrip('-').startswith(place) for flag in flags_of):
        raise InputError(
          f'{recipe}/{name}.flags: has --{place}, which scoring needs too: give it to compare'
        )
  cells, pictures = [], content(recipe, values)
  for model in values.models:
    for context in values.contexts:
      for crf in values.crfs:
        for seed in seeds:
          cells.append(cell(values, recipe, workdir, model, context, crf, seed, pictures))
        report(values, recipe, workdir, cells)  # As it stands: this may take days.
  print(f'\n{(workdir / "table.md").read_text()}')
  page = comparison_images.image_grid(values, [each for each in cells if each['seed'] == seeds[0]])
  write_atomic(workdir / 'grid.png', encode_png(page))
  systems.write(workdir, cells, published_file(recipe, values), page)
  left = ('table.md', 'classes.md', 'results.json', 'bars.png', 'grid.png', 'report.html')
  for name in left:
    print(workdir / name)


def content(recipe, values) -> str:
  """A digest of the images and labels, which tells of an answer whether it is one to them."""
  flags_of = flag_files.expand([f'--flagfile={recipe / "common.flags"}'])
  given = dict(re.sub('^--?', '', flag).partition('=')[::2] for flag in flags_of)
  name = given.get('dataset', 'scenes')
  splits = (given.get(flag, '') for flag in ('train_split', 'val_split'))
  names = {name, *(part for split in splits for part, _ in data.parts(name, split))}
  digests = (data.fingerprint(each, values.data_dir, values.manual_dir) for each in sorted(names))
  return ' '.join(digests)


def report(values, recipe, workdir, cells):
  """Writes the tables and the bars of the cells so far."""
  published = published_file(recipe, values)
  comparison_tables.write(workdir, published, cells)
  write_atomic(workdir / 'bars.png', encode_png(comparison_images.bars(cells)))
  systems.write(workdir, cells, published)


def published_file(recipe, values) -> pathlib.Path:
  """Where published figures would be."""
  return recipe / f'published_{values.split.replace("/", "_")}.json'


# One cell.


def cell(values, recipe, workdir, model, context, crf, seed, pictures=None) -> dict:
  """Trains and scores one system, or tells what came out of it before."""
  folder = workdir / f'{model}_{context}_{crf}_{seed}'
  result = folder / f'{values.split.replace("/", "_")}.json'
  below = 'none' if crf == 'dense' else crf
  asked = [f'--split={values.split}', '--boundaries']
  if (recipe / 'evaluate.flags').exists():
    asked.append(f'--flagfile={recipe / "evaluate.flags"}')
  system = training_record(recipe, model, context, below, seed, pictures)
  if crf == 'dense':
    system = tuning_record(recipe, system)
  scored = comparison_records.record('evaluate', asked, system)
  if result.exists():
    found = comparison_records.read(result)
    if found.get('recipe') == scored:
      kept, there = found.get('weights_digests'), digests(workdir, model, context, below, seed)
      if kept and all(kept.get(name) == there[name] for name in there if there[name]):
        return found
      told = 'its weights are others'
    else:
      told = comparison_records.changes(found.get('recipe'), scored)
    logging.info('%s: %s, so that it is scored again', result, told)
  places = [f'--{name}={values[name].value}' for name in _PLACES if values[name].value]
  weights = trained(recipe, workdir, model, context, below, seed, places, pictures)
  extra = []
  if crf == 'dense':
    best = tuned(recipe, workdir, model, context, seed, weights, places, pictures)
    extra = [f'--flagfile={best}']
  scores = folder / f'scores_{result.name}'
  run('evaluate', f'--weights={weights}', *extra, *asked, *places, f'--output={scores}')
  found = json.loads(scores.read_text())
  kept = ('mean_iou', 'per_class_iou', 'pixel_accuracy', 'dataset', 'split', 'pictures')
  network = models.load_spec(weights).create()
  source = data.load(found['dataset'], values.split, values.data_dir, values.manual_dir)
  size = source[0]['label'].shape
  fed = [-(-n // network.stride) * network.stride + 2 * network.margin for n in size]
  about = {
    'model': model, 'context': context, 'crf': crf, 'seed': seed, 'weights': str(weights),
    'recipe': scored, 'weights_digests': digests(workdir, model, context, below, seed),
    'flags': pathlib.Path(extra[0].split('=', 1)[1]).read_text().split() if extra else [],
    **{name: found[name] for name in kept},
    'boundary_f1': found['boundary']['boundary_f1'],
    'parameters': parameters(network),
    'gflops': costs.flops(network.table, *fed) / 1e9,
    'receptive_field': geometry.receptive_field(network.table),
    **speed(weights.parent),
  }  # fmt: skip
  write_atomic(result, json.dumps(about, indent=2).encode() + b'\n')
  return about


def trained(recipe, workdir, model, context, crf, seed, places, pictures=None) -> pathlib.Path:
  """The weights of a system, trained where that is still to be done."""
  folder = workdir / f'{model}_{context}_{crf}_{seed}'
  weights, below = folder / 'weights', starts_from(model, context, crf)
  start, now = [], training_record(recipe, model, context, crf, seed, pictures)
  if below:
    before = trained(recipe, workdir, *below, seed, places, pictures)
    start, now = [f'--init={before}'], comparison_records.starting_from(now, before)
  comparison_records.begin(folder, now)
  if (weights / 'model.json').exists():
    return weights
  options = training_options(recipe, model, context, crf, seed)
  if crf == 'none' and context != 'none' and '--stage=joint' not in flag_files.expand(options):
    # Context modules share the maps of their network; one that is trained with it has none.
    start.append(f'--feature_dir={workdir / f"{model}_none_none_{seed}" / "features"}')
  done = run('train', *options, *start, f'--workdir={folder}', *places)
  write_atomic(folder / 'memory.json', json.dumps(done.memory).encode())
  if not (weights / 'model.json').exists():
    raise InputError(f'{folder}: was interrupted; run the same command again to go on')
  return weights


def starts_from(model, context, crf) -> tuple[str, str, str] | None:
  """The system whose weights a system starts from."""
  if crf == 'rnn':
    return model, context, 'none'
  return None if context == 'none' else (model, 'none', 'none')


def digests(workdir, model, context, crf, seed) -> dict[str, str | None]:
  """Of the content of the weights of a system, and of those that it started from, by folder."""
  name, below = f'{model}_{context}_{crf}_{seed}', starts_from(model, context, crf)
  own = {name: comparison_records.weights_digest(workdir / name / 'weights')}
  return own | (digests(workdir, *below, seed) if below else {})


def training_options(recipe, model, context, crf, seed) -> list[str]:
  """What the training of a system is told, but for the folders of this comparison."""
  stage = 'crf' if crf == 'rnn' else 'front_end' if context == 'none' else 'context'
  with_context = context != 'none' and model == 'front_end'
  options = [f'--stage={stage}', f'--model={"dilation8" if with_context else model}']
  options += ['--crf=rnn'] if crf == 'rnn' else []
  options += [f'--context={context}'] if context != 'none' else []
  # Later files overrule earlier ones and what is above, so that each says only what is its own.
  files = [name for name in ('common', model, context, crf) if name != 'none']
  if context != 'none' and (recipe / f'{model}_{context}.flags').exists():
    files.insert(3, f'{model}_{context}')
  return [*options, *(f'--flagfile={recipe / name}.flags' for name in files), f'--seed={seed}']


def training_record(recipe, model, context, crf, seed, pictures=None) -> dict:
  """What the training of a system is told, as the recipe and the images stand."""
  below = starts_from(model, context, crf)
  after = training_record(recipe, *below, seed, pictures) if below else None
  options = training_options(recipe, model, context, crf, seed)
  return comparison_records.record('train', options, after, pictures)


def tuning_record(recipe, training: dict) -> dict:
  """What the search for the dense CRF is told behind a network."""
  return comparison_records.record('tune', [f'--flagfile={recipe / "tune.flags"}'], training)


def tuned(recipe, workdir, model, context, seed, weights, places, pictures=None) -> pathlib.Path:
  """The flags of the best dense CRF for a network, searched on val."""
  folder = workdir / f'{model}_{context}_dense_{seed}'
  training = training_record(recipe, model, context, 'none', seed, pictures)
  now = tuning_record(recipe, training)
  comparison_records.begin(folder, comparison_records.starting_from(now, weights))
  if not (folder / 'best.flags').exists():
    flagfile = f'--flagfile={recipe / "tune.flags"}'
    run('tune', flagfile, f'--weights={weights}', f'--output={folder}', *places)
  return folder / 'best.flags'


def parameters(network) -> int:
  """Numbers that are trained, running statistics not among them."""
  import jax

  from dilated_jax.models import weights_folder

  shapes = weights_folder.abstract_variables(network)
  return sum(x.size for x in jax.tree.leaves(shapes['params']))


def speed(folder) -> dict:
  """Steps a second and the peak memory of the training that made the weights in a folder."""
  memory = folder / 'memory.json'
  lines = map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
  rates = [line['steps_per_second'] for line in lines if line.get('steps_per_second')]
  return {
    'steps_per_second': statistics.median(rates) if rates else None,
    'memory': json.loads(memory.read_text()) if memory.exists() else None,
  }


if __name__ == '__main__':
  define_flags()
  cli.run(main)
