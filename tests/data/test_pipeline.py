"""input.py: batches depend on the step alone; pictures and labels stay together."""

import itertools
import threading
import time

from hypothesis import given, settings, strategies as st
import numpy as np
import PIL.Image
import pytest

from dilated_jax.data import augmentation, pipeline, sequences, statistics
from dilated_jax.errors import InputError
from dilated_jax.images import preprocessing

# batches


def jitter(example, rng):
  return {'x': example['x'] + rng.random()}


def numbers(count):
  return [{'x': np.full(3, i, np.float64)} for i in range(count)]


def take(count, *arguments, **options):
  stream = pipeline.batches(*arguments, **options)
  try:
    return [batch['x'] for batch in itertools.islice(stream, count)]
  finally:
    stream.close()


@settings(max_examples=25)
@given(
  length=st.integers(1, 20),
  share=st.integers(1, 3),
  seed=st.integers(0, 2**40),
  first=st.integers(0, 30),
  processes=st.sampled_from([1, 2, 4]),
  threads=st.sampled_from([1, 3]),
  ahead=st.integers(0, 3),
)
def test_batch_is_a_function_of_seed_step_and_process(
  length, share, seed, first, processes, threads, ahead
):
  source, size = numbers(length), 4 * share
  whole = take(first + 2, source, jitter, batch_size=size, seed=seed)
  shares = [
    take(
      2, source, jitter, batch_size=size, seed=seed, first=first,
      process=p, processes=processes, threads=threads, ahead=ahead,
    )
    for p in range(processes)
  ]  # fmt: skip
  for step in range(2):
    np.testing.assert_array_equal(np.concatenate([s[step] for s in shares]), whole[first + step])


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=20)
def test_every_epoch_shows_every_example_once(length, size, seed):
  stream = np.concatenate(
    take(3 * length, numbers(length), lambda e, rng: e, batch_size=size, seed=seed)
  )[:, 0]
  for epoch in range(3):
    assert sorted(stream[epoch * length : (epoch + 1) * length]) == list(range(length))


def test_epochs_and_seeds_differ():
  stream = take(8, numbers(40), lambda e, rng: e, batch_size=10, seed=1)
  assert (np.concatenate(stream[:4]) != np.concatenate(stream[4:])).any()
  other = take(4, numbers(40), lambda e, rng: e, batch_size=10, seed=2)
  assert (np.concatenate(stream[:4]) != np.concatenate(other)).any()


def test_uneven_shares_and_empty_sources_are_refused_at_the_call():
  with pytest.raises(InputError, match=r'6 examples .* 4 processes'):
    pipeline.batches(numbers(3), jitter, batch_size=6, seed=0, processes=4)
  with pytest.raises(InputError, match='empty'):
    pipeline.batches([], jitter, batch_size=1, seed=0)


def broken(error):
  def transform(example, rng):
    if example['x'][0] == 3:
      raise error
    return example

  return transform


def test_an_unreadable_example_is_named():
  with pytest.raises(InputError, match=r'^example 3 of the data set: a\.png is damaged$'):
    take(9, numbers(5), broken(InputError('a.png is damaged')), batch_size=2, seed=0)


def test_a_defect_keeps_its_type_and_names_the_example():
  with pytest.raises(ZeroDivisionError) as error:
    take(9, numbers(5), broken(ZeroDivisionError()), batch_size=2, seed=0)
  assert 'example 3 ' in error.value.__notes__[0]


def input_threads():
  return [thread for thread in threading.enumerate() if thread.name.startswith('input')]


def test_closing_ends_the_threads_and_drops_what_waits():
  calls = []

  def slow(example, rng):
    calls.append(1)
    time.sleep(0.01)
    return example

  stream = pipeline.batches(numbers(50), slow, batch_size=40, seed=0, threads=2, ahead=3)
  next(stream)
  assert input_threads()
  stream.close()
  assert not input_threads()
  assert len(calls) < 150


def test_an_error_ends_the_threads():
  stream = pipeline.batches(numbers(5), broken(InputError('bad')), batch_size=5, seed=0)
  with pytest.raises(InputError):
    next(stream)
  assert not input_threads()


