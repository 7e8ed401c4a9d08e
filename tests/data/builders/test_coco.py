"""coco.py: annotations drawn as VOC masks, pixel for pixel; damaged annotations; joined splits."""

import io
import json
import logging
import sys
import tracemalloc

from absl import flags
from hypothesis import given, settings, strategies as st
import numpy as np
import PIL.Image
from pycocotools import mask as pycocotools
import pytest

from dilated_jax import data
from dilated_jax.data.builders import base, coco
from dilated_jax.data.label_specs import VOC
from dilated_jax.errors import InputError
from experiments import prepare
from tests import raw_files

# Ids, COCO's names and VOC's ids, written down a second time; 27 and 47 are no classes of VOC.
CATEGORIES = {
  1: ('person', 15), 2: ('bicycle', 2), 3: ('car', 7), 4: ('motorcycle', 14), 5: ('airplane', 1),
  6: ('bus', 6), 7: ('train', 19), 9: ('boat', 4), 16: ('bird', 3), 17: ('cat', 8), 18: ('dog', 12),
  19: ('horse', 13), 20: ('sheep', 17), 21: ('cow', 10), 27: ('backpack', None), 44: ('bottle', 5),
  47: ('cup', None), 62: ('chair', 9), 63: ('couch', 18), 64: ('potted plant', 16),
  67: ('dining table', 11), 72: ('tv', 20),
}  # fmt: skip
IDS = {name: number for number, (name, _) in CATEGORIES.items()}
HEIGHT, WIDTH = 24, 32


def box(left, top, right, bottom):
  """A polygon that covers exactly the pixels left <= x < right, top <= y < bottom."""
  return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask):
  """Uncompressed run lengths, column by column, beginning with zeros."""
  flat, counts, value, length = mask.T.ravel().tolist(), [], 0, 0
  for pixel in flat:
    if pixel != value:
      counts.append(length)
      value, length = pixel, 0
    length += 1
  return {'counts': [*counts, length], 'size': list(mask.shape)}


def crowd(left, top, right, bottom):
  mask = np.zeros((HEIGHT, WIDTH), int)
  mask[top:bottom, left:right] = 1
  return runs(mask)


def annotation(name, segmentation, iscrowd=0):
  return {'category_id': IDS[name], 'segmentation': segmentation, 'iscrowd': iscrowd, 'bbox': []}


# Pictures by number: their annotations, and their mask as (rows, columns, class id).
PICTURES = {
  9: (
    [annotation('person', box(2, 3, 10, 20)), annotation('cup', box(4, 4, 8, 8))],
    [(slice(3, 20), slice(2, 10), 15)],  # The cup cuts nothing out.
  ),
  25: (  # The smaller one is in front, in whatever order they come.
    [annotation('cat', box(8, 8, 12, 12)), annotation('couch', box(4, 4, 30, 20))],
    [(slice(4, 20), slice(4, 30), 18), (slice(8, 12), slice(8, 12), 8)],
  ),
  30: ([annotation('backpack', box(1, 1, 20, 20))], None),
  34: ([], None),
  36: (  # A crowd is ignored, save where an object is annotated.
    [
      annotation('person', box(6, 6, 9, 12)),
      annotation('person', crowd(5, 2, 20, 14), 1),
      annotation('tv', box(18, 10, 24, 20)),
      annotation('backpack', crowd(0, 20, 5, 24), 1),
    ],
    [
      (slice(2, 14), slice(5, 20), 255),
      (slice(6, 12), slice(6, 9), 15),
      (slice(10, 20), slice(18, 24), 20),
    ],
  ),
  42: (  # Of two parts; a second object without any pixel.
    [
      annotation('dog', [*box(0, 0, 5, 5), *box(20, 10, 32, 24)]),
      annotation('bird', [[3, 3, 4, 4]]),
    ],
    [(slice(0, 5), slice(0, 5), 12), (slice(10, 24), slice(20, 32), 12)],
  ),
}
VAL = [36, 34, 25]
TAKEN = [number for number, (_, mask) in PICTURES.items() if mask]


