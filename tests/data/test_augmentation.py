"""Images and labels stay together through zoom, crop, flip and color jitter."""

from hypothesis import given, settings, strategies as st
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from dilated_jax.data import augmentation
from dilated_jax.errors import InputError


def coded(height, width, rng=None):
  """A picture of large patches whose red value is its label times 20."""
  rng = rng or np.random.default_rng(0)
  label = np.kron(
    rng.integers(0, 11, (-(-height // 8), -(-width // 8))), np.ones((8, 8), int)
  ).astype(np.uint8)[:height, :width]
  rest = rng.integers(0, 256, (height, width, 2))
  return {'image': np.dstack([20 * label, *np.moveaxis(rest, -1, 0)]).astype(np.uint8),
          'label': label}  # fmt: skip


def reflected(image, top, bottom, left, right):
  return np.pad(image, ((top, bottom), (left, right), (0, 0)), 'reflect')


@settings(max_examples=40)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 90))
def test_identity_is_the_reflected_picture(height, width, margin):
  example = coded(height, width)
  options = augmentation.Augmentation(random_flip=False)
  result = augmentation.augment(
    example, np.random.default_rng(0), crop=(height, width), margin=margin, options=options
  )
  assert result['image'].dtype == result['label'].dtype == np.uint8
  np.testing.assert_array_equal(result['label'], example['label'])
  expected = reflected(example['image'], margin, margin, margin, margin)
  np.testing.assert_array_equal(result['image'], expected)


@settings(max_examples=40)
@given(
  size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
  crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
  margin=st.integers(0, 30),
  random_flip=st.booleans(),
  scale=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.7, 0.7), (3.0, 3.0)]),
  color_jitter=st.sampled_from([0.0, 0.4]),
  seed=st.integers(0, 999),
)
def test_shapes_and_determinism(size, crop, margin, random_flip, scale, color_jitter, seed):
  example = coded(*size)
  options = augmentation.Augmentation(random_flip, scale, color_jitter)
  first, again = (
    augmentation.augment(
      example, np.random.default_rng(seed), crop=crop, margin=margin, options=options
    )
    for _ in range(2)
  )
  assert first['image'].shape == (crop[0] + 2 * margin, crop[1] + 2 * margin, 3)
  assert first['label'].shape == crop
  assert set(np.unique(first['label'])) <= set(np.unique(example['label'])) | {255}
  np.testing.assert_array_equal(first['image'], again['image'])
  np.testing.assert_array_equal(first['label'], again['label'])


@settings(max_examples=60)
@given(
  size=st.tuples(st.integers(2, 60), st.integers(2, 60)),
  crop=st.tuples(st.integers(1, 60), st.integers(1, 60)),
  margin=st.integers(0, 20),
  seed=st.integers(0, 999),
)
def test_labels_stay_on_their_pixels_and_255_fills_the_rest(size, crop, margin, seed):
  example = coded(*size)
  result = augmentation.augment(example, np.random.default_rng(seed), crop=crop, margin=margin)
  inner = result['image'][margin : margin + crop[0], margin : margin + crop[1]]
  known = result['label'] != 255
  np.testing.assert_array_equal(inner[..., 0][known], 20 * result['label'][known])
  # As many known pixels as fit, in the middle.
  assert known.sum() == min(size[0], crop[0]) * min(size[1], crop[1])
  rows, columns = known.any(1), known.any(0)
  assert abs(rows.argmax() - rows[::-1].argmax()) <= 1
  assert abs(columns.argmax() - columns[::-1].argmax()) <= 1


def test_a_small_picture_is_reflected_by_the_margin_and_then_once_more():
  example = coded(5, 6)
  options = augmentation.Augmentation(random_flip=False)
  result = augmentation.augment(
    example, np.random.default_rng(0), crop=(8, 11), margin=2, options=options
  )
  # 3 rows are missing, of which 1 is above; of 5 columns 3 are on the left.
  expected = reflected(reflected(example['image'], 2, 2, 2, 2), 1, 2, 3, 2)
  np.testing.assert_array_equal(result['image'], expected)
  assert (result['image'] != reflected(example['image'], 3, 4, 5, 4)).any()
  expected = np.pad(example['label'], ((1, 2), (3, 2)), constant_values=255)
  np.testing.assert_array_equal(result['label'], expected)


