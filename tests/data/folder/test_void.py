"""What 255 means: cases with the outcome that a person who looks at the masks would expect.

And whatever the labels are, preparing, the audit and training read them alike, or all refuse them.
"""

import dataclasses
import io
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from dilated_jax import data
from dilated_jax.data import audit, folder
from dilated_jax.data.label_specs import voc_color
from dilated_jax.errors import InputError
from tests.data.folder.folders import picture, refused, save, say, with_palette

SIZE = 24, 32


def label(**pixels):
  """A label of zeros with a block of so many pixels of each value: v255=100."""
  flat = np.zeros(SIZE, np.uint8).ravel()
  place = 0
  for value, count in pixels.items():
    flat[place : place + count] = int(value[1:])
    place += count
  return flat.reshape(SIZE)


def masks(root, *labels):
  for index, ids in enumerate(labels):
    save(picture(np.shape(ids)[:2]), root / 'images' / f'p{index}.png')
    save(ids, root / 'labels' / f'p{index}.png')
  return root


def jpeg(ids, quality):
  content = io.BytesIO()
  Image.fromarray(ids).save(content, 'JPEG', quality=quality)
  return np.asarray(Image.open(content))


OBJECT = label(v255=160)
VOC = label(v1=160, v255=64)


@pytest.mark.parametrize(
  'labels, classes',
  [
    ([OBJECT] * 6, (0, 255)),
    ([label(v1=96)] * 6, (0, 1)),
    ([VOC] * 6, (0, 1)),  # The border of an object.
    ([label(v1=32, v255=96)] * 6, (0, 1)),  # Of a small one.
    ([label(v1=96, v2=2, v255=64)] * 6, (0, 1, 2)),  # A rare class.
    ([VOC, label(v3=96, v20=64, v255=32), label(v255=30)], (0, 1, 3, 20)),  # Of VOC's 21.
    ([label(v1=96, v2=96, v4=96)] * 6, (0, 1, 2, 3, 4)),
    ([label(v1=160, v2=300, v3=308)] * 6, (0, 1, 2, 3)),  # No 0 at all.
    ([label(v1=300, v2=300, v255=168)] * 6, (0, 1, 2)),
    ([label(v128=96, v255=96)] * 6, (0, 128, 255)),
    ([label(v76=96, v150=96, v255=96)] * 6, (0, 76, 150, 255)),  # Red, green, white as gray.
    ([label(v29=96, v76=96, v150=96, v255=96)] * 6, (0, 29, 76, 150, 255)),
    ([label(v7=300, v8=96, v11=96)] * 6, (0, 7, 8, 11)),
    # Some of many ids.
    ([label(**{f'v{20 * i + 3}': 64 for i in range(8)}, v255=64)] * 6, None),
    ([label(v15=96, v255=32)] * 6, None),  # Of VOC, or blue and white as gray?
    ([label(v29=96, v255=96)] * 6, None),
    ([label(v1=384, v255=384)] * 6, None),  # No 0: two classes, or one and void.
    ([label(v1=200, v255=384)] * 6, None),  # Half of the pixels, or more.
    ([label(v1=100, v255=600)] * 6, None),
    ([OBJECT] * 5 + [label(v1=1, v255=160)], None),  # A few stray pixels.
    ([label(v1=4, v2=4, v255=160)] * 6, None),
    ([OBJECT] * 3 + [label(v1=160)] * 3, None),  # Two kinds of masks.
    ([OBJECT] + [label(v1=160)] * 9, None),
    ([OBJECT] * 5 + [label(v128=1, v255=160)], None),
    ([OBJECT] * 5 + [label(v1=2, v254=6, v255=160)], None),
    ([jpeg(OBJECT, 100)] * 6, (0, 255)),  # A block without any change.
    ([np.full(SIZE, 255, np.uint8)] * 6, None),
  ],
)
def test_what_255_is(tmp_path, labels, classes):
  masks(tmp_path, *labels)
  report = audit_folder(tmp_path)
  if classes is None:
    with pytest.raises(InputError, match=r'p\d\.png|labels: every pixel') as raised:
      folder.scan(tmp_path)
    assert '\n' not in str(raised.value) and not report.valid
    return
  spec = folder.scan(tmp_path).spec
  assert (spec.raw_ids or tuple(range(spec.num_classes))) == classes
  assert report.valid and report.spec.raw_ids == spec.raw_ids