def expected(number):
  mask = np.zeros((HEIGHT, WIDTH), np.uint8)
  for rows, columns, value in PICTURES[number][1]:
    mask[rows, columns] = value
  return mask


def file_name(part, number):
  return f'COCO_{part}_{number:012}.jpg' if part.endswith('2014') else f'{number:012}.jpg'


def instances(part, numbers=PICTURES):
  """The content of instances_{part}.json, in the order of the official files."""
  annotations = [
    {**each, 'id': 1000 * number + place, 'image_id': number, 'area': 1.5}
    for number in numbers
    for place, each in enumerate(PICTURES[number][0])
  ]
  return {
    'info': {'description': 'COCO Dataset', 'year': int(part[-4:])},
    'images': [
      {'file_name': file_name(part, number), 'height': HEIGHT, 'width': WIDTH, 'id': number}
      for number in numbers
    ],
    'licenses': [{'id': 1, 'name': 'Attribution'}],
    'annotations': annotations[::-1],  # Not by picture.
    'categories': [
      {'supercategory': 'thing', 'id': number, 'name': name}
      for number, (name, _) in CATEGORIES.items()
    ],
  }


def jpeg(number, mode='RGB') -> bytes:
  pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
  content = io.BytesIO()
  PIL.Image.fromarray(pixels).convert(mode).save(content, 'JPEG')
  return content.getvalue()


def official(year=2014, parts=('train', 'val')):
  """Files by archive."""
  archives = {f'annotations_trainval{year}.zip': {}}
  for part in parts:
    name = f'{part}{year}'
    numbers = PICTURES if part == 'train' else VAL
    archives[f'{name}.zip'] = {
      f'{name}/{file_name(name, number)}': jpeg(number, 'L' if number == 42 else 'RGB')
      for number in numbers
    }
    archives[f'annotations_trainval{year}.zip'] |= {
      f'annotations/instances_{name}.json': json.dumps(instances(name, numbers)).encode(),
      f'annotations/captions_{name}.json': b'{}',
    }
  return archives


def write(root, archives, packed=True):
  for archive, files in archives.items():
    if packed:
      raw_files.pack(root / archive, files)
    else:
      raw_files.unpack(root, files)


@pytest.fixture
def raw(tmp_path):
  return tmp_path / 'raw'


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / 'prepared'


def refused(raw, data_dir, *messages):
  return raw_files.expect_refusal('coco', raw, data_dir, *messages)


def check(source, part, numbers):
  names = [file_name(part, number).removesuffix('.jpg') for number in numbers]
  assert [example['name'] for example in source] == names
  for number, example in zip(numbers, source):
    np.testing.assert_array_equal(example['label'], expected(number))
    picture = PIL.Image.open(io.BytesIO(jpeg(number, 'L' if number == 42 else 'RGB')))
    np.testing.assert_array_equal(example['image'], np.asarray(picture.convert('RGB')))


@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('year', [2014, 2017])
def test_masks_are_the_annotations(raw, data_dir, year, packed, caplog):
  write(raw, official(year), packed)
  with caplog.at_level(logging.INFO):
    data.prepare('coco', data_dir, raw)
  assert f'taking 4 of 6 pictures of train{year}' in caplog.text
  assert f'train{year} has 6 pictures, all are {coco.COUNTS[f"train{year}"]}' in caplog.text
  check(data.load('coco', 'train', data_dir), f'train{year}', TAKEN)
  check(data.load('coco', 'val', data_dir), f'val{year}', [25, 36])


def test_joined_with_voc(raw, data_dir):
  """As the paper's first phase of training: 'trainaug+coco:train+coco:val' of voc."""
  write(raw, official())
  joined = data.load('voc', 'coco:train[:2]+coco:val', data_dir, raw)
  names = [file_name('train2014', number) for number in TAKEN[:2]]
  names += [file_name('val2014', number) for number in (25, 36)]
  assert [f'{example["name"]}.jpg' for example in joined] == names
  np.testing.assert_array_equal(joined[-1]['label'], expected(36))
  assert data.classes('coco').names == data.classes('voc').names


def test_every_class_by_its_name():
  known = {name: VOC.names[index] for name, index in CATEGORIES.values() if index is not None}
  assert sorted(known.values()) == sorted(VOC.names[1:])
  assert {name: voc for name, voc in known.items() if name != voc} == coco.OTHER_NAMES


