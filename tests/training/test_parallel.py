"""parallel.py: one device, eight devices, pmap and mesh do the same thing."""

import functools
import gc
import weakref

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.nn import geometry
from dilated_jax.training import optimizers, parallel, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions
from experiments.benchmarks import collectives

MEAN = (100.0, 110.0, 120.0)
NARROW = {'blocks': (1,), 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
STEPS = 3


def setup(norm):
  model = models.create('front_end', 3, dropout=0, norm=norm, **NARROW)
  rng = np.random.default_rng(0)
  shapes = weights_folder.abstract_variables(model)

  def leaf(path, x):
    name = path[-1].key
    if name == 'kernel':
      return np.float32(0.3) * rng.standard_normal(x.shape, np.float32)
    return np.full(x.shape, name in ('scale', 'var'), np.float32)

  return model, jax.tree_util.tree_map_with_path(leaf, shapes)


def batches(model):
  """Batches of eight pictures, of which some have many void pixels and some nothing else."""
  rng = np.random.default_rng(1)
  for _ in range(STEPS):
    image = rng.integers(
      0, 256, (8, 8 + 2 * model.margin, 12 + 2 * model.margin, 3), dtype=np.uint8
    )
    label = rng.integers(0, 3, (8, 8, 12)).astype(np.uint8)
    label[rng.random(label.shape) < rng.permutation(np.linspace(0, 1, 8))[:, None, None]] = 255
    yield {'image': image, 'label': label}


def trained(norm, way, jaccard_loss=0.0, **options):
  model, variables = setup(norm)
  stage = stages.STAGES['front_end']
  optimizer = optimizers.create(OptimizerOptions(learning_rate=0.02), STEPS)
  make = functools.partial(
    train_step.make_step, model, stage, optimizer, MEAN, jaccard_loss=jaccard_loss
  )
  runner = way(make, **options)
  state = train_step.create_state(variables, stage, optimizer, jax.random.key(0))
  state = runner.put_state(state)
  seen = []
  for batch in batches(model):
    state, metrics = runner.step(state, runner.put([batch]))
    seen.append({name: np.asarray(value[0]) for name, value in metrics.items()})
  assert int(state.step) == STEPS
  return seen, jax.device_get((state.params, state.batch_stats, state.opt_state))


def one(make):
  return parallel.pmap(make, jax.local_devices()[:1])


def assert_same(found, expected):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize('norm', ['none', 'group', 'batch'])
def test_eight_devices_are_one(norm):
  """Also under batch normalization, whose statistics are those of the whole batch."""
  assert jax.device_count() == 8
  expected = trained(norm, one)
  assert_same(trained(norm, parallel.pmap), expected)
  if norm == 'batch':
    assert_same(trained(norm, parallel.mesh), expected)
    assert_same(trained(norm, parallel.mesh, height=2), expected)


def test_the_jaccard_loss_of_eight_devices_is_that_of_one():
  """The IoU is that of all their pixels together."""
  expected = trained('none', one, jaccard_loss=0.7)
  assert_same(trained('none', parallel.pmap, jaccard_loss=0.7), expected)
  assert_same(trained('none', parallel.mesh, jaccard_loss=0.7, height=2), expected)


@pytest.mark.parametrize('way', [one, parallel.pmap, parallel.mesh])
def test_the_step_is_compiled_once(way):
  traced = []

  def make(axis_name):
    def step(state, batch):
      traced.append(state)
      total = batch['x'].sum()
      total = jax.lax.psum(total, axis_name) if axis_name else total
      return {'sum': state['sum'] + total, 'key': state['key']}, total

    return step

  runner = way(make)
  state = runner.put_state({'sum': np.float32(0), 'key': jax.random.key(0)})
  for _ in range(STEPS):
    state, _ = runner.step(state, runner.put([{'x': np.ones((8, 4), np.float32)}]))
  assert float(state['sum']) == STEPS * 32 and len(traced) == 1


@pytest.mark.parametrize('way', [one, parallel.pmap, parallel.mesh])
def test_a_runner_leaves_nothing_behind(way):
  """Of many runs in one process each would keep its program for ever."""
  kept = []

  def make(axis_name):
    def step(state, batch):
      return state + batch['x'].sum(), batch['x'].sum()

    kept.append(weakref.ref(step))
    return step

  runner = way(make)
  runner.step(runner.put_state(np.float32(0)), runner.put([{'x': np.ones((8, 4), np.float32)}]))
  assert kept[0]()
  del runner
  gc.collect()
  assert not kept[0]()


def test_mesh_divides_pictures_into_bands():
  model, variables = setup('none')
  optimizer = optimizers.create(OptimizerOptions(), 1)
  make = functools.partial(train_step.make_step, model, stages.STAGES['front_end'], optimizer, MEAN)
  batch = next(batches(model))
  put = parallel.mesh(make, height=2).put([batch])
  shards = {shard.data.shape for shard in put['image'].addressable_shards}
  assert shards == {(1, 2, (8 + 2 * model.margin) // 2, *batch['image'].shape[2:])}
  np.testing.assert_array_equal(put['label'][0], batch['label'])


@pytest.mark.parametrize('way', [one, parallel.pmap, parallel.mesh])
def test_all_steps_are_one_program(way):
  """A state that is placed otherwise than a step returns it would compile a second one."""
  traced = []

  def make(axis_name):
    def step(state, batch):
      traced.append(axis_name)
      return jax.tree.map(lambda x: x + 1, state), batch['x'].sum()

    return step

  runner = way(make)
  state = runner.put_state({'a': jax.numpy.zeros(3), 'b': np.zeros(2, np.float32)})
  for _ in range(3):
    state, _ = runner.step(state, runner.put([{'x': np.zeros((8, 4, 4, 1), np.float32)}]))
  assert len(traced) == 1


def sent_in_bands(name, stage, size, **options):
  """What a step sends on a mesh of 2 x 4 devices, and the network."""
  text = collectives.compiled_step(8, name, options, stage, size, 'mesh', height=4)
  return collectives.of_program(text), models.create(name, 21, **options)


def rows_sent(found, layer):
  """Rows that the forward pass of a layer sends down and up, in the order of the program."""
  return sorted(
    each['shapes'][0][1]
    for each in found
    if each['kind'] == 'collective-permute'
    and f'/{layer}/' in each['name']
    and 'transpose' not in each['name']
  )


def test_bands_exchange_as_many_rows_as_layers_reach():
  """Padded layers: dilation * (kernel - 1) / 2 rows on each side, and nothing is gathered."""
  found, model = sent_in_bands('dilation8', 'context', [128, 8])
  for layer in model.context_table:
    reach = layer.dilation * (layer.kernel - 1) // 2
    assert set(rows_sent(found, layer.name)) == ({reach} if reach else set()), layer.name
  assert {each['kind'] for each in found} == {'all-reduce', 'collective-permute'}


def test_bands_of_layers_without_padding(monkeypatch):
  """Bands of the output begin elsewhere than those of the input: less from one side, more from the
  other; nothing is gathered where a band is as high as fc6 reaches."""
  # As on GPUs and TPUs; CPUs are given another form of fc6.
  monkeypatch.setattr(jax.lax, 'platform_dependent', lambda *x, default, **_: default(*x))
  found, model = sent_in_bands('front_end', 'front_end', [512, 8], width=1 / 32)
  height = 512 + 2 * model.margin
  for layer, below in zip(model.table, geometry.output_sizes(model.table, height)):
    if layer.kind == 'conv' and layer.kernel > 1:
      before, after = -(-height // 4), -(-below // 4)  # Rows of a band.
      reach = layer.dilation * (layer.kernel - 1)
      wanted = {3 * (before - after), after + reach - before} - {0}
      assert set(rows_sent(found, layer.name)) == wanted, layer.name
    height = below
  assert {each['kind'] for each in found} == {'all-reduce', 'collective-permute'}


def plain(axis_name):
  return lambda state, batch: (state, batch['x'].sum())


def test_what_can_not_be_divided_is_refused():
  with pytest.raises(InputError, match='12 images a process can not be divided among 8 devices'):
    parallel.pmap(plain).put([{'x': np.zeros((12, 4))}])
  with pytest.raises(InputError, match='12 images a batch can not be divided among 8 groups'):
    parallel.mesh(plain).put([{'x': np.zeros((12, 4))}])
  with pytest.raises(InputError, match=r'9 rows of the input .* among 4 bands'):
    parallel.mesh(plain, height=4).put([{'x': np.zeros((2, 9))}])
  with pytest.raises(InputError, match='`mesh_height` is 3; it must divide the number of devices'):
    parallel.mesh(plain, height=3)


def test_local_brings_all_to_one_device():
  everywhere = jax.device_put(
    np.arange(3.0, dtype=np.float32),
    jax.NamedSharding(jax.make_mesh((8,), ('data',)), jax.P()),
  )
  last = jax.device_put(np.ones(3, np.float32), jax.devices()[-1])
  found = parallel.local({'a': everywhere, 'b': last, 'c': np.full(3, 2.0, np.float32)})
  assert {device for x in found.values() for device in x.devices()} == {jax.devices()[0]}
  np.testing.assert_array_equal(sum(found.values()), np.arange(3) + 3)


def test_gather_sum_of_one_process():
  array = np.array([[2**40, 1], [0, 7]])
  np.testing.assert_array_equal(parallel.gather_sum(array), array)
