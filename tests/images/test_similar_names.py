"""Names that nearly match are matched where that is unambiguous; otherwise the nearest is known."""

import unicodedata

import pytest

from dilated_jax.images import similar_names

NFC, NFD = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))


def matched(first, second):
  pairs, notes = similar_names.match(first, second)
  assert all('\n' not in note for note in notes)
  return sorted(pairs)


@pytest.mark.parametrize(
  'first, second',
  [
    (['a', 'b'], ['a', 'b']),
    (['a', 'b'], ['a_mask', 'b-Labels']),
    (['x', 'y'], ['x.jpg', 'y.mask']),
    ([f'{NFC} 1', f'{NFC} 2'], [f'{NFD} 1', f'{NFD} 2']),
    (['IMG_1', 'IMG_2'], ['img_1', 'img_2']),
    (['IMG_1', 'Straße'], ['img_1_mask', 'STRASSE']),
    (['1', '12'], ['001', '012']),
    (['day 1 a', 'day 1 b'], ['day_1_a', 'day-1-b']),
    (['image_000', 'image_011'], ['mask_000', 'mask_011']),
    (['img000', 'img011'], ['mask000', 'mask011']),
    (['image_cat', 'image_car'], ['mask_cat', 'mask_car']),
    (['1_left', '2_left', '3_left'], ['1_truth', '2_truth', '3_truth']),
    (['d/image_1', 'd/image_2'], ['d/mask_1', 'd/mask_2']),
  ],
)
def test_names_that_belong_together(first, second):
  assert matched(first, second) == sorted(zip(first, second))
  assert matched(second, first) == sorted(zip(second, first))


@pytest.mark.parametrize(
  'first, second, pairs',
  [
    (['IMG', 'img'], ['Img'], []),  # Which of the two?
    (['1', '01'], ['001'], []),
    ([NFC, NFD], [NFD], [(NFD, NFD)]),  # An equal name is taken first.
    (['a_1', 'a_2', 'x'], ['b_1', 'b_2', 'x'], [('x', 'x')]),  # a and b may be two cameras.
    (['image_1', 'image_2'], ['mask_1', 'mask_3'], []),
    (['p105', 'p100'], ['p15', 'p1000'], []),  # Zeros inside a number count.
    (['one'], ['other'], []),
  ],
)
def test_what_is_ambiguous_is_left_alone(first, second, pairs):
  assert matched(first, second) == pairs


def test_more_images_than_labels():
  assert len(matched([f'image_{i}' for i in range(12)], [f'mask_{i}' for i in range(8)])) == 8


def test_notes_say_how():
  notes = similar_names.match(['IMG_1', 'IMG_2'], ['img_1', 'img_2']).notes
  assert notes == ['2 matched although they differ in case or Unicode form: IMG_1 and img_1']
  assert similar_names.match(['x'], ['x_mask']).notes == []


def test_nearest():
  assert similar_names.nearest('frame_0012', ['frame_0102', 'frame_0021', 'x']) is not None
  assert similar_names.nearest('frame_12', ['frame_012', 'frame_112']) == 'frame_012'
  assert similar_names.nearest('frame', ['x', 'y']) is None
  assert 'cafe\\u0301' in similar_names.nearest(NFC, [NFD])