def test_pictures_and_annotations_may_lie_apart(raw, data_dir):
  archives = official()
  annotations = archives.pop('annotations_trainval2014.zip')
  write(raw / 'images', archives, packed=False)
  write(raw, {'annotations_trainval2014.zip': annotations})
  data.prepare('coco', data_dir, raw)
  check(data.load('coco', 'train', data_dir), 'train2014', TAKEN)


def test_the_papers_year_goes_first(raw, data_dir):
  write(raw, official(2017))
  write(raw, official(2014))
  data.prepare('coco', data_dir, raw)
  assert data.load('coco', 'train', data_dir)[0]['name'].startswith('COCO_train2014')
  data.prepare('coco', data_dir / 'other', raw, year=2017)
  assert data.load('coco', 'train', data_dir / 'other')[0]['name'] == '000000000009'
  with pytest.raises(InputError, match='2015: choose one of'):
    data.prepare('coco', data_dir / 'third', raw, year=2015)


def test_one_split_alone(raw, data_dir, caplog):
  write(raw, official(parts=('val',)))
  with caplog.at_level(logging.INFO):
    data.prepare('coco', data_dir, raw)
  assert 'no split train: it needs train2014.zip' in caplog.text
  with pytest.raises(InputError, match=r'choose one of val; it needs train2014\.zip'):
    data.load('coco', 'train', data_dir)


def test_min_pixels(raw, data_dir, caplog):
  write(raw, official())
  sizes = {number: ((expected(number) > 0) & (expected(number) < 255)).sum() for number in TAKEN}
  limit = sizes[9]
  data.prepare('coco', data_dir / 'a', raw, min_pixels=int(limit))
  taken = [number for number in TAKEN if sizes[number] >= limit]
  assert 9 in taken and 36 not in taken
  check(data.load('coco', 'train', data_dir / 'a'), 'train2014', taken)
  with pytest.raises(InputError, match='no picture of train2014 has 800 pixels of VOC'):
    data.prepare('coco', data_dir / 'b', raw, min_pixels=800)
  with caplog.at_level(logging.WARNING):
    data.prepare('coco', data_dir / 'a', raw, min_pixels=7)
  assert "exists already; to prepare it with {'min_pixels': 7}, delete it first" in caplog.text


def drawn(segmentation):
  """A segmentation as COCO's own library draws it."""
  runs = pycocotools.frPyObjects(segmentation, HEIGHT, WIDTH)
  if isinstance(segmentation, list):
    runs = pycocotools.merge(runs)
  return pycocotools.decode(runs).astype(bool)


def regions(segmentations):
  for place, (name, segmentation, iscrowd) in enumerate(segmentations):
    yield annotation(name, segmentation, iscrowd) | {'id': place, 'image_id': 9}


def read(tmp_path, annotations, part='train2014', numbers=(9,)):
  content = instances(part, numbers) | {'annotations': list(annotations)}
  raw_files.unpack(tmp_path, {f'annotations/instances_{part}.json': json.dumps(content).encode()})
  return coco.read_annotations(coco.annotations_in(tmp_path, part), part)


coordinates = st.floats(-3, WIDTH + 3).map(lambda value: round(value, 2))
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7).map(
  lambda points: [value for point in points for value in point]
)
masks = st.integers(0, 2**32 - 1).map(
  lambda seed: runs(np.random.default_rng(seed).integers(0, 2, (HEIGHT, WIDTH)))
)
segmentations = st.tuples(
  st.sampled_from(['person', 'cup', 'tv', 'couch']),
  st.one_of(st.lists(polygons, min_size=1, max_size=3), masks),
  st.integers(0, 1),
)


