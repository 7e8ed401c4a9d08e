"""Many damaged copies of published weights; `tests/weights/test_robustness.py` tries a few."""

import pytest

from tests.weights import test_robustness as few
from tests.weights.conftest import hdf5_server  # noqa: F401


@pytest.mark.attack
@pytest.mark.usefixtures('hdf5_server')
@pytest.mark.parametrize('write', few.KINDS)
def test_many_damaged_files(write, tmp_path, monkeypatch):
  few.check(write, 1500, 1, tmp_path, monkeypatch, vgg=write not in (few.v2, few.v1))
