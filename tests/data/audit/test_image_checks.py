"""Gray images, videos in several splits, images that are all similar."""

import numpy as np
from PIL import Image

from dilated_jax.data import audit
from dilated_jax.data.builders import scenes
from tests.data.audit.planted import Pair, draw, found, gray_picture, kinds, run


def test_gray_pictures_all_over(tmp_path):
  for pair in draw(tmp_path, 6, 2):
    gray_picture(pair)
  assert found(run(tmp_path)) == {('gray images', 'images')}


def pan(seed, count, step=4):
  """Frames of a camera that moves over a drawn scene."""
  image, ids = scenes.draw(seed)
  size = 480, 384
  image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
  ids = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
  return [
    (image[100:228, x : x + 160], ids[100:228, x : x + 160]) for x in range(0, count * step, step)
  ]


def test_a_film_in_two_splits(tmp_path):
  """Frames of a video are found by names and similarity; names alone only give a note."""
  pairs = draw(tmp_path, 8, 4)
  for index, (image, ids) in enumerate(pan(77, 12, 12)):
    Pair(tmp_path, 'train' if index < 8 else 'val', f'film_{index:04}', image, ids)
  report = run(tmp_path)
  assert ('sequence in two splits', 'film') in found(report, 'warning')
  (issue,) = kinds(report)['sequence in two splits'].issues
  assert issue.detail == '8 in train, 4 in val, film_0000 to film_0011'
  assert [path.rsplit('/')[-1] for path in issue.examples] == ['film_0007.png', 'film_0008.png']
  assert audit.draw_examples(report) is not None
  del pairs


def test_names_that_are_numbered_alike_are_no_film(tmp_path):
  for index in range(24):
    split, place = ('train', 'val')[index % 3 == 2], ('north', 'south')[index % 2]
    Pair(tmp_path, split, f'{place}_{index:04}', *scenes.draw(index))
  report = run(tmp_path)
  assert found(report, 'warning') == set()
  assert found(report, 'note') == {
    ('name series in two splits', 'north'),
    ('name series in two splits', 'south'),
  }


def test_a_whole_data_set_of_numbers_is_no_film(tmp_path):
  for index in range(12):
    Pair(tmp_path, ('train', 'val')[index % 3 == 2], f'IMG_{index:04}', *scenes.draw(index))
  assert found(run(tmp_path)) == set()


def test_pictures_that_are_all_alike(tmp_path):
  image, ids = scenes.draw(0)
  rng = np.random.default_rng(0)
  for index in range(6):
    noise = rng.integers(-20, 20, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    Pair(tmp_path, '', f'{"abcdef"[index]}x', noisy, np.roll(ids, index, 0))
  told = {kind for kind, _ in found(run(tmp_path, None))}
  assert 'similar images' in told and 'near duplicate' not in told