@pytest.mark.filterwarnings('ignore:__array__:DeprecationWarning')  # pycocotools with NumPy 2.
@settings(max_examples=50)
@given(several=st.lists(segmentations, max_size=5))
def test_drawn_as_cocos_library_draws(tmp_path_factory, several):
  (picture,) = read(tmp_path_factory.mktemp('raw'), regions(several))
  expected, objects = np.zeros((HEIGHT, WIDTH), np.uint8), []
  for name, segmentation, iscrowd in several:
    if name != 'cup':
      objects.append((drawn(segmentation), 255 if iscrowd else CATEGORIES[IDS[name]][1]))
  objects.sort(key=lambda two: -two[0].sum())  # Stable, as is the order of equals in the file.
  for crowds in (True, False):
    for inside, value in objects:
      if (value == 255) == crowds:
        expected[inside] = value
  np.testing.assert_array_equal(coco.mask(picture), expected)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_run_length_strings(tmp_path_factory, seed, share):
  """Other programs write these; COCO has numbers."""
  mask = np.asfortranarray(np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share, np.uint8)
  string = pycocotools.encode(mask)
  string = {'size': [HEIGHT, WIDTH], 'counts': string['counts'].decode()}
  (picture,) = read(tmp_path_factory.mktemp('raw'), regions([('cow', string, 0)]))
  np.testing.assert_array_equal(coco.mask(picture), 10 * mask)


json_values = st.recursive(
  st.sampled_from([None, True, -12, 345, 1.5e-7, '', 'a"\\{[,é€𝄞']),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('ab'), inner),
  max_leaves=6,
)


@settings(max_examples=100)
@given(
  others=st.dictionaries(st.sampled_from(['x', '', 'image']), json_values),
  more=st.dictionaries(st.sampled_from(['x', '', 'keypoints']), json_values),
  indent=st.sampled_from([None, 1]),
  ascii=st.booleans(),
)
def test_what_else_stands_in_the_file(tmp_path_factory, others, more, indent, ascii):
  """And how it is laid out, and in which order."""
  content = others | dict(reversed(instances('train2014', (9, 36)).items()))
  content['annotations'] = [more | each for each in content['annotations']]
  text = json.dumps(content, indent=indent, ensure_ascii=ascii).encode('utf-8')
  tmp_path = tmp_path_factory.mktemp('raw')
  raw_files.unpack(tmp_path, {'annotations/instances_train2014.json': text})
  images = coco.read_annotations(coco.annotations_in(tmp_path, 'train2014'), 'train2014')
  for number, image in zip((9, 36), images, strict=True):
    np.testing.assert_array_equal(coco.mask(image), expected(number))


@pytest.mark.parametrize(
  'text',
  ['', '[]', '5', '{"a" 1}', '{"a": [1 2]}', '{"a": [1,', '{"a": 1', '{', '{} {}', '{"a": NaN}'],
)
def test_broken_json(tmp_path, text):
  raw_files.unpack(tmp_path, {'annotations/instances_train2014.json': text.encode()})
  with pytest.raises(InputError, match=r'instances_train2014\.json: is not whole'):
    coco.read_annotations(coco.annotations_in(tmp_path, 'train2014'), 'train2014')


def test_memory_is_that_of_the_run_lengths(tmp_path):
  """As Python's lists, the polygons would take twice the memory of the file."""
  rng = np.random.default_rng(0)
  points = rng.uniform(0, WIDTH, (1000, 1, 400)).round(9).tolist()
  annotations = regions(('person', polygon, 0) for polygon in points)
  content = instances('train2014', (9,)) | {'annotations': list(annotations)}
  content = json.dumps(content).encode()
  raw_files.unpack(tmp_path, {'annotations/instances_train2014.json': content})
  del points
  tree = coco.annotations_in(tmp_path, 'train2014')
  tracemalloc.start()
  (picture,) = coco.read_annotations(tree, 'train2014')
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert len(picture.regions) == 1000 and len(content) > 5_000_000
  assert peak < len(content) / 5


@pytest.mark.parametrize('library', ['ijson', 'pycocotools'])
def test_without_a_library(raw, data_dir, monkeypatch, library):
  write(raw, official())
  monkeypatch.setitem(sys.modules, library, None)
  refused(raw, data_dir, r"^coco: .* pip install 'dilated_jax\[coco\]'")


