"""What the names of folders and lists say: which split, and images or labels."""

import re
from typing import NamedTuple

SPLITS = ('train', 'val', 'test')
# Names that people give to splits, the longest first; and to the folders of images and of labels,
# the most common first.
_SPLIT_WORDS = {
  'training': 'train', 'train': 'train', 'validation': 'val', 'valid': 'val', 'val': 'val',
  'testing': 'test', 'test': 'test',
}  # fmt: skip
_IMAGE_WORDS = (
  'images', 'image', 'imgs', 'img', 'pictures', 'picture', 'photos', 'jpegimages', 'frames',
)  # fmt: skip
_LABEL_WORDS = (
  'labels', 'label', 'masks', 'mask', 'annotations', 'annotation', 'annots', 'annot', 'anns', 'ann',
  'gt', 'groundtruth', 'segmentationclass', 'segmentations', 'segmentation',
)  # fmt: skip
_FILLERS = 'sets?|splits?|data|dataset|list|files?|names|dirs?'


def _alternatives(words) -> str:
  return '|'.join(words)


_KIND = f'(?P<{{}}>{_alternatives((*_IMAGE_WORDS, *_LABEL_WORDS))})?'
_NAME = re.compile(
  f'{_KIND.format("before")}(?:{_FILLERS})*(?P<split>{_alternatives(_SPLIT_WORDS)})?'
  f'(?:{_FILLERS})*{_KIND.format("after")}(?:{_FILLERS})*'
)


class Meaning(NamedTuple):
  """What a name says.

  Attributes:
    split: one of `SPLITS`, or None if it names none.
    kind: 'images', 'labels', or None.
  """

  split: str | None
  kind: str | None


def parse(name: str) -> Meaning:
  """Reads the name of a folder or list: 'train2017', 'Train_set', 'val-labels', 'testimages'.

  Numbers, separators and case don't matter. A name with any other word says nothing.
  """
  found = _NAME.fullmatch(re.sub(r'[\W\d_]+', '', name.lower()))
  if not found or (found['before'] and found['after']):
    return Meaning(None, None)
  kind = found['before'] or found['after']
  if kind:
    kind = 'images' if kind in _IMAGE_WORDS else 'labels'
  return Meaning(_SPLIT_WORDS.get(found['split'] or ''), kind)


def rank(name: str) -> int:
  """Returns how uncommon a name of a folder of images or labels is; 0 is the most common."""
  word = re.sub(r'[\W\d_]+', '', name.lower())
  words = (*_IMAGE_WORDS, *_LABEL_WORDS)
  return words.index(word) if word in words else len(words)
