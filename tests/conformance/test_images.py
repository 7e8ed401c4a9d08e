"""Batches of images as the authors' data layer makes them."""

import functools

import numpy as np
import pytest

from dilated_jax.data import augmentation, pipeline
from dilated_jax.models import registry
from dilated_jax.training.stages import STAGES
from tests.conformance import release

MEAN = (116.52, 111.36, 102.93)
MARGIN, STRIDE, AREA = 186, 8, 128  # Inputs of 500 pixels, as train.py feeds by default.


def pictures(*sizes):
  rng = np.random.default_rng(0)
  return [
    {'image': rng.integers(0, 256, (*size, 3), dtype=np.uint8),
     'label': rng.choice(np.array([0, 1, 2, 255], np.uint8), size)}
    for size in sizes
  ]  # fmt: skip


def choices(rng, shape):
  """What `augment` leaves to chance, drawn in its order: the place of the crop, and the mirror."""
  rng.uniform(0, 0)  # The zoom.
  top, left = (int(rng.integers(n - AREA + 1)) if n >= AREA else 0 for n in shape)
  return dict(h_off=top, w_off=left, mirror=bool(rng.random() < 0.5))


def test_the_front_end_has_the_authors_margin_and_stride():
  model = registry.create('front_end', 21)
  assert (model.margin, model.stride) == (MARGIN, STRIDE)


def expected(example, chosen):
  return release.image_label_example(
    example['image'], example['label'], crop=AREA + 2 * MARGIN, margin=MARGIN, stride=STRIDE,
    mean=MEAN, **chosen,
  )  # fmt: skip


def found(batch):
  """What the network is fed and what the loss compares it with."""
  (images,) = STAGES['front_end'].inputs(batch, np.array(MEAN, np.float32))
  return images, batch['label'][:, ::STRIDE, ::STRIDE]


@pytest.mark.parametrize(
  'size', [(200, 140), (128, 128), (127, 300), (90, 61), (128, 75), (33, 20), (1, 2)]
)
def test_images_and_labels(size):
  (example,) = pictures(size)
  seen = set()
  for seed in range(6):
    chosen = choices(np.random.default_rng(seed), size)
    seen.add(chosen['mirror'])
    one = augmentation.augment(
      example, np.random.default_rng(seed), crop=(AREA, AREA), margin=MARGIN
    )
    images, labels = found({key: array[None] for key, array in one.items()})
    image, label = expected(example, chosen)
    np.testing.assert_array_equal(labels[0], label)
    np.testing.assert_array_equal(images[0], image)
  assert seen == {True, False}


def test_whole_batches():
  """Two epochs of batches, each picture once an epoch, in a new order."""
  source = pictures((200, 140), (90, 61), (128, 150), (50, 300))
  transform = functools.partial(augmentation.augment, crop=(AREA, AREA), margin=MARGIN)
  batches = pipeline.batches(source, transform, batch_size=2, seed=3)
  orders = []
  for number in range(4):
    images, labels = found(next(batches))
    for item in range(2):
      position = 2 * number + item
      matches = []
      for index, example in enumerate(source):
        chosen = choices(np.random.default_rng((3, 1, position)), example['label'].shape)
        image, label = expected(example, chosen)
        if (images[item] == image).all() and (labels[item] == label).all():
          matches.append(index)
      assert len(matches) == 1
      orders += matches
  batches.close()
  assert sorted(orders[:4]) == sorted(orders[4:]) == [0, 1, 2, 3] and orders[:4] != orders[4:]
