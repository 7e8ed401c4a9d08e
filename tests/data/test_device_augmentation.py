"""device_augmentation.py: the pixels of `augment`, which Pillow makes."""

import functools

import jax
import numpy as np
import pytest

from dilated_jax.data import augmentation, device_augmentation
from dilated_jax.data.augmentation import Augmentation

MEAN = (122.68, 116.67, 104.01)
LARGEST = 30, 50
CASES = {
  'crop': Augmentation(),
  'zoom': Augmentation(random_scale=(0.4, 2.0)),
  'smaller': Augmentation(False, random_scale=(0.3, 0.3)),
  'mean': Augmentation(random_scale=(0.7, 1.2), border='mean'),
  'color': Augmentation(random_scale=(0.75, 1.5), color_jitter=0.5),
}


def examples(seed, count):
  """Pictures of all sizes up to the largest, smooth ones and noise."""
  rng = np.random.default_rng(seed)
  for index in range(count):
    height, width = (int(rng.integers(1, side + 1)) for side in LARGEST)
    image = rng.integers(0, 256, (height, width, 3))
    if index % 2:
      image = np.sort(image, axis=1)
    label = rng.integers(0, 11, (height, width))
    yield {'image': image.astype(np.uint8), 'label': label.astype(np.uint8)}


def stacked(given):
  """All of one size, with other numbers beyond smaller ones."""
  stored = {
    'image': np.full((len(given), *LARGEST, 3), 77, np.uint8),
    'label': np.full((len(given), *LARGEST), 7, np.uint8),
  }
  for index, example in enumerate(given):
    rows, columns = example['label'].shape
    for name, array in stored.items():
      array[index, :rows, :columns] = example[name]
  return stored


def differences(case, crop, margin, count=24):
  """Levels by which the images differ; labels must not."""
  options = CASES[case]
  given = list(examples(0, count))
  area = dict(crop=crop, margin=margin, options=options)
  taps = device_augmentation.taps({one['label'].shape for one in given}, options)
  shapes, rngs = [one['label'].shape for one in given], map(np.random.default_rng, range(count))
  numbers = device_augmentation.plan(shapes, list(rngs), taps=taps, **area)
  numbers['index'] = np.arange(count, dtype=np.int32)
  render = functools.partial(device_augmentation.render, fill=options.fill(MEAN))
  found = jax.jit(render)(stacked(given), numbers)
  off = []
  for i, one in enumerate(given):
    expected = augmentation.augment(one, np.random.default_rng(i), mean=MEAN, **area)
    np.testing.assert_array_equal(found['label'][i], expected['label'])
    assert found['image'][i].dtype == expected['image'].dtype
    assert found['image'][i].shape == expected['image'].shape
    off.append(np.abs(np.asarray(found['image'][i]).astype(int) - expected['image']))
  return np.stack(off)


@pytest.mark.parametrize('crop, margin', [((16, 24), 5), ((40, 9), 0)])
@pytest.mark.parametrize('case', [case for case in CASES if case != 'color'])
def test_the_same_pixels_to_the_last_bit(case, crop, margin):
  assert not differences(case, crop, margin).any()


def test_colors_differ_by_one_level_at_most_and_hardly_ever():
  off = differences('color', (24, 30), 7, count=48)
  assert off.max() <= 1 and (off > 0).mean() < 1e-4


def test_photographs(camvid_dir):
  """Frames of CamVid as `camvid_cpu` trains on them, but for the colors: to the last bit."""
  files = sorted((camvid_dir / 'train').glob('*.png'))[:3]
  options = Augmentation(random_scale=(0.75, 1.5))
  from dilated_jax import images

  given = [images.files.read_image(file)[::2, ::2] for file in files]
  shape = given[0].shape[:2]
  stored = {'image': np.stack(given), 'label': np.zeros((3, *shape), np.uint8)}
  area = dict(crop=shape, margin=45, options=options)
  taps = device_augmentation.taps({shape}, options)
  render = jax.jit(device_augmentation.render)
  for seed in range(6):
    index = seed % 3
    rngs = [np.random.default_rng(seed)]
    numbers = device_augmentation.plan([shape], rngs, taps=taps, **area)
    found = render(stored, numbers | {'index': np.array([index], np.int32)})['image'][0]
    example = {'image': given[index], 'label': stored['label'][index]}
    expected = augmentation.augment(example, np.random.default_rng(seed), **area)['image']
    np.testing.assert_array_equal(found, expected)


def test_what_is_sent_is_small():
  """Beside the pixels of CamVid's pictures, as `camvid_cpu` trains on them."""
  options = Augmentation(random_scale=(0.75, 1.5), color_jitter=0.4)
  plan = device_augmentation.plan(
    [(180, 240)], [np.random.default_rng(0)], crop=(180, 240), margin=45, options=options, taps=3
  )
  assert sum(array.nbytes for array in plan.values()) < 0.05 * (270 * 330 * 3 + 180 * 240)
