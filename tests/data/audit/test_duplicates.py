"""Near duplicates and signatures, compared with all pairs."""

import numpy as np
from PIL import Image
import pytest

from dilated_jax.data.audit import duplicates
from dilated_jax.data.builders import scenes


def test_near_duplicates_are_those_of_all_pairs():
  rng = np.random.default_rng(0)
  thumbs = rng.integers(0, 256, (40, 32, 32)).astype(np.uint8)
  thumbs[7] = np.clip(thumbs[3] * 0.8 + rng.normal(0, 4, (32, 32)), 0, 255)
  thumbs[30] = thumbs[11, :, ::-1]
  thumbs[5] = 100  # Of one color, like every other such picture.
  thumbs[6] = 101
  pairs = {(a, b, turned) for a, b, _, turned in duplicates.near_duplicates(thumbs)}
  assert pairs == {(3, 7, False), (11, 30, True)}


def test_near_duplicates_over_the_end_of_a_block(monkeypatch):
  monkeypatch.setattr(duplicates, '_BLOCK', 4)
  test_near_duplicates_are_those_of_all_pairs()


def test_signatures_do_not_see_brightness_and_contrast():
  image = Image.fromarray(scenes.draw(1)[0]).convert('L')
  thumb = np.asarray(image.resize((32, 32), Image.Resampling.BOX))
  changed = np.rint(20 + 0.6 * thumb).astype(np.uint8)
  one, two = duplicates.signatures(np.stack([thumb, changed]))
  assert one @ one == pytest.approx(1, abs=1e-5) and one @ two > 0.99
