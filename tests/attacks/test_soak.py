"""Rounds of training, scoring and predicting leave nothing behind in their process."""

import pytest

from tests.attacks import soak


@pytest.mark.attack
def test_nothing_grows(tmp_path):
  """Ten minutes; `python -m tests.attacks.soak 120` takes two hours."""
  rounds = soak.soak(10, tmp_path)
  grown, first = soak.growth(rounds), rounds[soak.WARM_UP]
  assert grown.files <= 0 and grown.threads <= 0
  # TensorStore never frees 0.6 MB of what Orbax asks it a round; a program that stays is 7 MB.
  assert grown.memory < 2 * (len(rounds) - soak.WARM_UP)
  assert grown.seconds < 0.2 * first.seconds