def audit_folder(root):
  stated = folder.read_classes_file(root / 'classes.json')
  return audit.audit_files(folder.find_pairs(root), stated=stated, root=root)


@pytest.mark.parametrize('quality', [75, 95, 100])
def test_masks_that_were_jpeg_are_refused(tmp_path, quality):
  circle = np.hypot(*np.ogrid[-24:24, -32:32]) < 15
  masks(tmp_path, *[jpeg(np.uint8(255) * np.roll(circle, i, 1), quality) for i in range(6)])
  refused(tmp_path, r'p\d\.png: ')
  assert not audit_folder(tmp_path).valid


def test_smoothed_masks_are_refused(tmp_path):
  circle = Image.fromarray(np.uint8(255) * (np.hypot(*np.ogrid[-48:48, -64:64]) < 30))
  masks(tmp_path, *[np.asarray(circle.resize((64, 48), Image.Resampling.BILINEAR))] * 6)
  refused(tmp_path, 'as after smoothing or JPEG|stray values')


def test_the_message_says_what_was_found_and_both_ways_out(tmp_path):
  masks(tmp_path, *[OBJECT] * 5, label(v1=1, v255=160))
  refused(tmp_path, r'p5\.png: has 1 on 1 pixel; all labels: 0 on 79\.1%, 255 on 20\.8%, 1 on 1 pi')
  refused(tmp_path, r'write \{"ignore": \[1\]\} into classes\.json; if it is to be ignored, write')
  say(tmp_path, ignore=[1])
  assert folder.scan(tmp_path).spec.raw_ids == (0, 255)
  say(tmp_path, ignore=[255])
  assert folder.scan(tmp_path).spec.raw_ids == () and audit_folder(tmp_path).valid
  say(tmp_path, ids=[0, 255], ignore=[1], names=['ground', 'thing'])
  assert folder.scan(tmp_path).spec.names == ('ground', 'thing')


@pytest.mark.parametrize('content', [{'names': ['ground', 'thing']}, {'ids': [0, 1]}])
def test_names_and_ids_do_not_make_the_object_void(tmp_path, content):
  masks(tmp_path, *[OBJECT] * 5, label(v1=1, v255=160))
  say(tmp_path, **content)
  refused(tmp_path, r'p5\.png: has 1 on 1 pixel')
  assert not audit_folder(tmp_path).valid


def test_names_of_stretched_masks(tmp_path):
  masks(tmp_path, *[OBJECT] * 6)
  say(tmp_path, names=['ground', 'thing'])
  spec = folder.scan(tmp_path).spec
  assert spec.raw_ids == (0, 255) and spec.names == ('ground', 'thing')
  say(tmp_path, names=['ground', 'thing', 'other'])
  refused(tmp_path, 'states 3 classes, and the labels have 0, 255, of which 255 looks like a class')


def test_given_classes_do_not_hide_an_object_that_is_ignored(tmp_path):
  masks(tmp_path, *[OBJECT] * 5, label(v1=1, v255=160))
  pairing = folder.find_pairs(tmp_path)
  report = audit.audit_files(pairing, classes=audit.numbered_classes(2))
  assert [f.kind for f in report.findings if f.severity == 'error'] == ['only 0 and 255']


def test_the_palette_of_voc_says_that_255_is_void(tmp_path):
  palette = [voc_color(index) for index in range(255)] + [(224, 224, 192)]
  masks(tmp_path, *[with_palette(label(v15=96, v255=400), palette)] * 6)
  spec = folder.scan(tmp_path).spec
  assert spec.raw_ids == (0, 15) and spec.palette == ((0, 0, 0), (192, 128, 128))
  assert audit_folder(tmp_path).spec == dataclasses.replace(spec, mean=(0.0, 0.0, 0.0))


def test_voc_color_masks(tmp_path):
  palette = np.zeros((256, 3), np.uint8)
  palette[[1, 15, 255]] = (128, 0, 0), (192, 128, 128), (224, 224, 192)
  masks(tmp_path, *[palette[label(v1=96, v15=96, v255=64)]] * 6)
  spec = folder.scan(tmp_path).spec
  assert spec.names == ('#000000', '#800000', '#c08080')
  assert audit_folder(tmp_path).counts[None].ignored == 6 * 64


