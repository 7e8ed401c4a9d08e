"""Runs the paper's comparison again: networks x context modules x CRFs, scored alike.

  dilated-jax compare --recipe=preset:compare/scenes --workdir=runs/compare
  dilated-jax compare --recipe=... --workdir=runs/compare --crfs=none --seeds=0,1,2

A recipe is a folder of flag files: common.flags (data and loop, of every training), one for each
network (front_end.flags, fcn8s.flags, ...) and context module (basic.flags, large.flags), where a
pair needs its own, front_end_basic.flags, rnn.flags (the stage of the CRF-RNN), tune.flags (the
search for the dense CRF, on val). published_SPLIT.json has figures to stand beside: `columns`
(classes and mean) and `rows`, by 'network context crf'. A network is trained first, then each
context module on its maps, then each CRF behind; every step is a command that is printed and can be
run by itself. What is finished is not done again, and a run that was interrupted goes on.

Leaves table.md, classes.md, results.json, grid.png (pictures) and bars.png (classes) in the
workdir.
"""

import datetime
import json
import pathlib
import platform
import statistics

from absl import flags
import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dilated_jax import inference
from dilated_jax.crf import DenseCrf
from dilated_jax.data import registry as datasets
from dilated_jax.errors import InputError
from dilated_jax.files import write_atomic
from dilated_jax.images import files as image_files, visualization
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import load_spec
from dilated_jax.nn import geometry

from . import cli, flag_files, predict
from .commands import run
from .tables import markdown, percent

CONTEXTS = ('none', 'basic', 'large')
CRFS = ('none', 'dense', 'rnn')


def define_flags(values=flags.FLAGS):
  into = {'flag_values': values}
  flags.DEFINE_string(
    'recipe', None, 'Folder of flag files, or preset:NAME.', required=True, **into
  )
  flags.DEFINE_string('workdir', None, 'Folder of all results.', required=True, **into)
  flags.DEFINE_list('models', ['front_end'], 'Networks that have a file in the recipe.', **into)
  flags.DEFINE_list('contexts', list(CONTEXTS), f'Which of {", ".join(CONTEXTS)}.', **into)
  flags.DEFINE_list('crfs', list(CRFS), f'Which of {", ".join(CRFS)}.', **into)
  flags.DEFINE_list('seeds', ['0'], 'Seeds; figures are means over them.', **into)
  flags.DEFINE_string('split', 'test', 'Split to report.', **into)
  flags.DEFINE_string('data_dir', None, 'Folder of prepared data sets.', **into)
  flags.DEFINE_string('manual_dir', None, 'Folder of the raw data set, to prepare it.', **into)
  flags.DEFINE_integer('num_images', 4, 'Rows of grid.png.', lower_bound=1, **into)


def main(values=flags.FLAGS):
  recipe = flag_files.locate('recipe', values.recipe)
  workdir = pathlib.Path(values.workdir)
  for name, known in (('models', None), ('contexts', CONTEXTS), ('crfs', CRFS), ('seeds', None)):
    if not values[name].value:
      raise InputError(f'--{name} names none')
    for value in values[name].value:
      if known and value not in known:
        raise InputError(f'--{name}: no {value!r}; choose among {", ".join(known)}')
  seeds = [cli.parsed('seeds', text, int) for text in values.seeds]
  needed = {*values.models, *values.contexts, *values.crfs} - {'none', 'dense'}
  needed |= {'tune'} if 'dense' in values.crfs else set()
  for name in ('common', *sorted(needed)):
    if not (recipe / f'{name}.flags').is_file():
      raise InputError(f'{recipe}: has no {name}.flags; see dilated-jax compare --help')
  cells = []
  for model in values.models:
    for context in values.contexts:
      for crf in values.crfs:
        for seed in seeds:
          cells.append(cell(values, recipe, workdir, model, context, crf, seed))
        report(values, recipe, workdir, cells)  # As it stands: this may take days.
  print(f'\n{(workdir / "table.md").read_text()}')
  image_grid(values, workdir, [each for each in cells if each['seed'] == seeds[0]])
  for name in ('table.md', 'classes.md', 'results.json', 'bars.png', 'grid.png'):
    print(workdir / name)


