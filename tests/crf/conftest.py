"""Marginals and gradients of the reference implementations."""

import pathlib

import numpy as np
import pytest


@pytest.fixture(scope='session')
def reference() -> dict:
  """A drawn picture of 64x80 pixels and 5 classes, and what others make of it.

  `Q_*` are marginals of pydensecrf at commit 2723c7f, `exact_*` of the exact sum in float64,
  `rnn_*` of crfasrnn_pytorch at commit 24899c5; maps of them hold every second column.
  """
  with np.load(pathlib.Path(__file__).with_name('reference.npz')) as file:
    return dict(file)