@settings(max_examples=30)
@given(
  zoom=st.floats(0.4, 2.5), crop=st.integers(1, 70), margin=st.integers(0, 40),
  seed=st.integers(0, 99),
)  # fmt: skip
def test_zoom_equals_resizing_the_whole_picture_with_pillow(zoom, crop, margin, seed):
  example = coded(40, 56)
  window = dict(crop=(crop, crop), margin=margin)
  options = augmentation.Augmentation(False, (zoom, zoom))
  result = augmentation.augment(example, np.random.default_rng(seed), options=options, **window)
  size = (round(56 * zoom), round(40 * zoom))
  image = PIL.Image.fromarray(example['image']).resize(size, PIL.Image.Resampling.BILINEAR)
  label = PIL.Image.fromarray(example['label']).resize(size, PIL.Image.Resampling.NEAREST)
  whole = {'image': np.asarray(image), 'label': np.asarray(label)}
  rng = np.random.default_rng(seed)
  expected = augmentation.augment(whole, rng, options=augmentation.Augmentation(False), **window)
  # Pillow rounds after each of its two passes; ties may fall to either side.
  difference = np.abs(result['image'].astype(int) - expected['image'])
  assert difference.max() <= 2
  assert (result['label'] != expected['label']).mean() < 0.04  # Ties between two pixels.


def test_mirror_turns_half_of_the_pictures():
  example = coded(6, 9)
  rng, turned = np.random.default_rng(0), 0
  for _ in range(200):
    result = augmentation.augment(example, rng, crop=(6, 9))
    mirrored = (result['image'] != example['image']).any()
    step = -1 if mirrored else 1
    np.testing.assert_array_equal(result['image'], example['image'][:, ::step])
    np.testing.assert_array_equal(result['label'], example['label'][:, ::step])
    turned += mirrored
  assert 70 < turned < 130


def test_every_crop_is_equally_likely():
  example = {'image': np.zeros((6, 5, 3), np.uint8), 'label': np.arange(30, dtype=np.uint8)}
  example['label'] = example['label'].reshape(6, 5)
  rng, options = np.random.default_rng(0), augmentation.Augmentation(random_flip=False)
  corners = [
    int(augmentation.augment(example, rng, crop=(3, 4), options=options)['label'][0, 0])
    for _ in range(1600)
  ]
  values, counts = np.unique(corners, return_counts=True)
  assert values.tolist() == [0, 1, 5, 6, 10, 11, 15, 16]
  assert np.all(np.abs(counts - 200) < 60)


def test_zoom_is_even_in_its_logarithm():
  example = {'image': np.zeros((100, 100, 3), np.uint8), 'label': np.zeros((100, 100), np.uint8)}
  rng, options = np.random.default_rng(0), augmentation.Augmentation(random_scale=(0.5, 2.0))
  labels = (
    augmentation.augment(example, rng, crop=(220, 1), options=options)['label'] for _ in range(400)
  )
  heights = np.array([(label == 0).sum() for label in labels])
  assert heights.min() >= 50 and heights.max() <= 200
  assert 150 < (heights < 100).sum() < 250


@given(st.integers(0, 99))
@settings(max_examples=20)
def test_color_follows_its_formula(seed):
  example, strength = coded(8, 8), 0.5
  options = augmentation.Augmentation(random_flip=False, color_jitter=strength)
  result = augmentation.augment(example, np.random.default_rng(seed), crop=(8, 8), options=options)
  rng = np.random.default_rng(seed)
  rng.uniform(), rng.integers(1), rng.integers(1)  # Zoom and crop come first.
  brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
  image = example['image'].astype(np.float64)
  gray = image @ [0.299, 0.587, 0.114]
  middle = gray.mean()
  image = saturation * image + (1 - saturation) * gray[..., None]
  image = brightness * (middle + contrast * (image - middle))
  np.testing.assert_allclose(result['image'], np.clip(image, 0, 255), atol=0.51)
  np.testing.assert_array_equal(result['label'], example['label'])


@pytest.mark.parametrize(
  'options', [{'random_scale': (2, 1)}, {'random_scale': (0, 1)}, {'color_jitter': 1.5}]
)
def test_senseless_options_are_refused(options):
  with pytest.raises(InputError, match=next(iter(options))):
    augmentation.Augmentation(**options)