# augment


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
  options = augmentation.Augmentation((height, width), margin, random_flip=False)
  result = augmentation.augment(example, np.random.default_rng(0), options)
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
  options = augmentation.Augmentation(crop, margin, random_flip, scale, color_jitter)
  first, again = (
    augmentation.augment(example, np.random.default_rng(seed), options) for _ in range(2)
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
  options = augmentation.Augmentation(crop, margin)
  result = augmentation.augment(example, np.random.default_rng(seed), options)
  inner = result['image'][margin : margin + crop[0], margin : margin + crop[1]]
  known = result['label'] != 255
  np.testing.assert_array_equal(inner[..., 0][known], 20 * result['label'][known])
  # As many known pixels as fit, in the middle.
  assert known.sum() == min(size[0], crop[0]) * min(size[1], crop[1])
  rows, columns = known.any(1), known.any(0)
  assert abs(rows.argmax() - rows[::-1].argmax()) <= 1
  assert abs(columns.argmax() - columns[::-1].argmax()) <= 1


def test_a_small_picture_is_padded_half_above():
  example = coded(5, 6)
  options = augmentation.Augmentation((8, 11), 2, random_flip=False)
  result = augmentation.augment(example, np.random.default_rng(0), options)
  np.testing.assert_array_equal(result['image'], reflected(example['image'], 3, 4, 4, 5))
  expected = np.pad(example['label'], ((1, 2), (2, 3)), constant_values=255)
  np.testing.assert_array_equal(result['label'], expected)


@settings(max_examples=30)
@given(
  zoom=st.floats(0.4, 2.5), crop=st.integers(1, 70), margin=st.integers(0, 40),
  seed=st.integers(0, 99),
)  # fmt: skip
def test_zoom_equals_resizing_the_whole_picture_with_pillow(zoom, crop, margin, seed):
  example = coded(40, 56)
  options = augmentation.Augmentation((crop, crop), margin, False, (zoom, zoom))
  result = augmentation.augment(example, np.random.default_rng(seed), options)
  size = (round(56 * zoom), round(40 * zoom))
  image = PIL.Image.fromarray(example['image']).resize(size, PIL.Image.Resampling.BILINEAR)
  label = PIL.Image.fromarray(example['label']).resize(size, PIL.Image.Resampling.NEAREST)
  whole = {'image': np.asarray(image), 'label': np.asarray(label)}
  rng = np.random.default_rng(seed)
  expected = augmentation.augment(
    whole, rng, augmentation.Augmentation((crop, crop), margin, False)
  )
  # Pillow rounds after each of its two passes; ties may fall to either side.
  difference = np.abs(result['image'].astype(int) - expected['image'])
  assert difference.max() <= 2
  assert (result['label'] != expected['label']).mean() < 0.04  # Ties between two pixels.


def test_mirror_turns_half_of_the_pictures():
  example, options = coded(6, 9), augmentation.Augmentation((6, 9))
  rng, turned = np.random.default_rng(0), 0
  for _ in range(200):
    result = augmentation.augment(example, rng, options)
    mirrored = (result['image'] != example['image']).any()
    step = -1 if mirrored else 1
    np.testing.assert_array_equal(result['image'], example['image'][:, ::step])
    np.testing.assert_array_equal(result['label'], example['label'][:, ::step])
    turned += mirrored
  assert 70 < turned < 130


def test_every_crop_is_equally_likely():
  example = {'image': np.zeros((6, 5, 3), np.uint8), 'label': np.arange(30, dtype=np.uint8)}
  example['label'] = example['label'].reshape(6, 5)
  rng, options = np.random.default_rng(0), augmentation.Augmentation((3, 4), random_flip=False)
  corners = [int(augmentation.augment(example, rng, options)['label'][0, 0]) for _ in range(1600)]
  values, counts = np.unique(corners, return_counts=True)
  assert values.tolist() == [0, 1, 5, 6, 10, 11, 15, 16]
  assert np.all(np.abs(counts - 200) < 60)


def test_zoom_is_even_in_its_logarithm():
  example = {'image': np.zeros((100, 100, 3), np.uint8), 'label': np.zeros((100, 100), np.uint8)}
  rng, options = (
    np.random.default_rng(0),
    augmentation.Augmentation((220, 1), random_scale=(0.5, 2.0)),
  )
  heights = np.array(
    [(augmentation.augment(example, rng, options)['label'] == 0).sum() for _ in range(400)]
  )
  assert heights.min() >= 50 and heights.max() <= 200
  assert 150 < (heights < 100).sum() < 250


@given(st.integers(0, 99))
@settings(max_examples=20)
def test_color_follows_its_formula(seed):
  example, strength = coded(8, 8), 0.5
  options = augmentation.Augmentation((8, 8), random_flip=False, color_jitter=strength)
  result = augmentation.augment(example, np.random.default_rng(seed), options)
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
  'options', [{'crop': (0, 3)}, {'margin': -1}, {'random_scale': (2, 1)}, {'random_scale': (0, 1)},
              {'color_jitter': 1.5}]
)  # fmt: skip
def test_senseless_options_are_refused(options):
  with pytest.raises(InputError):
    augmentation.Augmentation(**{'crop': (4, 4), **options})


