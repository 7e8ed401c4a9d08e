"""Trains, evaluates, predicts and looks, all on the embedded data set (`make demo`).

Trains a front end on `scenes`, then on its maps the context modules basic and large, and a control
of as many weights as basic but with every dilation 1. Each step is a command that you can run
yourself; it is printed before it runs. Ends with the scores on the test pictures, the evidence that
they come from the far field, a sheet of pictures, and a page in which the network runs. A second
call goes on where one stopped.
"""

import json
import pathlib
import shlex

from absl import flags
import numpy as np
from scipy import ndimage

from dilated_jax import data, inference, models
from dilated_jax.errors import InputError
from dilated_jax.files import write_atomic
from dilated_jax.images import files as image_files, visualization
from dilated_jax.nn import geometry

from . import cli, path_flags
from .commands import run
from .tables import markdown, percent

NAMES = data.classes('scenes').names

# Name of the folder -> title, and the flags of its training.
SYSTEMS = {
  'front_end': (
    'front end',
    '--model=front_end --stage=front_end --num_steps=500 --learning_rate=5e-3 --class_weights=log',
  ),
  'control': (
    '+ control',
    '--stage=context --dilations=1,1,1,1,1,1,1 --num_steps=900 --learning_rate=5e-3',
  ),
  'basic': ('+ basic', '--stage=context --num_steps=900 --learning_rate=5e-3'),
  'large': (
    '+ large',
    '--stage=context --context=large --padding=same --num_steps=600 --learning_rate=5e-4',
  ),
}
# Rings around the landmark that decides what all else is, in pixels: half the receptive field (of
# the front end 38, of the control 150) and a cell that upsampling blends in.
RINGS = (0, 27, 83, 160)


def define_flags(values=flags.FLAGS):
  path_flags.define('workdir', 'demo', 'Folder of all results.', flag_values=values)
  flags.DEFINE_integer('seed', 0, 'Of weights and order.', lower_bound=0, flag_values=values)
  flags.DEFINE_list(
    'systems', list(SYSTEMS), f'Which of {", ".join(SYSTEMS)}, in this order.', flag_values=values
  )


def main(values=flags.FLAGS):
  path_flags.check_folder(values, 'workdir')
  workdir = pathlib.Path(values.workdir)
  cli.check_choices('systems', values.systems, SYSTEMS)
  for name in values.systems:
    train(name, workdir, values.seed)
  show(values.systems[-1], workdir)
  report(values.systems, workdir)
  explore(values.systems, workdir)


def train(name: str, workdir: pathlib.Path, seed: int):
  """Trains one system and scores it on the test pictures."""
  data_dir = f'--data_dir={workdir / "data"}'
  options = [
    *shlex.split(SYSTEMS[name][1]),
    f'--seed={seed}',
    f'--workdir={workdir / name}',
    data_dir,
  ]
  if name != 'front_end':
    options.append(f'--init={workdir / "front_end" / "weights"}')
    options.append(f'--feature_dir={workdir / "features"}')
  run('train', '--flagfile=preset:scenes', '--log_every=100', *options)
  if not (workdir / name / 'weights' / 'model.json').exists():
    raise InputError(f'{name} was interrupted; run the same command again to go on')
  weights, output = f'--weights={workdir / name / "weights"}', f'--output={workdir / name}.json'
  run('evaluate', weights, '--split=test', output, data_dir)


def show(name: str, workdir: pathlib.Path):
  """Labels a folder of pictures, as a user would."""
  source = data.load('scenes', 'test', workdir / 'data')
  for example in (source[i] for i in range(6)):
    path = workdir / 'pictures' / f'{example["name"]}.png'
    write_atomic(path, image_files.encode_png(example['image']))
  folders = [f'--inputs={workdir / "pictures"}', f'--output={workdir / "predictions"}']
  run('predict', f'--weights={workdir / name / "weights"}', *folders, '--save=labels,overlays')


