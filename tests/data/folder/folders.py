"""Small folders of images and labels for the tests."""

import json

import numpy as np
from PIL import Image
import pytest

from dilated_jax import data
from dilated_jax.data import folder
from dilated_jax.data.label_specs import SCENES
from dilated_jax.errors import InputError

RNG = np.random.default_rng(0)

SIZE = 12, 20


def save(content, path, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = content if isinstance(content, Image.Image) else Image.fromarray(content)
  image.save(path, **options)
  return path


def picture(size=SIZE):
  return RNG.integers(0, 256, (*size, 3), np.uint8)


def blocks(*values, size=SIZE):
  """A map in which each value fills a column, and so 2x2 pixels."""
  return np.repeat(np.resize(values, size[1] // 2 + 1), 2)[: size[1]][None].repeat(size[0], 0)


def ids(*values, size=SIZE):
  return blocks(*values, size=size).astype(np.uint8)


THREE = ids(0, 1, 2)


def make(root, names='abcdefgh', label=THREE, images='images', masks='labels'):
  for name in names:
    save(picture(), root / images / f'{name}.png')
    save(label, root / masks / f'{name}.png')
  return root


def files_of(root):
  return sorted((path, path.stat().st_mtime_ns) for path in root.rglob('*'))


def load(root, split='train'):
  return data.load('folder', split, root)


def refused(root, words):
  with pytest.raises(InputError, match=words) as raised:
    folder.scan(root)
  assert '\n' not in str(raised.value)


LISTS = {
  'names': ('{}', None),
  'files': ('{}.png', None),
  'paths': ('images/{}.png', None),
  'pairs': ('images/{0}.png labels/{0}.png', None),
  'of another machine': ('/SegNet/x/images/{0}.png /SegNet/x/labels/{0}.png', None),
  'commas': ('images/{0}.png, labels/{0}.png', None),
  'Caffe': ('images/{}.png', 'labels/{}.png'),
}


def check(root, expected, names=None):
  """All labels of train and val, as class ids."""
  for split in data.splits('folder', root):
    for example in load(root, split):
      np.testing.assert_array_equal(example['label'], expected)
  if names:
    assert data.classes('folder', root).names == names


PALETTE = [*SCENES.palette, *[(9, 9, 9)] * 248, (224, 224, 192)]


def with_palette(array, palette):
  image = Image.fromarray(array)
  image.putpalette(np.ravel(palette).astype(np.uint8).tolist())
  return image


COLORS = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)


def say(root, **content):
  (root / 'classes.json').write_text(json.dumps(content))
