"""inputs.py: batches made on the host and on the device are the same, and so is what they train."""

import dataclasses
import itertools
import os
import signal
import threading

from absl import logging
import jax
import numpy as np
import pytest

from dilated_jax.data.augmentation import Augmentation
from dilated_jax.errors import InputError
from dilated_jax.training import inputs, loop, memory
from dilated_jax.training.config import StageConfig
from dilated_jax.training.feature_flip import FeatureFlip
from tests.training import test_loop as toys

# Orbax says so when a checkpoint is read without being told for which devices.
pytestmark = pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning')


def mixed_sizes(count=5):
  rng = np.random.default_rng(0)
  for index in range(count):
    size = (12 + 3 * index, 20 - 2 * index)
    yield {
      'image': rng.integers(0, 256, (*size, 3)).astype(np.uint8),
      'label': rng.integers(0, 3, size).astype(np.uint8),
      'name': str(index),
    }


def taken(given, config, count, first=0):
  """Batches of an input, as a step sees them."""
  batches = given.batches(config, first)
  found = list(itertools.islice(batches, count))
  batches.close()
  if given.render is None:
    return found
  render = jax.jit(given.render)
  return [jax.device_get(render(given.stored, batch)) for batch in found]


def assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('options', [
  Augmentation(), Augmentation(False, random_scale=(0.6, 1.4), border='mean'),
])  # fmt: skip
def test_batches_of_images(options):
  """Of pictures of several sizes, over the end of an epoch."""
  source = list(mixed_sizes())
  config = StageConfig('front_end', 1, batch_size=3, augmentation=options, seed=4)
  host, device = (
    inputs.of_images(dataclasses.replace(config, input=where), source, (16, 8), 3, (90, 80, 70))
    for where in ('host', 'device')
  )
  assert host.stored is None
  assert device.stored['image'].shape == (5, 24, 20, 3)
  assert_equal(taken(device, config, 4, first=2), taken(host, config, 4, first=2))


def test_batches_of_a_dispatch_are_made_while_the_last_one_runs():
  """Else most of them are waited for."""
  made = threading.Semaphore(0)

  def transform(indices, rngs):
    made.release()
    return {'index': np.array(indices)}

  given = inputs.Input(range(9), transform, stored={})
  config = StageConfig('front_end', 100, batch_size=3, steps_per_dispatch=7, threads=2)
  batches = given.batches(config)
  next(batches)
  for _ in range(1 + 7):  # Nobody has asked for the other seven.
    assert made.acquire(timeout=60)
  assert not made.acquire(timeout=0.05)
  batches.close()


@pytest.mark.parametrize('with_images', [False, True])
def test_batches_of_features(with_images):
  rng = np.random.default_rng(0)
  source = [
    {
      'features': rng.random((3, 4, 2), np.float32),
      'inside': rng.random((3, 4)) < 0.8,
      'label': rng.integers(0, 3, (6, 8)).astype(np.uint8),
    }
    | ({'image': rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)} if with_images else {})
    for _ in range(5)
  ]
  config = StageConfig('context', 1, batch_size=4)
  host, device = (
    inputs.of_features(dataclasses.replace(config, input=where), source, FeatureFlip(2))
    for where in ('host', 'device')
  )
  assert_equal(taken(device, config, 3), taken(host, config, 3))


STAGES = [dataclasses.replace(one, num_steps=7, eval_every=4, log_every=2) for one in toys.TWO]


def trained(folder, configs=STAGES, spec=toys.SPEC, **options):
  return toys.run(folder, [dataclasses.replace(one, **options) for one in configs], spec=spec)


@pytest.fixture(scope='module')
def on_host(tmp_path_factory):
  folder = tmp_path_factory.mktemp('host')
  return trained(folder), toys.lines(folder)


def assert_near(found, expected):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def assert_near_lines(found, expected):
  assert [(e['stage'], e['step']) for e in found] == [(e['stage'], e['step']) for e in expected]
  losses = [[e['loss'] for e in entries if 'loss' in e] for entries in (found, expected)]
  np.testing.assert_allclose(*losses, rtol=1e-4)