def explore(names, workdir: pathlib.Path):
  """Writes the explorer's page with a network that runs in it: a small one, if it was trained."""
  name = 'basic' if 'basic' in names else names[-1]
  run('explore', f'--weights={workdir / name / "weights"}', f'--output={workdir / "explorer.html"}')


def report(names, workdir: pathlib.Path):
  """Prints the tables and draws the sheet."""
  segmenters = [models.load_weights(workdir / name / 'weights') for name in names]
  source = data.load('scenes', 'test', workdir / 'data')
  examples = [source[i] for i in range(len(source))]
  images = np.stack([example['image'] for example in examples])
  labels = np.stack([example['label'] for example in examples])
  predictions = [predict(segmenter, images) for segmenter in segmenters]

  others = np.stack([exchanged(i, label) for i, label in enumerate(labels)])
  changed = [
    prediction != predict(segmenter, others)
    for prediction, segmenter in zip(predictions, segmenters, strict=True)
  ]

  rings = np.stack([distance(label) for label in labels])
  # What the landmark alone decides.
  decided = np.isin(labels, [NAMES.index(name) for name in ('sea', 'snow', 'sail', 'tent')])
  titles = [SYSTEMS[name][0] for name in names]
  scores = [json.loads((workdir / f'{name}.json').read_text()) for name in names]
  fields = [geometry.receptive_field(segmenter.model.table) for segmenter in segmenters]
  rows = [('receptive field, pixels', [f'{field}' for field in fields])]
  rows.append(('mean IoU', [percent(score['mean_iou']) for score in scores]))
  for name in scores[0]['per_class_iou']:
    rows.append((f'IoU {name}', [percent(score['per_class_iou'][name]) for score in scores]))
  for near, far in zip(RINGS, RINGS[1:], strict=False):
    ring = decided & (rings >= near) & (rings < far)
    right = [percent((prediction == labels)[ring].mean()) for prediction in predictions]
    rows.append((f'right, {near} to {far - 1} pixels from the landmark', right))
  ring = decided & (rings >= RINGS[1])
  follows = [percent(change[ring].mean()) for change in changed]
  rows.append((f'changes with the landmark, {RINGS[1]} pixels and farther', follows))
  text = '\n'.join(markdown([f'scenes, {len(images)} test pictures', *titles], rows))
  print(f'\n{text}\n')
  write_atomic(workdir / 'table.md', text.encode() + b'\n')

  palette = data.classes('scenes').palette
  shown = range(0, len(images), max(1, len(images) // 6))[:6]
  grid = visualization.image_grid(
    [
      [images[i], *(visualization.colorize(ids[i], palette) for ids in (labels, *predictions))]
      for i in shown
    ],
    ['picture', 'truth', *titles],
  )
  legend = visualization.legend(NAMES, palette, width=grid.shape[1])
  write_atomic(workdir / 'grid.png', image_files.encode_png(np.concatenate([grid, legend])))
  print(f'tables: {workdir / "table.md"}\npictures: {workdir / "grid.png"}')


def predict(segmenter, images) -> np.ndarray:
  """Labels images of one size, a few at a time; (N, H, W) uint8."""
  segmenter = segmenter.on_device()
  return np.concatenate(
    [inference.label_maps(segmenter, images[i : i + 8]) for i in range(0, len(images), 8)]
  )


def distance(label: np.ndarray) -> np.ndarray:
  """Pixels from each pixel to the landmark, along the farther axis (as square fields see it)."""
  landmark = np.isin(label, [NAMES.index('lighthouse'), NAMES.index('cabin')])
  return ndimage.distance_transform_cdt(~landmark, metric='chessboard')


def exchanged(index: int, label: np.ndarray) -> np.ndarray:
  """Test picture `index` with the other landmark in the place of its own, and nothing else new."""
  from dilated_jax.data.builders import scenes  # With TFDS, which takes a second to import.

  world = 'snow' if NAMES.index('sea') in label else 'sea'
  return scenes.draw(scenes.FIRST_SEED['test'] + index, world)[0]


if __name__ == '__main__':
  define_flags()
  cli.run(main)