@pytest.mark.parametrize('window', [{'crop': (0, 3)}, {'crop': (4, 4), 'margin': -1}])
def test_senseless_windows_are_refused(window):
  with pytest.raises(InputError, match=r'crop .* must be 1x1 or more, margin'):
    augmentation.augment(coded(4, 4), np.random.default_rng(0), **window)


@given(
  size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
  crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
  margin=st.integers(0, 9),
  seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_the_mean_beyond_the_bottom_and_the_right(size, crop, margin, seed):
  """DeepLab's and FCN's way; NumPy's padding of the whole image by constants, cropped."""
  example, mean = coded(*size), (122.68, 116.67, 104.01)
  options = augmentation.Augmentation(random_flip=False, border='mean')
  found = augmentation.augment(
    example, np.random.default_rng(seed), crop=crop, margin=margin, mean=mean, options=options
  )
  rest = [(margin, max(0, c - n) + margin) for n, c in zip(size, crop)]
  channels = [
    np.pad(example['image'][..., i], rest, constant_values=value)
    for i, value in enumerate((123, 117, 104))
  ]
  image = np.stack(channels, -1)
  label = np.pad(example['label'], [(0, after - margin) for _, after in rest], constant_values=255)
  rng = np.random.default_rng(seed)
  rng.uniform(0, 0)  # The zoom.
  top, left = (int(rng.integers(n - c + 1)) if n >= c else 0 for n, c in zip(size, crop))
  np.testing.assert_array_equal(found['label'], label[top : top + crop[0], left : left + crop[1]])
  expected = image[top : top + crop[0] + 2 * margin, left : left + crop[1] + 2 * margin]
  np.testing.assert_array_equal(found['image'], expected)


@pytest.mark.parametrize('border', ['reflect', 'mean'])
def test_rotation_turns_image_and_label_together(border):
  example = coded(64, 80)
  example['image'][:] = np.kron(example['label'][::8, ::8], np.ones((8, 8), int))[..., None] * 20
  options = augmentation.Augmentation(False, random_rotation=10, border=border)
  outside = []
  for seed in range(6):
    found = augmentation.augment(
      example, np.random.default_rng(seed), crop=(64, 80), mean=(9, 9, 9), options=options
    )
    known = found['label'] != 255
    inner = found['image'][..., 0] == 20 * found['label'].astype(int)
    assert known.mean() > 0.8 and inner[known].mean() > 0.6  # Others lie at borders of patches.
    outside.append(found['image'][~known])
  # Corners go out of the picture, and what comes in is the mean or the picture's reflection.
  outside = np.concatenate(outside)
  assert len(outside) > 100 and ((outside == 9).mean() > 0.8) == (border == 'mean')


def test_a_rotation_by_hand():
  """SciPy's, by the angle that the generator gives: counterclockwise, about the middle."""
  example = coded(40, 40)
  options = augmentation.Augmentation(False, random_rotation=30, border='mean')
  found = augmentation.augment(example, np.random.default_rng(5), crop=(40, 40), options=options)
  angle = np.random.default_rng(5).uniform(-30, 30)
  expected = scipy.ndimage.rotate(example['image'], angle, reshape=False, order=1)
  inside = slice(8, -8)
  difference = np.abs(expected.astype(int) - found['image'])[inside, inside]
  assert difference.max() <= 2


def test_every_other_image_is_blurred():
  example = coded(60, 60)
  options = augmentation.Augmentation(False, random_blur=2)
  blurred = 0
  for seed in range(40):
    found = augmentation.augment(
      example, np.random.default_rng(seed), crop=(60, 60), options=options
    )['image'].astype(float)
    if (found == example['image']).all():
      continue
    blurred += 1
    rng = np.random.default_rng(seed)
    _ = rng.uniform(0, 0), rng.integers(1), rng.integers(1), rng.random()
    deviation = rng.uniform(0, 2)
    image = example['image'].astype(float)
    expected = scipy.ndimage.gaussian_filter(image, (deviation, deviation, 0))
    inner = (slice(12, -12),) * 2
    if deviation > 0.7:  # Pillow approximates Gaussians by boxes.
      left = np.abs(found - expected)[inner].mean()
      assert left < 0.1 * np.abs(image - expected)[inner].mean()
  assert 10 < blurred < 30