# One cell.


def cell(values, recipe, workdir, model, context, crf, seed) -> dict:
  """Trains and scores one system, or tells what came out of it before."""
  folder = workdir / f'{model}_{context}_{crf}_{seed}'
  result = folder / f'{values.split.replace("/", "_")}.json'
  if result.exists():
    return json.loads(result.read_text())
  data = [f'--{name}={values[name].value}' for name in ('data_dir', 'manual_dir')
          if values[name].value]  # fmt: skip
  below = 'none' if crf == 'dense' else crf
  weights = trained(recipe, workdir, model, context, below, seed, data)
  extra = []
  if crf == 'dense':
    extra = [f'--flagfile={tuned(recipe, workdir, model, context, seed, weights, data)}']
  scores = folder / f'scores_{result.name}'
  options = [f'--weights={weights}', f'--split={values.split}', '--boundaries', *extra, *data]
  run('evaluate', *options, f'--output={scores}')
  found = json.loads(scores.read_text())
  kept = ('mean_iou', 'per_class_iou', 'pixel_accuracy', 'dataset', 'split', 'pictures')
  network = load_spec(weights).create()
  size = datasets.load(found['dataset'], values.split, values.data_dir, values.manual_dir)[0][
    'label'
  ].shape
  fed = [-(-n // network.stride) * network.stride + 2 * network.margin for n in size]
  about = {
    'model': model, 'context': context, 'crf': crf, 'seed': seed, 'weights': str(weights),
    'flags': pathlib.Path(extra[0].split('=', 1)[1]).read_text().split() if extra else [],
    **{name: found[name] for name in kept},
    'boundary_f1': found['boundary']['boundary_f1'],
    'parameters': parameters(network),
    'gflops': geometry.flops(network.table, *fed) / 1e9,
    'receptive_field': geometry.receptive_field(network.table),
    **speed(weights.parent),
  }  # fmt: skip
  write_atomic(result, json.dumps(about, indent=2).encode() + b'\n')
  return about


def trained(recipe, workdir, model, context, crf, seed, data) -> pathlib.Path:
  """The weights of a system, trained where that is still to be done."""
  folder = workdir / f'{model}_{context}_{crf}_{seed}'
  weights = folder / 'weights'
  if (weights / 'model.json').exists():
    return weights
  below = None
  if crf == 'rnn':
    options, below = ['--stage=crf', '--crf=rnn'], (model, context, 'none')
  elif context != 'none':
    options, below = ['--stage=context'], (model, 'none', 'none')
    options += [f'--feature_dir={workdir / f"{model}_none_none_{seed}" / "features"}']
  else:
    options = ['--stage=front_end']
  with_context = context != 'none' and model == 'front_end'
  options += [f'--model={"dilation8" if with_context else model}']
  options += [f'--context={context}'] if context != 'none' else []
  # Later files overrule earlier ones and what is above, so that each says only what is its own.
  files = [name for name in ('common', model, context, crf) if name != 'none']
  if context != 'none' and (recipe / f'{model}_{context}.flags').exists():
    files.insert(3, f'{model}_{context}')
  options += [f'--flagfile={recipe / name}.flags' for name in files]
  if below:
    options += [f'--init={trained(recipe, workdir, *below, seed, data)}']
  options += [f'--seed={seed}', f'--workdir={folder}', *data]
  done = run('train', *options)
  write_atomic(folder / 'memory.json', json.dumps(done.memory).encode())
  if not (weights / 'model.json').exists():
    raise InputError(f'{folder}: was interrupted; run the same command again to go on')
  return weights


def tuned(recipe, workdir, model, context, seed, weights, data) -> pathlib.Path:
  """The flags of the best dense CRF for a network, searched on val."""
  folder = workdir / f'{model}_{context}_dense_{seed}'
  if not (folder / 'best.flags').exists():
    flagfile = f'--flagfile={recipe / "tune.flags"}'
    run('tune', flagfile, f'--weights={weights}', f'--output={folder}', *data)
  return folder / 'best.flags'


def parameters(network) -> int:
  """Numbers that are trained, running statistics not among them."""
  side = 2 * network.margin + network.stride
  images = jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  shapes = jax.eval_shape(network.init, jax.random.key(0), images)
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


# All of them.


def report(values, recipe, workdir, cells):
  """Writes results.json, table.md, classes.md and bars.png of the cells so far."""
  published = figures(recipe / f'published_{values.split.replace("/", "_")}.json')
  systems = {}
  for each in cells:
    systems.setdefault((each['model'], each['context']), {}).setdefault(each['crf'], []).append(
      each
    )
  crfs = [crf for crf in values.crfs if any(crf in row for row in systems.values())]
  rows, seeds = [], len(values.seeds)
  for (model, context), row in systems.items():
    first = next(iter(row.values()))[0]
    shown = [over_seeds([c['mean_iou'] for c in row.get(crf, [])]) for crf in crfs]
    shown += [over_seeds([c['boundary_f1'] for c in row.get(crf, [])]) for crf in crfs]
    if published:
      shown += [published.get(f'{model} {context} {crf}', {}).get('mean', '-') for crf in crfs]
    rate, memory = first['steps_per_second'], first['memory']
    shown += [
      f'{first["receptive_field"]}', f'{first["parameters"] / 1e6:.3g} M',
      f'{first["gflops"]:.3g}', f'{rate:.3g}' if rate else '-',
      f'{memory / 2**30:.2g} GiB' if memory else '-',
    ]  # fmt: skip
    rows.append((model if context == 'none' else f'{model} + {context}', shown))
  titles = {'none': 'no CRF', 'dense': 'dense CRF', 'rnn': 'CRF-RNN'}
  head = ['mean IoU, %', *(titles[crf] for crf in crfs)]
  head += [f'{titles[crf]}, boundary F1' for crf in crfs]
  head += [f'{titles[crf]}, published' for crf in crfs] if published else []
  head += ['field', 'parameters', 'GFLOPs', 'steps/s', 'memory']
  what = f'{cells[0]["dataset"]} {cells[0]["split"]}, {cells[0]["pictures"]} pictures'
  machine = f'{jax.devices()[0].device_kind}, {platform.machine()}, jax {jax.__version__}'
  note = (
    f'{what}; {seeds} seed{"s" * (seeds > 1)}{", mean ± standard deviation" * (seeds > 1)}'
    f'{"; dense CRFs chosen on val" * ("dense" in crfs)}. Field, parameters, GFLOPs of a picture, '
    f'training speed and peak memory are of the system without a CRF. {datetime.date.today()}, '
    f'{machine}.'
  )
  text = '\n'.join([*markdown(head, rows), '', note, ''])
  write_atomic(workdir / 'table.md', text.encode())
  text = '\n'.join([*by_class(cells, published), '', note, ''])
  write_atomic(workdir / 'classes.md', text.encode())
  write_atomic(workdir / 'results.json', json.dumps(cells, indent=2).encode() + b'\n')
  write_atomic(workdir / 'bars.png', image_files.encode_png(bars(cells)))


def figures(path) -> dict:
  """Published figures as shown: {'network context crf': {class or 'mean': text}}."""
  if not path.exists():
    return {}
  try:
    table = json.loads(path.read_text())
    return {
      name: {
        column: '-' if value is None else f'{float(value)}'
        for column, value in zip(table['columns'], row, strict=True)
      }
      for name, row in table['rows'].items()
    }
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise InputError(f'{path}: is no table of columns and rows ({error})') from error


def by_class(cells, published) -> list[str]:
  """The IoU of every class, as the paper's Tables 2 to 7 have it, published rows below ours."""
  columns = [*cells[0]['per_class_iou'], 'mean']
  systems = {}
  for each in cells:
    found = {**each['per_class_iou'], 'mean': each['mean_iou']}
    systems.setdefault((each['model'], each['context'], each['crf']), []).append(found)
  rows = []
  for parts, found in systems.items():
    name = ' + '.join(part for part in parts if part != 'none')
    rows.append((name, [over_seeds([score[column] for score in found]) for column in columns]))
    if ' '.join(parts) in published:
      given = published[' '.join(parts)]
      rows.append((f'{name}, published', [given.get(column, '-') for column in columns]))
  return markdown(['IoU, %', *columns], rows)


def over_seeds(found) -> str:
  """Mean and spread, in percent."""
  found = [value for value in found if value is not None]
  if not found:
    return '-'
  spread = f' ± {100 * statistics.stdev(found):.1f}' if len(found) > 1 else ''
  return f'{percent(statistics.mean(found))}{spread}'


def title(each) -> str:
  return ' + '.join(each[part] for part in ('model', 'context', 'crf') if each[part] != 'none')


def bars(cells, width: int = 320) -> np.ndarray:
  """The IoU of every class, a bar for each system; (H, W, 3) uint8."""
  systems = {}
  for each in cells:
    systems.setdefault(title(each), []).append(each['per_class_iou'])
  classes, font, step = list(cells[0]['per_class_iou']), ImageFont.load_default(size=13), 16
  left = 16 + int(max(font.getlength(text) for text in (*classes, *systems)))
  height = len(classes) * (step * len(systems) + 28) + 16
  page = Image.new('RGB', (2 * left + width + 60, height), 'white')
  draw, top = ImageDraw.Draw(page), 8
  for name in classes:
    draw.text((8, top), name, 'black', font)
    for index, (system, scores) in enumerate(systems.items()):
      found = [score[name] for score in scores if score[name] is not None]
      value = statistics.mean(found) if found else 0.0
      y = top + index * step
      shade = 40 + 150 * index // max(1, len(systems) - 1) if len(systems) > 1 else 90
      draw.text((left, y), system, (90, 90, 90), font)
      draw.rectangle(
        (2 * left, y + 2, 2 * left + round(width * value), y + step - 2),
        (shade, 90, 190 - shade // 2),
      )
      draw.text((2 * left + width + 8, y), percent(value), 'black', font)
    top += step * len(systems) + 28
  return np.asarray(page)


def image_grid(values, workdir, cells):
  """Draws grid.png: pictures, truths and what each system says."""
  name = cells[0]['dataset']
  source = datasets.load(name, values.split, values.data_dir, values.manual_dir)
  classes = datasets.classes(name, values.data_dir, values.manual_dir)
  chosen = np.linspace(0, len(source) - 1, min(values.num_images, len(source))).astype(int)
  examples = [source[int(index)] for index in chosen]
  rows = [
    [each['image'], visualization.colorize(each['label'], classes.palette)] for each in examples
  ]
  for each in cells:
    segmenter = weights_folder.load_weights(each['weights']).on_device()
    order = classes.class_order(segmenter.spec.classes, 'the weights')
    refine = refinement(each['flags'])
    for row, example in zip(rows, examples, strict=True):
      found = inference.predict(segmenter, example['image'], refine=refine).labels
      row.append(visualization.colorize(order[found], classes.palette))
  page = visualization.image_grid(rows, ['picture', 'truth', *map(title, cells)])
  legend = visualization.legend(classes.names, classes.palette, width=page.shape[1])
  write_atomic(workdir / 'grid.png', image_files.encode_png(np.concatenate([page, legend])))


def refinement(lines) -> DenseCrf | None:
  """The dense CRF of flags that `tune` has left."""
  if not lines:
    return None
  values = flags.FlagValues()
  predict.define_passes(values)
  values(['compare', *lines])
  return predict.refinement(values)


if __name__ == '__main__':
  define_flags()
  cli.run(main)
