"""Measures speed beside what one would use instead, in turn (A B A B ...) in one process.

  dilated-jax benchmark --suite=conv --output=conv.json
  dilated-jax benchmark --suite=train

conv: `ops.dilated_conv` and its gradients against `lax.conv_general_dilated` as it is.
pool: `ops.max_pool` and its gradient against `lax.reduce_window`.
train: one training step of the full-width front end against PyTorch, where that is installed.
crf: the dense CRF against pydensecrf2 (pip install pydensecrf2; needs a C++ compiler), lattices
  built each time, compilation apart; and the peak memory of a process of each.
crf_rnn: gradients through the CRF-RNN, lattices built each time: on the host, or in the program.
input: training pictures, decoded, zoomed, cropped and mirrored, by threads of ours and by worker
  processes of PyTorch's DataLoader that run the same transform.

Times are medians; quote the ratios, and leave the machine alone while it runs.
"""

import functools
import importlib.util
import inspect
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from dilated_jax import crf, data, files, models
from dilated_jax.data import augmentation, pipeline
from dilated_jax.errors import InputError
from dilated_jax.nn import ops
from dilated_jax.training import optimizers, stages, step as train_step

SUITES = ('conv', 'pool', 'train', 'crf', 'crf_rnn', 'input')


def define_flags(values=flags.FLAGS):
  flags.DEFINE_enum('suite', 'conv', SUITES, 'What is measured.', flag_values=values)
  flags.DEFINE_string('output', None, 'JSON file for the figures.', flag_values=values)
  flags.DEFINE_integer('repeats', 7, 'Runs of each.', lower_bound=1, flag_values=values)
  flags.DEFINE_enum('dataset', 'scenes', data.NAMES, 'Of suite input.', flag_values=values)
  flags.DEFINE_string('data_dir', None, 'Folder of prepared data sets.', flag_values=values)


def main(values=flags.FLAGS):
  suites = {'conv': conv, 'pool': pool, 'train': train, 'crf': dense_crfs, 'crf_rnn': crf_rnns}
  if values.suite == 'input':
    rows = pictures(values.repeats, data.load(values.dataset, 'train', values.data_dir))
  else:
    rows = suites[values.suite](values.repeats)
  machine = f'{jax.devices()[0].device_kind}, {platform.machine()}, jax {jax.__version__}'
  print(machine)
  for row in rows:
    row.setdefault('unit', 'ms')
    line = '{what:52} {ours_ms:9.1f} {unit}  {theirs}: {theirs_ms:9.1f} {unit}  x{ratio:.2f}'
    print(line.format(**row))
  if values.output:
    content = {'machine': machine, 'repeats': values.repeats, 'rows': rows}
    files.write_atomic(values.output, json.dumps(content, indent=2).encode() + b'\n')


def conv(repeats) -> list[dict]:
  """Layers of the front end and the context module, forward and backward."""

  def plain(x, kernel, dilation):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (1, 1),
      'VALID',
      rhs_dilation=(dilation, dilation),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  def passes(function, dilation):
    def forward(x, kernel):
      return function(x, kernel, dilation)

    def loss(x, kernel):
      return forward(x, kernel).sum()

    return {
      'forward': jax.jit(forward),
      'gradient to x': jax.jit(jax.grad(loss, 0)),
      'gradient to kernel': jax.jit(jax.grad(loss, 1)),
    }

  rows = []
  for batch, side, inputs, outputs, size, dilation in (
    (1, 226, 64, 64, 3, 1),
    (1, 66, 256, 256, 3, 1),
    (1, 68, 512, 512, 3, 2),
    (1, 56, 512, 1024, 7, 4),
    (1, 28, 512, 1024, 7, 4),
    (8, 72, 64, 128, 3, 2),
    (8, 72, 21, 21, 3, 4),
    (8, 64, 128, 128, 1, 1),
  ):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, side, side, inputs))
    kernel = jax.random.normal(keys[1], (size, size, inputs, outputs)) / size
    name = f'{batch}x{side}x{side}x{inputs} -> {outputs}, {size}x{size} dilation {dilation}'
    theirs = passes(plain, dilation)
    for what, ours in passes(ops.dilated_conv, dilation).items():
      rows.append(compare(f'{name}, {what}', 'XLA', ours, theirs[what], (x, kernel), repeats))
  return rows


def pool(repeats) -> list[dict]:
  """2x2 pooling at the front end's sizes, forward and gradient."""

  def plain(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), 'VALID')

  def passes(function):
    return {
      'forward': jax.jit(function),
      'gradient': jax.jit(jax.grad(lambda x: (function(x) ** 2).sum())),
    }

  rows = []
  for shape in ((1, 624, 624, 64), (8, 128, 128, 32)):
    x = jax.random.normal(jax.random.key(0), shape)
    theirs = passes(plain)
    for what, ours in passes(ops.max_pool).items():
      name = f'{"x".join(map(str, shape))}, 2x2, {what}'
      rows.append(compare(name, 'XLA', ours, theirs[what], (x,), repeats))
  return rows


