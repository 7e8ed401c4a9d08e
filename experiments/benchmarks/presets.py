"""Whole training steps of presets beside the same network in PyTorch.

Of both: one batch of drawn pictures that is in memory already, forward, loss, backward and update.
PyTorch runs channels-last with the labels, the upsampling, the class weights and the optimizer that
the preset states. Ours also counts the accuracy and the norm of the gradient.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import flags
import jax
import numpy as np

from dilated_jax import data, models
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.nn import costs
from dilated_jax.training.config import StageConfig
from dilated_jax.training.stages import STAGES

from .. import flag_files, networks, train
from . import peers
from .timing import compare
from .training_step import training_step


class Case(NamedTuple):
  """A stage of a preset, and the size of its pictures.

  Attributes:
    preset: its name, and flags beside it.
    stage: which of its stages.
    size: height and width of the label area of a picture.
  """

  preset: str
  stage: str
  size: tuple[int, int]


CASES = (
  Case('scenes --model=front_end', 'front_end', (128, 160)),
  Case('scenes', 'context', (128, 160)),
  Case('scenes --context=large --padding=same', 'context', (128, 160)),
  Case('camvid_cpu', 'front_end', (180, 240)),
  Case('camvid_cpu', 'joint', (180, 240)),
  Case('folder', 'front_end', (192, 256)),
  Case('folder', 'joint', (192, 256)),
  Case('scenes_resnet', 'front_end', (128, 160)),
  Case('scenes_resnet --model=pspnet', 'front_end', (128, 160)),
  Case('scenes_deeplab', 'front_end', (128, 160)),
  Case('scenes_fcn', 'front_end', (128, 160)),
  Case('related/pspnet --batch_size=2', 'front_end', (185, 185)),
  Case('related/deeplab_largefov --batch_size=1', 'front_end', (321, 321)),
)
_CLASSES = 11  # Of folder, whose classes are those of the user; as CamVid has.


def run(values) -> Iterator[dict]:
  """Milliseconds of a step of each case, and pictures a second."""
  for case in CASES:
    config, model, batch, mean = prepared(case)
    ours = training_step(
      model, STAGES[config.stage], config.optimizer, mean, jax.device_put(batch),
      num_steps=config.num_steps, loss_resolution=config.loss_resolution,
      class_weights=class_weights(config, model),
    )  # fmt: skip
    torch = peers.pytorch(values)
    theirs = torch and of_torch(torch, config, model, batch)
    count = len(batch['label'])
    what = f'{case.preset}, {case.stage}, {"x".join(map(str, (count, *case.size)))}'
    point = f'{case.preset}, {case.stage}'
    row = compare(
      what, 'PyTorch', ours, theirs, (), values.repeats, point=point, **work(model, batch)
    )
    yield row | {'images_per_second': 1000 * count / row['ours_ms']}


def work(model: SegmentationModel, batch: dict) -> dict[str, float]:
  """FLOPs and bytes of a step by geometry: forward, and as much again for each of two gradients."""
  if 'features' in batch:
    table, given = model.context_table, batch['features']
  else:
    table, given = model.table, batch['image']
  count, *size = given.shape
  return {
    'flops': 3 * count * costs.flops(table, *size),
    'bytes': 3 * costs.traffic_bytes(table, *size, batch=count),
  }


def prepared(case: Case) -> tuple[StageConfig, SegmentationModel, dict[str, np.ndarray], Any]:
  """What a stage is told, its network, a drawn batch, and the mean color."""
  name, *more = case.preset.split()
  values = flags.FlagValues()
  train.define_flags(values)
  given = [f'--flagfile=preset:{name}', *more, f'--stage={case.stage}', '--workdir=none']
  if name in ('camvid_cpu', 'folder'):  # Their values are of two stages, of which one is asked for.
    given[-2] = '--stage=front_end,joint'
  values(['train', *flag_files.expand(given)])
  config = next(c for c in train.stage_configs(values) if c.stage == case.stage)
  if values.dataset == 'folder':
    count, mean = _CLASSES, (100.0, 100.0, 100.0)
  else:
    classes = data.classes(values.dataset)
    count, mean = classes.num_classes, classes.mean
  stage = STAGES[case.stage]
  model = stage.network(models.create(values.model, count, **networks.options(values)))
  rng = np.random.default_rng(0)
  batch = {'label': rng.integers(0, count, (config.batch_size, *case.size)).astype(np.uint8)}
  batch['label'] = np.kron(batch['label'][:, ::8, ::8], np.ones((1, 8, 8), np.uint8))
  batch['label'] = batch['label'][:, : case.size[0], : case.size[1]]
  if stage.frozen:
    grid = [-(-side // model.stride) for side in case.size]
    batch['features'] = rng.normal(size=(config.batch_size, *grid, count)).astype(np.float32)
  else:
    inside = [side + 2 * model.margin for side in case.size]
    batch['image'] = rng.integers(0, 256, (config.batch_size, *inside, 3)).astype(np.uint8)
  return config, model, batch, mean


def class_weights(config: StageConfig, model: SegmentationModel) -> np.ndarray | None:
  """Weights of the classes, where the stage asks for some."""
  if config.class_weights == 'none':
    return None
  return np.linspace(0.5, 1.5, model.num_classes).astype(np.float32)


def of_torch(torch: peers.Peer, config: StageConfig, model: SegmentationModel, batch: dict):
  """The same as a job of a process with PyTorch."""
  on_features = 'features' in batch
  full = config.loss_resolution == 'full' or model.full_size
  step = 1 if full else model.stride
  options = config.optimizer
  return torch.job(
    'training_step',
    layers=peers.layers_of(
      model.context_table if on_features else model.table, model.num_classes if on_features else 3
    ),
    images=batch['features' if on_features else 'image'],
    label=batch['label'][:, ::step, ::step],
    optimizer='adamw' if options.name == 'adamw' else 'sgd',
    learning_rate=options.learning_rate,
    momentum=options.momentum,
    weight_decay=options.weight_decay,
    upsampling=model.stride if full and not model.full_size else 1,
    class_weights=class_weights(config, model),
  )