# shrink, in_memory, statistics


def test_half_size_averages_pixels_and_keeps_labels():
  example = {**coded(12, 16), 'name': 'a'}
  half = sequences.downscale([example], 0.5)
  assert len(half) == 1 and half[0]['name'] == 'a'
  means = example['image'].reshape(6, 2, 8, 2, 3).mean((1, 3))
  np.testing.assert_allclose(half[0]['image'], means, atol=0.51)
  cells = example['label'].reshape(6, 2, 8, 2)
  np.testing.assert_array_equal(half[0]['label'], cells[:, 0, :, 0])  # Patches are 8 wide.
  source = [example]
  assert sequences.downscale(source, 1.0) is source
  for scale in (0, -1, 1.5):
    with pytest.raises(InputError, match='picture scale'):
      sequences.downscale(source, scale)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1))
@settings(max_examples=30)
def test_shrunk_pictures_and_labels_have_one_size(height, width, scale):
  example = sequences.downscale([coded(height, width)], scale)[0]
  assert example['image'].shape[:2] == example['label'].shape
  assert preprocessing.downscale_image(coded(height, width)['image'], scale).shape[:2] == (
    max(1, round(height * scale)),
    max(1, round(width * scale)),
  )


def test_in_memory_decodes_once_where_it_fits():
  class Counting(list):
    reads = 0

    def __getitem__(self, index):
      Counting.reads += 1
      return list.__getitem__(self, index)

  source = Counting(coded(8, 8) for _ in range(150))
  kept = sequences.in_memory(source)
  assert Counting.reads == 150 and len(kept) == 150
  for a, b in zip(kept, list(source)):
    assert a is b
  size = 150 * (8 * 8 * 4)
  assert sequences.in_memory(source, size) is not source
  assert sequences.in_memory(source, size - 1) is source


def test_class_weights_follow_their_definitions():
  labels = [
    np.array([[0, 0, 0, 1], [0, 0, 1, 255]], np.uint8),
    np.array([[0, 0, 2, 2], [2, 2, 0, 0]], np.uint8),
  ]
  source = [{'label': label} for label in labels]
  # 0: 9 of 16 pixels; 1: 2 of the 8 of the first picture; 2: 4 of the 8 of the second.
  frequency = np.array([9 / 16, 2 / 8, 4 / 8])
  weights = statistics.class_weights(source, 4)
  assert weights.dtype == np.float32
  np.testing.assert_allclose(weights, [*(0.5 / frequency), 0], rtol=1e-6)
  shares = np.array([9, 2, 4]) / 15
  expected = [*(1 / np.log(1.02 + shares)), 0]
  np.testing.assert_allclose(statistics.class_weights(source, 4, 'log'), expected, rtol=1e-6)
  milder = statistics.class_weights(source, 4, 'sqrt_log')
  np.testing.assert_allclose(milder, np.sqrt(expected), rtol=1e-6)
  with pytest.raises(InputError, match='label 2 of only 2'):
    statistics.class_weights(source, 2)
  with pytest.raises(InputError, match='median, log or sqrt_log'):
    statistics.class_weights(source, 4, 'mean')
  nothing = [{'label': np.full((2, 2), 255, np.uint8)}]
  assert statistics.class_weights(nothing, 3).tolist() == [0, 0, 0]


def test_mean_color_weighs_pixels_not_pictures():
  source = [coded(4, 6), coded(16, 10)]
  pixels = np.concatenate([example['image'].reshape(-1, 3) for example in source])
  np.testing.assert_allclose(statistics.mean_color(source), pixels.mean(0))