def test_the_same_training(on_host, tmp_path):
  """Front end and context, with the data on the device: to the last bit."""
  variables, lines = on_host
  assert_equal(trained(tmp_path, input='device'), variables)
  assert toys.lines(tmp_path) == lines


@pytest.mark.parametrize('where, stages', [('host', 1), ('device', 2)])
def test_several_steps_in_one_dispatch(on_host, tmp_path, where, stages):
  """To rounding: the compiler arranges sums otherwise. Reports and checkpoints are the same."""
  variables, lines = on_host
  found = trained(tmp_path, STAGES[:stages], input=where, steps_per_dispatch=3)
  assert_near(found['params']['front_end'], variables['params']['front_end'])
  if stages == 2:
    assert_near(found, variables)
  assert_near_lines(
    toys.lines(tmp_path), [e for e in lines if stages == 2 or e['stage'] == 'front_end']
  )


def test_a_run_that_is_asked_to_end_goes_on_with_another_input(on_host, tmp_path, monkeypatch):
  """From a step that is no multiple of anything; and the signal is heard behind a dispatch."""
  put, calls = inputs.Input.batches, []

  def terminate(self, *arguments):
    for batch in put(self, *arguments):
      calls.append(1)
      if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  config = STAGES[:1]
  with monkeypatch.context() as patch, pytest.raises(loop.Preempted, match='saved after step 3'):
    patch.setattr(inputs.Input, 'batches', terminate)
    trained(tmp_path, config, input='device', steps_per_dispatch=3)
  variables = trained(tmp_path, config, input='host')
  assert_near(variables['params']['front_end'], on_host[0]['params']['front_end'])


def test_eight_devices_and_bands(tmp_path):
  """Each keeps all images, and makes the pixels of its share."""
  common = dict(batch_size=8, crop=(8, 8), num_steps=3, eval_every=0)
  configs = [dataclasses.replace(STAGES[0], **common)]
  spec = dataclasses.replace(toys.SPEC, options={**toys.OPTIONS, 'dropout': 0.0})
  expected = trained(tmp_path / 'host', configs, spec)
  for way, options in (
    ('pmap', dict(steps_per_dispatch=3)),
    ('bands', dict(parallelism='mesh', mesh_height=2)),
  ):
    found = trained(tmp_path / way, configs, spec, input='device', **options)
    assert_near(found, expected)


def test_a_loss_that_is_no_number_is_told_with_its_step(tmp_path):
  wild = toys.OptimizerOptions(learning_rate=1e30)
  configs = [dataclasses.replace(STAGES[0], optimizer=wild, eval_every=0)]
  with pytest.raises(InputError, match=r'front_end diverged at step 2: the loss is (nan|inf)'):
    trained(tmp_path, configs, input='device', steps_per_dispatch=3)


def test_what_the_device_can_not_do_or_hold(monkeypatch, caplog):
  source = list(mixed_sizes())

  def made(**options):
    config = StageConfig('front_end', 1, **options)
    return inputs.of_images(config, source, (8, 8), 0, toys.MEAN)

  turned = Augmentation(random_rotation=5)
  with pytest.raises(InputError, match='`random_rotation` is done on the host alone: give `input='):
    made(input='device', augmentation=turned)
  monkeypatch.setattr(memory, 'free_memory', lambda: 5000)
  with pytest.raises(InputError, match=r"5 training images take .*: give `input='host'`"):
    made(input='device')
  assert made(input='auto').stored is None  # On a CPU.
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  logging.set_verbosity(logging.INFO)
  with caplog.at_level('INFO', logger='absl'):
    assert made(input='auto').stored is None
  assert '5 training images take' in caplog.text and 'they stay on the host' in caplog.text
  monkeypatch.setattr(memory, 'free_memory', lambda: 10**9)
  assert made(input='auto').stored is not None
  assert made(input='auto', augmentation=turned).stored is None
  auto, ten = made(input='auto'), StageConfig('front_end', 1)
  assert auto.steps_per_dispatch(ten) == 10 and made(input='host').steps_per_dispatch(ten) == 1