def train(repeats, side: int = 404, num_classes: int = 21) -> list[dict]:
  """Forward, backward and update of the VGG-16 front end on one picture."""
  try:
    import torch
  except ImportError:
    raise InputError('suite train compares with PyTorch; pip install torch') from None
  model = models.create('front_end', num_classes)
  optimizer = optimizers.create(optimizers.Options('sgd', 1e-4, weight_decay=0.0), 1000)
  shape = (1, side, side, 3)
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros(shape, np.float32))
  state = train_step.create_state(
    variables, stages.STAGES['front_end'], optimizer, jax.random.key(0)
  )
  del variables
  step = jax.jit(
    train_step.make_step(model, stages.STAGES['front_end'], optimizer, (104.0, 117.0, 123.0)),
    donate_argnums=0,
  )
  rng = np.random.default_rng(0)
  inner = side - 2 * model.margin
  batch = {
    'image': rng.integers(0, 256, shape).astype(np.uint8),
    'label': rng.integers(0, num_classes, (1, inner, inner)).astype(np.uint8),
  }
  states = [state]

  def ours():
    states[0], metrics = step(states[0], batch)
    return metrics

  network = torch_network(model.table)
  descent = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9)
  image = torch.from_numpy(batch['image']).permute(0, 3, 1, 2).float() - 115
  label = torch.from_numpy(batch['label'][:, :: model.stride, :: model.stride]).long()

  def theirs():
    descent.zero_grad()
    loss = torch.nn.functional.cross_entropy(network(image), label)
    loss.backward()
    descent.step()
    return loss.item()

  return [compare(f'front end, training step, {side}x{side}', 'PyTorch', ours, theirs, (), repeats)]


# Height, width, classes.
_CRF_SIZES = {'480x360': (360, 480, 11), '500x375': (375, 500, 21)}


def segmented(height: int, width: int, classes: int):
  """A drawn picture, smooth with edges and some noise, and energies of a network in doubt.

  Returns:
    image uint8 (H, W, 3), and unary energies float32 (H, W, C).
  """
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (height // 60 + 1, width // 60 + 1, 3))
  rows, columns = np.mgrid[:height, :width]
  # Patches whose edges wave, shaded and grainy, as photographs are.
  y = np.clip(rows + 14 * np.sin(columns / 23), 0, height - 1).astype(int) // 60
  x = np.clip(columns + 14 * np.sin(rows / 31), 0, width - 1).astype(int) // 60
  image = coarse[y, x] * (0.7 + 0.3 * rows[..., None] / height) + rng.normal(
    0, 4, (height, width, 3)
  )
  labels = rng.integers(0, classes, coarse.shape[:2])[y, x]
  scores = 2.0 * np.eye(classes)[labels] + rng.normal(0, 1, (height, width, classes))
  scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
  return np.clip(image, 0, 255).astype(np.uint8), -scores.astype(np.float32)


def dense_crfs(repeats) -> list[dict]:
  """Both sizes, two settings, 5 and 10 iterations, set-up included."""
  if not importlib.util.find_spec('pydensecrf'):
    raise InputError('suite crf compares with pydensecrf2; pip install pydensecrf2')
  rows = []
  for size, shape in _CRF_SIZES.items():
    image, unary = segmented(*shape)
    for bilateral in ((80, 13, 10), (160, 3, 5)):
      for iterations in (5, 10):
        options = dict(bilateral=bilateral, iterations=iterations)
        ours = functools.partial(crf.dense_crf, unary, image, **options)
        theirs = functools.partial(pydensecrf2, unary, image, **options)
        start = time.perf_counter()
        difference = abs(ours() - theirs()).max()
        first = time.perf_counter() - start
        name = (
          f'{size}, {shape[2]} classes, sxy {bilateral[0]} srgb {bilateral[1]}, {iterations} it.'
        )
        row = compare(name, 'pydensecrf2', ours, theirs, (), repeats)
        rows.append(row | {'first_call_ms': 1000 * first, 'difference': float(difference)})
    rows.append(memories(size))
  return rows


def pydensecrf2(unary, image, bilateral, iterations):
  """The same by the library."""
  import pydensecrf.densecrf

  height, width, classes = unary.shape
  model = pydensecrf.densecrf.DenseCRF2D(width, height, classes)
  model.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, classes).T))
  model.addPairwiseGaussian(sxy=3, compat=3)
  sxy, srgb, compat = bilateral
  model.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=image, compat=compat)
  return np.array(model.inference(iterations)).T.reshape(unary.shape)


