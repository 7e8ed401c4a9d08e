"""The one file that knows devices: a pure step in, a step on all devices out.

Two ways, equal to rounding. `pmap` gives every device a share of the batch. `mesh` lets the
compiler divide the batch and, with height > 1, each image into bands of rows, whose borders the
devices exchange: for images larger than one device.
"""

from collections.abc import Callable
import functools
import sys
from typing import NamedTuple
import weakref

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.training import loops


class Runner(NamedTuple):
  """Steps on all devices.

  Attributes:
    step: (state, batches) -> (state, metrics): as many steps as there are batches, from `put`; each
      metric is an array with a value a step. The state's memory is reused: do not touch the state
      that was passed in.
    put: moves this process's share of several batches (dicts of NumPy arrays, examples first) to
      the devices.
    put_state: moves a state to all devices.
  """

  step: Callable
  put: Callable
  put_state: Callable


def pmap(
  make: Callable, devices=None, *, stored: dict | None = None, render: Callable | None = None
) -> Runner:
  """Data parallelism by `jax.pmap`, over the devices of all processes.

  The state has no device axis: it goes in and comes out whole (`in_axes`, `out_axes` None).

  Args:
    make: `make(axis_name=...) -> step`, see `training.make_step`.
    devices: devices of this process to use; None takes all.
    stored: arrays that each device is to keep.
    render: makes the batch of a step of these arrays and a batch that was put, see `inputs.Input`.

  Returns:
    A Runner. Its `put` raises InputError where the devices don't divide the share.
  """
  devices = devices or jax.local_devices()
  everywhere = devices if jax.process_count() == 1 else jax.devices()
  steps = _several(make(axis_name='data'), render)
  mapped = jax.pmap(
    steps,
    axis_name='data',
    in_axes=(None, 0) + (None,) * bool(stored),
    out_axes=(None, None),
    devices=devices if jax.process_count() == 1 else None,
    donate_argnums=(0,),
  )
  weakref.finalize(mapped, _forget, steps)
  # Laid out as it will come out of a step: laid out otherwise, JAX would compile the step twice.
  whole = jax.NamedSharding(jax.sharding.Mesh(everywhere, ('data',)), jax.P())

  def put(batches):
    for x in batches[0].values():
      _check_divides(len(x), len(devices), 'images a process', 'devices')

    def one(*arrays):
      parts = [x.reshape(len(devices), 1, -1, *x.shape[1:]) for x in arrays]
      return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    return jax.tree.map(one, *batches)

  return Runner(
    _with_kept(mapped, stored, whole), put, functools.partial(_put_whole, sharding=whole)
  )


def mesh(
  make: Callable,
  devices=None,
  height: int = 1,
  *,
  stored: dict | None = None,
  render: Callable | None = None,
) -> Runner:
  """Data and image parallelism by `jax.jit` over a `data` x `height` mesh.

  Args:
    make: `make(axis_name=...) -> step`, see `training.make_step`.
    devices: devices to use; None takes all of all processes.
    height: bands of rows into which an image is divided; divides the number of devices.
    stored: as for `pmap`.
    render: as for `pmap`.

  Returns:
    A Runner. Where the batch or the rows can't be divided, its `put` raises InputError, or its
    `step` for rows that `render` makes.

  Raises:
    InputError: `height` does not divide the number of devices, or those of a process.
  """
  devices = devices or jax.devices()
  if len(devices) % height:
    raise InputError(
      f'`mesh_height` is {height}; it must divide the number of devices, {len(devices)}'
    )
  grid = jax.make_mesh(
    (len(devices) // height, height),
    ('data', 'height'),
    axis_types=(AxisType.Auto,) * 2,
    devices=devices,
  )
  if any(len({device.process_index for device in row}) > 1 for row in grid.devices):
    raise InputError(
      f'`mesh_height` is {height}; it must divide the number of devices of each of the '
      f'{jax.process_count()} processes, {jax.local_device_count()}: each reads whole images'
    )
  whole = jax.NamedSharding(grid, jax.P())
  bands = jax.NamedSharding(grid, jax.P('data', 'height'))
  # Batches have the steps first; what is to be rendered has no rows yet.
  split = jax.NamedSharding(grid, jax.P(None, 'data', *([] if stored else ['height'])))

  def check_rows(batch):
    for x in batch.values():
      _check_divides(x.shape[1], height, 'rows of the input (crop and margins)', 'bands')

  def rendered(stored, batch):
    batch = render(stored, batch)
    check_rows(batch)
    return jax.lax.with_sharding_constraint(batch, bands)

  step = jax.jit(
    _several(make(axis_name=None), rendered), donate_argnums=0, out_shardings=(whole, whole)
  )

  def put(batches):
    groups = len(devices) // height
    for x in batches[0].values():
      _check_divides(len(x) * jax.process_count(), groups, 'images a batch', 'groups')
    if not stored:
      check_rows(batches[0])
    return {
      name: jax.make_array_from_process_local_data(split, np.stack([b[name] for b in batches]))
      for name in batches[0]
    }

  step = _with_kept(step, stored, whole)
  return Runner(step, put, functools.partial(_put_whole, sharding=whole))


def _forget(steps):
  """Frees a function that was pmapped, and its program.

  What JAX knows of a pmapped function it keeps as long as the function lives, and refers to the
  function in it: both would stay until all caches of JAX are cleared, the caller's own too.
  """
  # Not a public name: where a later JAX has no such cache, there is nothing to do.
  cached = getattr(sys.modules.get('jax._src.pmap'), '_cached_shard_map', None)
  if evict := getattr(cached, 'evict_function', None):
    evict(steps)


def _put_whole(tree, sharding):
  """Arrays that every process has, put on all devices of a sharding, those of others too."""

  def one(x):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      data, kind = one(jax.random.key_data(x)), jax.random.key_impl(x)
      return jax.random.wrap_key_data(data, impl=kind)
    return jax.make_array_from_process_local_data(sharding, np.asarray(x))

  return jax.tree.map(one, tree)


def _with_kept(steps, stored, sharding):
  """The steps with the arrays that devices keep, if there are any."""
  if not stored:
    return steps
  kept = _put_whole(stored, sharding)
  return lambda state, batches: steps(state, batches, kept)


def _several(step, render):
  """Steps one after the other: (state, batches, stored, if any) -> (state, metrics)."""

  def steps(state, batches, *stored):
    def one(state, batch):
      return step(state, render(*stored, batch) if stored else batch)

    return loops.scan(one, state, batches)

  return steps


def local(tree):
  """Arrays that every device holds whole, and others, on the first device of this process.

  Trained parts are on all devices and parts that were read from a file are on one; a compiled
  function takes either, not both.
  """
  first = jax.local_devices()[0]

  def one(x):
    return jax.device_put(x.addressable_data(0) if isinstance(x, jax.Array) else x, first)

  return jax.tree.map(one, tree)


def gather_sum(array: np.ndarray) -> np.ndarray:
  """Sum of an integer array over all processes; on one process, the array."""
  if jax.process_count() == 1:
    return array
  from jax.experimental import multihost_utils

  # JAX has no 64-bit integers by default: two halves of 32 bits travel.
  halves = np.stack([array >> 31, array & (2**31 - 1)]).astype(np.int32)
  high, low = multihost_utils.process_allgather(halves).astype(np.int64).sum(0)
  return (high << 31) + low


def _check_divides(total, parts, what, of):
  if total % parts:
    raise InputError(f'{total} {what} can not be divided among {parts} {of}; take a multiple')
