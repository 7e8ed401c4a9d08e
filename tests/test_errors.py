"""The exception for wrong input."""

import pytest

from dilated_jax.errors import InputError


def test_input_error_is_a_value_error_with_its_message():
  with pytest.raises(ValueError, match=r'^labels/7\.png: found 12$'):
    raise InputError('labels/7.png: found 12')