NUMBERS = {'size': [HEIGHT, WIDTH], 'counts': [HEIGHT * WIDTH]}
WRONG_REGIONS = [
  ({'image_id': 77}, 'its image_id 77 is none of the images'),
  ({'image_id': [1]}, 'unhashable'),
  ({'segmentation': None}, 'its segmentation is a NoneType'),
  ({'segmentation': 'abc'}, 'its segmentation is a str'),
  ({'segmentation': [[1, 2, 3, 4, 5, 6, 7]]}, 'a polygon that is no list of x, y'),
  ({'segmentation': [[1, 2, 3, 4, 5, 1e9]]}, 'a polygon that is no list of x, y'),
  ({'segmentation': [1, 2, 3, 4, 5, 6]}, 'a polygon that is no list of x, y'),
  ({'segmentation': [['a', 'b', 'c', 'd', 'e', 'f']]}, 'could not convert'),
  ({'segmentation': [[[1, 2], [3]]]}, 'inhomogeneous'),
  ({'segmentation': {'size': [HEIGHT, WIDTH]}}, "has no 'counts'"),
  ({'segmentation': NUMBERS | {'size': [WIDTH, HEIGHT]}}, 'its size .* is not that'),
  ({'segmentation': NUMBERS | {'counts': [5]}}, 'run lengths make 5 pixels, its image 768'),
  ({'segmentation': NUMBERS | {'counts': []}}, 'run lengths make 0 pixels'),
  ({'segmentation': NUMBERS | {'counts': [800, -32]}}, 'run lengths are no numbers'),
  ({'segmentation': NUMBERS | {'counts': [1.5, 766.5]}}, 'run lengths are no numbers'),
  ({'segmentation': NUMBERS | {'counts': 768}}, 'not iterable'),
  ({'segmentation': NUMBERS | {'counts': '\u20ac'}}, 'no run-length string'),
  ({'segmentation': NUMBERS | {'counts': 'oooooooooooo'}}, 'no run-length string'),
  ({'segmentation': NUMBERS | {'counts': 'o'}}, 'breaks off'),
]


@pytest.mark.parametrize(('change', 'message'), WRONG_REGIONS)
def test_a_wrong_annotation_is_named(tmp_path, change, message):
  (good,) = regions([('cat', box(1, 1, 5, 5), 0)])
  with pytest.raises(InputError, match=message) as raised:
    read(tmp_path, [good, good | {'id': 4711} | change])
  text = str(raised.value)
  assert 'instances_train2014.json: annotations 4711: ' in text and '\n' not in text


@pytest.mark.parametrize('number', [float('nan'), float('inf'), 10**400])
def test_numbers_that_are_none(tmp_path, number):
  """Python's json writes NaN and Infinity, which are not JSON."""
  with pytest.raises(InputError, match=r'instances_train2014\.json: is not whole') as raised:
    read(tmp_path, regions([('cat', [[1, 2, 3, 4, 5, number]], 0)]))
  assert '\n' not in str(raised.value)


def test_the_wrong_annotation_of_another_class_is_not_looked_at(tmp_path):
  (picture,) = read(tmp_path, regions([('cup', None, 0)]))
  assert picture.regions == []


def with_json(raw, change):
  """Writes the data set with other annotations of train; `change` returns them."""
  archives = official()
  files = archives['annotations_trainval2014.zip']
  name = 'annotations/instances_train2014.json'
  files[name] = change(json.loads(files[name]))
  if not isinstance(files[name], bytes):
    files[name] = json.dumps(files[name]).encode()
  write(raw, archives)


def image(**fields):
  def change(content):
    content['images'][1] |= fields
    return content

  return change