def test_a_palette_of_grays_says_nothing(tmp_path):
  """One gray image stored with a palette does not turn the ids of the others into colors."""
  images = [Image.fromarray(label(v1=96, v2=96)) for _ in range(3)]
  for image, palette in zip(images, ([0, 0, 0, 128, 0, 0, 0, 128, 0], [*range(3)] * 3, None)):
    if palette:
      image.putpalette(sorted(palette) if palette[1] else palette)
  masks(tmp_path, *images)
  assert folder.scan(tmp_path).spec.names == ('class 0', 'class 1', 'class 2')


def test_a_rare_value_is_a_class_with_a_warning_everywhere(tmp_path):
  masks(tmp_path, *[label(v1=96)] * 5, label(v1=96, v2=5), label(v3=96))
  found = folder.scan(tmp_path)
  assert found.spec.num_classes == 4
  assert 'classes that occur in one label only: 2 (p5.png), 3 (p6.png)' in ' '.join(found.notes)
  report = audit_folder(tmp_path)
  assert report.spec.num_classes == 4 and report.valid
  rare = {finding.kind: finding for finding in report.findings}['value in one file only']
  assert [issue.detail for issue in rare.issues] == [
    '2 on 5 of 768 pixels',
    '3 on 96 of 768 pixels',
  ]


def test_a_value_that_nowhere_fills_2x2_pixels_is_told(tmp_path):
  ids = label(v1=96)
  ids[20, ::5] = 2
  masks(tmp_path, *[ids] * 6)
  assert 'classes that nowhere fill 2x2 pixels: 2 (p0.png)' in ' '.join(folder.scan(tmp_path).notes)
  report = audit_folder(tmp_path)
  assert report.valid and 'stray value' in {finding.kind for finding in report.findings}


PIXELS = st.dictionaries(
  st.sampled_from([1, 2, 3, 7, 20, 76, 127, 128, 150, 254, 255]),
  st.integers(1, 150),
  max_size=4,
)


@hypothesis.given(
  st.lists(PIXELS, min_size=2, max_size=7),
  st.sampled_from(['gray', 'palette', 'rgb', 'colors']),
  st.sampled_from([None, {'ignore': [255]}, {'names': ['a', 'b']}, {'ignore': []}]),
)
@hypothesis.settings(max_examples=40)
def test_all_commands_agree(tmp_path_factory, contents, kind, stated):
  root = tmp_path_factory.mktemp('own')
  palette = np.random.default_rng(0).integers(1, 256, (256, 3), np.uint8)
  for index, content in enumerate(contents):
    ids = label(**{f'v{value}': count for value, count in content.items()})
    image = Image.fromarray(ids)
    if kind == 'palette':
      image.putpalette(palette.ravel().tolist())
    elif kind == 'rgb':
      image = Image.fromarray(np.repeat(ids[..., None], 3, -1))
    elif kind == 'colors':
      image = Image.fromarray(palette[ids])
    save(picture(SIZE), root / 'images' / f'p{index}.png')
    save(image, root / 'labels' / f'p{index}.png')
  if stated:
    (root / 'classes.json').write_text(json.dumps(stated))
  report = audit_folder(root)
  values = [f for f in report.findings if f.kind in ('labels not understood', 'invalid values')]
  try:
    dataset = folder.scan(root)
  except InputError as error:
    assert values or 'no train split' in str(error), error
    return
  assert not values
  spec = report.spec
  assert (spec.names, spec.raw_ids, spec.palette) == (
    dataset.spec.names, dataset.spec.raw_ids, dataset.spec.palette
  )  # fmt: skip
  counts = np.zeros(256, np.int64)
  for split in dataset.splits:  # What training reads.
    for example in folder.load_split(dataset, split):
      counts += np.bincount(example['label'].ravel(), minlength=256)
  pixels = sum(count.pixels for count in report.counts.values())
  np.testing.assert_array_equal(pixels, counts[: spec.num_classes])
  assert sum(count.ignored for count in report.counts.values()) == counts[255]
  assert counts.sum() == counts[: spec.num_classes].sum() + counts[255]


def test_a_prepared_folder_is_read_like_the_folder(tmp_path):
  root = masks(tmp_path / 'own', *[label(v76=96, v255=96)] * 6)
  say(root, names=['ground', 'leaf', 'sky'])
  data.prepare('folder', tmp_path / 'prepared', root)
  for split in data.splits('folder', root):
    pairs = zip(data.load('folder', split, root), data.load('folder', split, tmp_path / 'prepared'))
    assert all((one['label'] == other['label']).all() for one, other in pairs)
  assert data.classes('folder', tmp_path / 'prepared').names == ('ground', 'leaf', 'sky')
