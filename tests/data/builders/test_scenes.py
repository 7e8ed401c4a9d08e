"""scenes.py: the landmark, and nothing else, decides what a pixel is called."""

import dataclasses
import itertools

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from dilated_jax.data.builders import scenes
from dilated_jax.data.label_specs import SCENES

seeds = st.integers(0, 3_000_000)
SEA, SNOW, SAIL, TENT, LIGHTHOUSE, CABIN, POLE = range(7)


@settings(max_examples=40)
@given(seeds)
def test_worlds_differ_in_the_landmark_alone(seed):
  sea, sea_label = scenes.draw(seed, 'sea')
  snow, snow_label = scenes.draw(seed, 'snow')
  x0, y0, x1, y1 = scenes.plan(seed).box
  outside = np.ones(sea_label.shape, bool)
  outside[y0:y1, x0:x1] = False
  np.testing.assert_array_equal(sea[outside], snow[outside])
  assert (sea[~outside] != snow[~outside]).any()
  # Every pixel outside means the same thing under another name.
  other = np.array([SNOW, SEA, TENT, SAIL, CABIN, LIGHTHOUSE, POLE])
  np.testing.assert_array_equal(other[sea_label[outside]], snow_label[outside])


@settings(max_examples=40)
@given(seeds)
def test_each_world_has_its_classes(seed):
  for world, classes in (
    ('sea', {SEA, SAIL, LIGHTHOUSE, POLE}),
    ('snow', {SNOW, TENT, CABIN, POLE}),
  ):
    image, label = scenes.draw(seed, world)
    assert image.shape == (128, 160, 3) and image.dtype == np.uint8
    assert label.shape == (128, 160) and label.dtype == np.uint8
    assert set(np.unique(label)) == classes


@settings(max_examples=40)
@given(seeds)
def test_things_keep_clear_of_the_landmark_and_inside(seed):
  layout = scenes.plan(seed)
  x0, y0, x1, y1 = layout.box
  assert 0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 128
  assert 18 <= y1 - y0 <= 26
  assert 3 <= len(layout.triangles) <= 6
  assert 2 <= len(layout.poles) <= 4
  _, label = scenes.draw(seed, 'sea')
  grown = np.zeros(label.shape, bool)
  grown[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = True
  assert not np.isin(label[grown], (SAIL, POLE)).any()
  assert (np.argwhere(label == LIGHTHOUSE) >= (y0, x0)).all()
  assert (np.argwhere(label == LIGHTHOUSE) < (y1, x1)).all()


def test_same_seed_same_pixels_and_other_seed_others():
  image, label = scenes.draw(7)
  again, label_again = scenes.draw(7)
  np.testing.assert_array_equal(image, again)
  np.testing.assert_array_equal(label, label_again)
  assert (scenes.draw(8)[0] != image).any()


@pytest.mark.parametrize('split', scenes.SPLITS)
def test_coin_is_fair(split):
  first, count = scenes.FIRST_SEED[split], 60
  sea = sum((scenes.draw(first + i)[1] == SEA).any() for i in range(count))
  assert abs(sea - count / 2) < 3.5 * np.sqrt(count) / 2


def test_landmark_is_everywhere():
  boxes = np.array([scenes.plan(seed).box for seed in range(800)], float)
  x = boxes[:, 0] / (160 - (boxes[:, 2] - boxes[:, 0]))
  y = boxes[:, 1] / (128 - (boxes[:, 3] - boxes[:, 1]))
  for place in (x, y):  # Evenly from border to border: Kolmogorov-Smirnov against uniform.
    gap = np.abs(np.sort(place) - np.linspace(0, 1, len(place))).max()
    assert gap < 1.95 / np.sqrt(len(place))


def test_splits_share_no_picture():
  ranges = [set(range(scenes.FIRST_SEED[s], scenes.FIRST_SEED[s] + n)) for s, n in
            scenes.SPLITS.items()]  # fmt: skip
  assert len(set.union(*ranges)) == sum(scenes.SPLITS.values())


def test_mean_color_is_that_of_the_training_pictures():
  mean = np.mean([scenes.draw(seed)[0].mean((0, 1)) for seed in range(100)], 0)
  np.testing.assert_allclose(mean, SCENES.mean, atol=3)


def test_pieces_make_the_image_with_the_landmark_anywhere(monkeypatch):
  seed = scenes.FIRST_SEED['test'] + 3
  pieces, layout = scenes.pieces(seed), scenes.plan(seed)
  x0, y0, x1, y1 = layout.box
  free = 3, 100  # Nothing else is there.
  for world, (x, y) in itertools.product(scenes.WORLDS, [(x0, y0), free]):
    box = (x, y, x + x1 - x0, y + y1 - y0)
    monkeypatch.setattr(scenes, 'plan', lambda seed, box=box: dataclasses.replace(layout, box=box))
    image = pieces.background.astype(int)
    landmark = pieces.landmarks[world].astype(int)
    part = image[box[1] : box[3], box[0] : box[2]]
    part[:] = ((16 - landmark[..., :1]) * part + landmark[..., 1:] + 8) // 16
    right, down, strength = pieces.light
    rows, columns = np.linspace(-1, 1, 128)[:, None], np.linspace(-1, 1, 160)
    brightness = 1 + strength * (right * columns + down * rows) / np.sqrt(2)
    expected = np.rint(image.astype(np.float32) * brightness[..., None].astype(np.float32))
    np.testing.assert_array_equal(scenes.draw(seed, world)[0], np.clip(expected, 0, 255))
