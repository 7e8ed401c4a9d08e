"""One, two, four and eight devices take the same steps, spread by `pmap` or over a mesh."""

import functools

import jax
import pytest

from dilated_jax.training import parallel
from tests.training.test_parallel import assert_same, one, trained


@pytest.mark.attack
@pytest.mark.parametrize('norm', ['none', 'group', 'batch'])
def test_any_number_of_devices(norm):
  expected = trained(norm, one)
  for count in (2, 4, 8):
    devices = jax.local_devices()[:count]
    for way in (parallel.pmap, parallel.mesh):
      assert_same(trained(norm, functools.partial(way, devices=devices)), expected)
  assert_same(trained(norm, parallel.mesh, height=2), expected)
