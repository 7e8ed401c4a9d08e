"""Microsoft COCO with the classes of VOC: more pictures to learn from, as in the paper (section 5).

A picture belongs to a split if it has an annotated object of one of VOC's 20 classes; objects of
the other 60 classes are background. The pictures and splits are those of 2014, or else of 2017: the
same 123,287, divided otherwise. What a pixel is:

* Where objects overlap, the smaller one counts: it is, as a rule, in front. (Ours: the paper and
  COCO have no such rule.) Objects of other classes are not drawn, so they cut nothing out.
* A crowd, a region of many objects that nobody has told apart, is ignored where no single object
  is annotated: COCO's own evaluation ignores crowds (`ignore` in pycocotools/cocoeval.py).

Polygons and run lengths are taken as pycocotools takes them, and ijson reads the annotations:
pip install 'dilated_jax[coco]'.
"""

from collections.abc import Iterator
import contextlib
import functools
import operator
import pathlib
import re
from typing import NamedTuple

from absl import logging
import numpy as np

from dilated_jax.data import archives
from dilated_jax.data.builders import base
from dilated_jax.data.label_specs import VOC
from dilated_jax.errors import InputError
from dilated_jax.label_spec import IGNORE

YEARS = (2014, 2017)  # The paper's year first.
COUNTS = {  # All pictures, with and without objects of VOC's classes.
  'train2014': 82783, 'val2014': 40504, 'train2017': 118287, 'val2017': 5000,
}  # fmt: skip
WHERE = 'cocodataset.org/#download'

# Where COCO's names of VOC's classes differ.
OTHER_NAMES = {
  'airplane': 'aeroplane',
  'couch': 'sofa',
  'dining table': 'diningtable',
  'motorcycle': 'motorbike',
  'potted plant': 'pottedplant',
  'tv': 'tvmonitor',
}

# Files that only some splits need.
SPLIT_REQUIREMENTS = {
  split: f'{split}2014.zip and annotations_trainval2014.zip, or those of 2017, from {WHERE}'
  for split in ('train', 'val')
}

_DEPTH = 20  # Lists and objects in each other; COCO's have 5.


class Region(NamedTuple):
  """An annotation: `runs` are pycocotools' compressed run lengths."""

  class_id: int
  crowd: bool
  pixels: int
  runs: bytes


class CocoImage(NamedTuple):
  """A picture and its annotations with classes of VOC; height and width are in pixels."""

  file: str
  height: int
  width: int
  regions: list[Region]


def has_raw_files(folder) -> bool:
  """Returns whether a folder has images of COCO, as archives or unpacked."""
  return any(
    _pictures_in(folder, f'{split}{year}') for split in SPLIT_REQUIREMENTS for year in YEARS
  )