WRONG_FILES = [
  (lambda content: b'', 'is not whole'),
  (lambda content: json.dumps(content).encode()[:-700], 'is not whole'),
  (lambda content: json.dumps(content).encode('utf-16'), 'is not whole'),
  (lambda content: b'[' * 100_000, 'is not whole'),
  (lambda content: b'{"images": [' + b'[' * 100_000, 'is not whole'),
  (lambda content: b'{"a":' * 100_000, 'is not whole'),
  (lambda content: b'[1]', 'is not whole'),
  (lambda content: content | {'images': 5}, 'its image_id'),
  (lambda content: content | {'images': [5]}, 'images: '),
  (lambda content: content | {'images': []}, 'its image_id'),
  (lambda content: content | {'annotations': []}, 'no picture of train2014 has an object of VOC'),
  (lambda content: content | {'categories': content['categories'][1:]}, 'no categories .* person '),
  (lambda content: content | {'categories': [{'id': 1}]}, "categories 1: has no 'name'"),
  (image(id=9), 'images 9: occurs twice'),
  (image(file_name='COCO_train2014_000000000009.jpg'), 'two images of one file_name'),
  (image(file_name='../../etc/passwd'), r"file_name is '\.\./\.\./etc/passwd'"),
  (image(file_name=7), 'file_name is 7'),
  (image(width=10**9), 'its width is 1000000000'),
  (image(height=0), 'its height 0'),
  (image(height='24'), "its height '24'"),
  (image(file_name='lost.jpg'), r'has no train2014/lost\.jpg'),
]


@pytest.mark.parametrize(('change', 'message'), WRONG_FILES)
def test_wrong_annotations_are_named(raw, data_dir, change, message):
  with_json(raw, change)
  text = refused(raw, data_dir, message)
  assert 'train2014' in text and len(text) < 1000


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, r'has no train2014/COCO_train2014_000000000025\.jpg'),
    (jpeg(25)[:-30], r'000000000025\.jpg: is not a complete image'),
    (raw_files.png(np.zeros((7, 5, 3), np.uint8)), r'000000000025\.jpg: is 5x7, .* of 32x24'),
  ],
)
def test_wrong_pictures_are_named(raw, data_dir, content, message):
  archives = official()
  archives['train2014.zip']['train2014/COCO_train2014_000000000025.jpg'] = content
  archives['train2014.zip'] = {
    name: content for name, content in archives['train2014.zip'].items() if content is not None
  }
  write(raw, archives)
  refused(raw, data_dir, message)


def test_missing_annotations(raw, data_dir):
  archives = official()
  del archives['annotations_trainval2014.zip']
  write(raw, archives)
  refused(raw, data_dir, r'no annotations_trainval2014\.zip here', r'cocodataset\.org')


def test_nothing_there(raw, data_dir):
  raw.mkdir()
  refused(raw, data_dir, r'call `data\.prepare` for coco with its folder as `manual_dir`')


@pytest.mark.parametrize('archive', ['train2014.zip', 'annotations_trainval2014.zip'])
@pytest.mark.parametrize('share', [0, 0.5, 0.95])
def test_a_truncated_archive(raw, data_dir, archive, share):
  write(raw, official())
  content = (raw / archive).read_bytes()
  (raw / archive).write_bytes(content[: int(share * len(content))])
  refused(raw, data_dir, rf'{archive}: the archive is damaged')


@pytest.mark.parametrize('archive', ['train2014.zip', 'annotations_trainval2014.zip'])
def test_a_hostile_member(raw, data_dir, archive):
  archives = official()
  archives[archive]['../../evil'] = b'evil'
  write(raw, archives)
  refused(raw, data_dir, rf'{archive}: the member \.\./\.\./evil leads out')


def test_an_interrupted_build_leaves_nothing(raw, data_dir, monkeypatch):
  def interrupted(*args):
    yield next(generate(*args))
    raise KeyboardInterrupt

  write(raw, official())
  generate = base.generate_features
  monkeypatch.setattr(base, 'generate_features', interrupted)
  with pytest.raises(KeyboardInterrupt):
    data.prepare('coco', data_dir, raw)
  assert not [path for path in data_dir.rglob('*') if path.is_file()]
  monkeypatch.undo()
  data.prepare('coco', data_dir, raw)
  check(data.load('coco', 'val', data_dir), 'val2014', [25, 36])


def test_the_command_tells_what_is_there(raw, data_dir, capsys):
  write(raw, official())
  values = flags.FlagValues()
  prepare.define_flags(values)
  values(['prepare', '--dataset=coco', f'--manual_dir={raw}', f'--data_dir={data_dir}'])
  prepare.main(values)
  rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
  assert rows['pictures'] == ['4', '2']
  assert rows['tvmonitor'][1] == f'{(expected(36) == 20).mean() / 2:.2%}'