def memories(size: str) -> dict:
  """Peak memory of a process that does it once, 10 iterations, imports included; Linux."""
  image, unary = segmented(*_CRF_SIZES[size])
  # Told by the process itself: what its parent sees counts the parent, from which it was forked.
  peak = 'print(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])'
  calls = {
    'ours': ('from dilated_jax.crf import dense_crf', 'dense_crf(unary, image)'),
    'theirs': (inspect.getsource(pydensecrf2), 'pydensecrf2(unary, image, (80, 13, 10), 10)'),
  }
  peaks = {}
  with tempfile.TemporaryDirectory() as folder:
    np.savez(f'{folder}/given.npz', image=image, unary=unary)
    for name, lines in calls.items():
      given = f'import numpy as np\ngiven = np.load({folder + "/given.npz"!r})'
      program = [given, 'image, unary = given["image"], given["unary"]', *lines, peak]
      done = subprocess.run(
        [sys.executable, '-c', '\n'.join(program)], capture_output=True, text=True, check=True
      )
      peaks[name] = int(done.stdout.split()[-1]) / 1024
  return {
    'what': f'{size}, peak memory of a process', 'theirs': 'pydensecrf2', 'unit': 'MiB',
    'ours_ms': peaks['ours'], 'theirs_ms': peaks['theirs'],
    'ratio': peaks['theirs'] / peaks['ours'],
  }  # fmt: skip


def crf_rnns(repeats) -> list[dict]:
  """Gradients of 5 iterations on whole pictures: lattices made on the host, or in the program."""
  rows = []
  for size, shape in _CRF_SIZES.items():
    image, unary = segmented(*shape)
    logits, images = jnp.asarray(-unary)[None], image[None]
    layer = crf.CrfRnn(shape[2])
    variables = layer.init(jax.random.key(0), logits[:, :8, :8], images[:, :8, :8])

    def loss(variables, logits, images, kernels=None, layer=layer):
      out = layer.apply(variables, logits, images, train=True, kernels=kernels)
      return (out[..., 0] - jax.nn.logsumexp(out, axis=-1)).mean()

    gradient = jax.jit(jax.grad(loss, (0, 1)))

    def ours(variables, logits, images, gradient=gradient, layer=layer):
      return gradient(variables, logits, images, layer.build_kernels(images))

    name = f'{size}, {shape[2]} classes, 5 iterations, forward + gradient'
    rows.append(compare(name, 'in the graph', ours, gradient, (variables, logits, images), repeats))
  return rows


def pictures(repeats, source, batch_size: int = 8, batches: int = 16) -> list[dict]:
  """Batches of training pictures; the figures are of one batch."""
  try:
    import torch.utils.data
  except ImportError:
    raise InputError('suite input compares with PyTorch; pip install torch') from None
  if not hasattr(os, 'sched_setaffinity'):
    raise InputError('suite input chooses cores, which Linux alone lets it do')
  options = augmentation.Augmentation(crop=(256, 256), margin=186, scale=(0.75, 1.5), color=0.4)
  augment = functools.partial(augmentation.augment, options=options)

  class Examples(torch.utils.data.Dataset):
    """What a DataLoader wants."""

    def __len__(self):
      return len(source)

    def __getitem__(self, index):
      return augment(source[index], np.random.default_rng(index))

  def stack(examples):
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}

  rows, cores = [], sorted(os.sched_getaffinity(0))
  for used in sorted({1, len(cores)}):
    os.sched_setaffinity(0, cores[:used])
    mine = pipeline.batches(source, augment, batch_size=batch_size, seed=0, threads=2 * used)
    loader = torch.utils.data.DataLoader(
      Examples(), batch_size, shuffle=True, num_workers=used, collate_fn=stack, drop_last=True,
      persistent_workers=True, multiprocessing_context='fork',
    )  # fmt: skip
    others = itertools.chain.from_iterable(itertools.repeat(loader))

    def ours(mine=mine):
      for _ in range(batches):
        next(mine)

    def theirs(others=others):
      for _ in range(batches):
        next(others)

    row = compare(f'{batch_size} pictures, {used} cores', 'DataLoader', ours, theirs, (), repeats)
    for key in ('ours_ms', 'theirs_ms'):
      row[key] /= batches
    row['pictures_per_second'] = 1000 * batch_size / row['ours_ms']
    rows.append(row)
    mine.close()
  os.sched_setaffinity(0, cores)
  return rows


def torch_network(table):
  """The same layers in PyTorch."""
  from torch import nn

  layers, channels = [], 3
  for layer in table:
    if layer.kind == 'max_pool':
      layers.append(nn.MaxPool2d(layer.kernel, layer.stride, ceil_mode=True))
      continue
    options = dict(dilation=layer.dilation, padding=layer.padding)
    layers.append(nn.Conv2d(channels, layer.channels, layer.kernel, **options))
    if layer.activation:
      layers.append(nn.ReLU(inplace=True))
    if layer.dropout:
      layers.append(nn.Dropout(layer.dropout))
    channels = layer.channels
  return nn.Sequential(*layers)


def compare(what: str, name: str, ours, theirs, arguments: tuple, repeats: int) -> dict:
  """Median times of two functions, run in turn after one run each that is not counted."""
  times = {ours: [], theirs: []}
  for repeat in range(repeats + 1):
    for function in (ours, theirs):
      start = time.perf_counter()
      jax.block_until_ready(function(*arguments))
      if repeat:
        times[function].append(1000 * (time.perf_counter() - start))
  mine, other = (statistics.median(times[function]) for function in (ours, theirs))
  return {
    'what': what, 'theirs': name, 'ours_ms': mine, 'theirs_ms': other, 'ratio': other / mine,
  }  # fmt: skip


if __name__ == '__main__':
  from . import cli

  define_flags()
  cli.run(main)