class Coco(base.PairBuilder):
  """Pictures of Microsoft COCO with objects of the 20 classes of VOC, and these classes."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'train2014.zip, val2014.zip and annotations_trainval2014.zip (or those of 2017) of '
    f'{WHERE}, or the folders train2014, val2014 and annotations unpacked from them'
  )

  def __init__(self, *, min_pixels: int = 0, year: int | None = None, **kwargs):
    """Takes what differs from the paper.

    Args:
      min_pixels: how many pixels of VOC's classes a picture needs to be taken. The paper states no
        such number; CRF-RNN took 200 (66,099 pictures of train2014), DeepLab-v3 1000.
      year: 2014 or 2017; None for that of the pictures that are there, 2014 if both are.
      **kwargs: for TFDS.
    """
    self._min_pixels, self._year = min_pixels, year
    super().__init__(**kwargs)

  def check_raw(self, folder):
    _libraries()  # Told before minutes of reading.
    opened = _opened(pathlib.Path(folder), self._year)
    splits, annotated = {}, {}
    for part, (_, annotations) in opened.items():
      split = part[:-4]
      pictures = read_annotations(annotations, part)
      chosen = [picture for picture in pictures if picture.regions]
      if self._min_pixels:
        chosen = [each for each in chosen if _pixels(mask(each)) >= self._min_pixels]
      logging.info('coco: taking %d of %d pictures of %s', len(chosen), len(pictures), part)
      if not chosen:
        few = f'{self._min_pixels} pixels' if self._min_pixels else 'an object'
        raise InputError(f'{annotations.location}: no picture of {part} has {few} of VOC classes')
      if len(pictures) != COUNTS[part]:
        logging.warning('coco: %s has %d pictures, all are %d', part, len(pictures), COUNTS[part])
      annotated |= {picture.file: picture for picture in chosen}
      splits[split] = [
        base.FilePair(pathlib.PurePosixPath(picture.file).stem, picture.file)
        for picture in sorted(chosen)
      ]
    for split in SPLIT_REQUIREMENTS.keys() - splits.keys():
      logging.info('coco: no split %s: it needs %s', split, SPLIT_REQUIREMENTS[split])

    def read(tree, pair, size):
      picture = annotated[pair.image]
      if size != (picture.height, picture.width):
        raise InputError(
          f'{tree.locate(pair.image)}: is {size[1]}x{size[0]}, and the annotations are of '
          f'{picture.width}x{picture.height} (width x height); get both again from {WHERE}'
        )
      return mask(picture), None

    tree = functools.reduce(operator.or_, (pictures for pictures, _ in opened.values()))
    found = {split: len(listed) for split, listed in splits.items()}
    return tree, base.check_splits(tree, splits, read, found)


def mask(picture: CocoImage) -> np.ndarray:
  """Draws the annotations of a picture, see the head of this file: uint8 (H, W), ids and 255."""
  ids = np.zeros((picture.height, picture.width), np.uint8)
  for region in sorted(picture.regions, key=lambda region: (not region.crowd, -region.pixels)):
    counts = _run_lengths(region.runs.decode())
    # Column by column, beginning with what lies outside.
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    ids.T[inside.reshape(ids.T.shape)] = IGNORE if region.crowd else region.class_id
  return ids


def _pixels(ids) -> int:
  return int(((ids > 0) & (ids != IGNORE)).sum())


def _libraries():
  """The modules ijson and pycocotools.mask."""
  try:
    import ijson
    from pycocotools import mask
  except ImportError as error:
    raise InputError(
      'coco: its annotations are read by ijson and drawn by pycocotools: pip install '
      f"'dilated_jax[coco]' ({error})"
    ) from error
  return ijson, mask


# Finding the files.


def _pictures_in(folder, part) -> pathlib.Path | None:
  """The folder with train2014/ or train2014.zip: `folder` or its images/; None if neither."""
  places = pathlib.Path(folder), pathlib.Path(folder, 'images')
  files = {'folders': (part,), 'archives': (f'{part}.zip',)}
  return next((place for place in places if archives.exists(place, **files)), None)


def _opened(folder, year) -> dict[str, tuple[archives.Tree, archives.Tree]]:
  """Pictures and annotations of the splits that are there, by 'train2014' and the like."""
  if year not in (None, *YEARS):
    raise InputError(f'coco: no pictures of the year {year}: choose one of {YEARS}')
  for each in YEARS if year is None else (year,):
    opened = {}
    for part in (f'train{each}', f'val{each}'):
      if place := _pictures_in(folder, part):
        pictures = archives.open_tree(
          place, folders=(part,), archives=(f'{part}.zip',), name=f'COCO {part}', source=WHERE
        )
        opened[part] = pictures, annotations_in(folder, part)
    if opened:
      return opened
  raise InputError(f'{folder}: no pictures of COCO of {year}: no train{year} and no val{year}')


def annotations_in(folder, part) -> archives.Tree:
  """Opens the annotations of a split, 'train2014' and the like."""
  return archives.open_tree(
    folder,
    folders=(f'annotations/instances_{part}.json',),
    archives=(f'annotations_trainval{part[-4:]}.zip',),
    name=f'COCO {part}',
    source=WHERE,
  )


# Reading the annotations.


def read_annotations(tree: archives.Tree, part: str) -> list[CocoImage]:
  """Reads the pictures of a split and what is annotated in them.

  The file has 450 MB and would fill gigabytes as Python's lists: it is read element by element, a
  list at a time, and of polygons only run lengths are kept.

  Args:
    tree: that holds annotations/instances_{part}.json.
    part: 'train2014' and the like.

  Returns:
    All pictures; those without objects of VOC's classes have no regions.

  Raises:
    InputError: the file is damaged, or not of this kind.
  """
  file = f'annotations/instances_{part}.json'
  _check_json(tree, file)
  images, classes = {}, {}
  for fields in _elements(tree, file, 'images'):
    with _named(tree, file, 'images', fields):
      if fields['id'] in images:
        raise ValueError('occurs twice')
      images[fields['id']] = _image(part, fields)
  for fields in _elements(tree, file, 'categories'):
    with _named(tree, file, 'categories', fields):
      name = OTHER_NAMES.get(fields['name'], fields['name'])
      if name in VOC.names[1:]:
        classes[fields['id']] = VOC.names.index(name)
  missing = [name for index, name in enumerate(VOC.names) if index not in (0, *classes.values())]
  if missing:
    raise tree.error(file, f'has no categories that are {", ".join(missing)} of VOC')
  if len({image.file for image in images.values()}) < len(images):
    raise tree.error(file, 'has two images of one file_name')
  for fields in _elements(tree, file, 'annotations'):
    with _named(tree, file, 'annotations', fields):
      if fields['category_id'] in classes:
        if fields['image_id'] not in images:
          raise ValueError(f'its image_id {fields["image_id"]!r} is none of the images')
        image = images[fields['image_id']]
        image.regions.append(_region(fields, classes[fields['category_id']], image))
  return list(images.values())


def _image(part, fields) -> CocoImage:
  name, height, width = fields['file_name'], fields['height'], fields['width']
  if not isinstance(name, str) or '/' in name:
    raise ValueError(f'its file_name is {name!r}')
  if not all(type(side) is int and 0 < side < 2**15 for side in (height, width)):
    raise ValueError(f'its width is {width!r} and its height {height!r}')
  return CocoImage(f'{part}/{name}', height, width, [])


def _region(fields, class_id, image) -> Region:
  runs = _runs(fields['segmentation'], image.height, image.width)
  pixels = sum(_run_lengths(runs.decode())[1::2])
  return Region(class_id, bool(fields.get('iscrowd')), pixels, runs)


def _runs(segmentation, height, width) -> bytes:
  """Returns the run-length string that pycocotools makes of polygons or run lengths.

  It trusts them blindly, so all is checked first.

  Raises:
    ValueError: they are neither, or not of a picture of this size.
  """
  _, library = _libraries()
  if isinstance(segmentation, dict):
    counts = segmentation['counts']
    if isinstance(counts, str):
      counts = _run_lengths(counts)
    if segmentation['size'] != [height, width]:
      raise ValueError(f'its size {segmentation["size"]!r} is not that of its image')
    if not all(type(count) is int and count >= 0 for count in counts):
      raise ValueError('its run lengths are no numbers')
    if sum(counts) != height * width:
      raise ValueError(f'its run lengths make {sum(counts)} pixels, its image {height * width}')
  elif isinstance(segmentation, list):
    polygons = [_polygon(points, 2 * max(height, width)) for points in segmentation]
    # Two points enclose nothing; pycocotools would take them for a box.
    polygons = [points for points in polygons if len(points) >= 6]
    if polygons:
      return library.merge(library.frPyObjects(polygons, height, width))['counts']
    counts = [height * width]
  else:
    raise ValueError(f'its segmentation is a {type(segmentation).__name__}')
  return library.frPyObjects({'size': [height, width], 'counts': counts}, height, width)['counts']


def _polygon(points, limit) -> list[float]:
  """Returns x, y, x, y, ...; some stick out a little, and far ones would take long to draw."""
  points = np.asarray(points, np.float64)
  if points.ndim != 1 or points.size % 2 or not (abs(points) <= limit).all():
    raise ValueError('its segmentation has a polygon that is no list of x, y in its image')
  return points.tolist()


def _run_lengths(text: str) -> list[int]:
  """Decodes a run-length string: 5 bits a character, low ones first, differences from the third on.

  Source: rleToString in common/maskApi.c of github.com/cocodataset/cocoapi.
  """
  numbers = re.findall('[P-o]{0,6}[0-O]', text)
  if sum(map(len, numbers)) < len(text):
    raise ValueError('its run lengths are no run-length string, or it breaks off')
  counts = []
  for number in numbers:
    codes = [ord(character) - 48 for character in number]
    value = sum((code & 31) << 5 * place for place, code in enumerate(codes))
    if codes[-1] & 16:
      value -= 1 << 5 * len(codes)
    counts.append(value + counts[-2] if len(counts) > 2 else value)
  return counts


# Reading JSON piece by piece.


@contextlib.contextmanager
def _reading(tree, file) -> Iterator:
  """A file of JSON, for `with`; errors in it are told of."""
  ijson, _ = _libraries()
  with tree.open(file) as stream:
    try:
      yield stream
    except (ijson.JSONError, ValueError) as error:
      raise tree.error(file, f'is not whole ({" ".join(str(error).split())[:200]})') from error


def _check_json(tree, file) -> None:
  """Makes sure that a file is one JSON object without many lists in each other.

  The memory that ijson takes for the names of elements grows with the square of that depth.
  """
  ijson, _ = _libraries()
  depth = 0
  with _reading(tree, file) as stream:
    for event, _ in ijson.basic_parse(stream, use_float=True):
      if event in ('start_map', 'start_array'):
        depth += 1
      elif event in ('end_map', 'end_array'):
        depth -= 1
      if depth > _DEPTH or (depth == 0 and event != 'end_map'):
        raise ValueError(f'it is no JSON object, or has over {_DEPTH} lists in each other')


def _elements(tree, file, kind) -> Iterator:
  """Yields the elements of one of the lists in a file."""
  ijson, _ = _libraries()
  with _reading(tree, file) as stream:
    yield from ijson.items(stream, f'{kind}.item', use_float=True)


@contextlib.contextmanager
def _named(tree, file, kind, fields) -> Iterator[None]:
  """Says which element is wrong if one is."""
  try:
    yield
  except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
    what = f'has no {error}' if isinstance(error, KeyError) else str(error)
    name = f'{kind} {fields.get("id")!r}' if isinstance(fields, dict) else kind
    raise tree.error(file, ' '.join(f'{name}: {what}'.split())) from error
