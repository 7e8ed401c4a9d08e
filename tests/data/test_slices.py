"""Slices of splits that are not valid."""

import pytest

from dilated_jax import data
from dilated_jax.errors import InputError


@pytest.mark.parametrize('split', ['train[:10%', 'train[5:5]', 'train[:0]', 'train[99999:]'])
def test_a_wrong_slice_is_not_called_damage(tmp_path, split):
  data.prepare('scenes', tmp_path, counts={'train': 3, 'val': 1, 'test': 1})
  with pytest.raises(InputError, match='slice') as raised:
    data.load('scenes', split, tmp_path)
  assert 'damaged' not in str(raised.value)
