"""Finds the images and labels of a folder, in any of the layouts that people use."""

from collections.abc import Sequence
import pathlib

from dilated_jax.data.folder.lists import apply_lists, find_lists
from dilated_jax.data.folder.pairing import SPLIT_NAMES, SPLITS, Pairing, match_files
from dilated_jax.errors import InputError

LAYOUTS = (
  'images/ and labels/ (or masks/), with train/, val/ and test/ below or above them if there are '
  'splits, or train.txt, val.txt and test.txt with one name or "image label" on each line'
)
# Names that people give to the two folders, in lower case.
_IMAGE_FOLDERS = ('images', 'image', 'imgs', 'img', 'pictures', 'photos', 'jpegimages')
_LABEL_FOLDERS = (
  'labels', 'label', 'masks', 'mask', 'annotations', 'annot', 'gt', 'segmentationclass',
)  # fmt: skip


def find_pairs(root) -> Pairing:
  """Pairs the images and labels of a folder, see `LAYOUTS`.

  Args:
    root: folder; nothing is written to it. The layouts of two other programs are understood too:
      train/ and trainannot/, as in SegNet's CamVid, and lists train_images.txt and
      train_labels.txt, as for the authors' Caffe.

  Returns:
    a Pairing.

  Raises:
    InputError: there is no such folder, it has none of these layouts, or a list is damaged.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    raise InputError(f'{root}: no such folder')
  folders = _find_folders(root)
  lists = find_lists(root)
  if not folders and not lists:
    raise InputError(f'{root}: no images with labels are found here; expected {LAYOUTS}')
  pairs, problems = [], []
  for images, labels, split in folders:
    matched, wrong = match_files(images, labels)
    pairs += [pair._replace(split=split or pair.split) for pair in matched]
    problems += wrong
  layout = ', '.join(f'{images.name}/ and {labels.name}/' for images, labels, _ in folders)
  if folders and folders[0][0].parent != root:
    layout = ', '.join(f'{images.parent.name}/' for images, _, _ in folders) + f' with {layout}'
  if lists:
    names = ' and '.join(path.name for files in lists.values() for path in files)
    layout = f'{layout}, listed in {names}' if layout else f'listed in {names}'
    image_roots = [root, *(images for images, _, _ in folders)]
    label_roots = [root, *(labels for _, labels, _ in folders)]
    return apply_lists(lists, pairs, problems, (image_roots, label_roots), layout)
  return Pairing.sorted(pairs, problems, (), layout)


def pair_folders(images, labels, lists: Sequence = ()) -> Pairing:
  """Pairs the images of one folder with the labels of another.

  Args:
    images: folder of images; subfolders called train, val and test are splits.
    labels: folder of labels with the same names, except for official suffixes.
    lists: list files, each named after its split.

  Returns:
    a Pairing.

  Raises:
    InputError: a folder or list is missing, empty or damaged.
  """
  images, labels = pathlib.Path(images), pathlib.Path(labels)
  list_of = {}
  for path in map(pathlib.Path, lists):
    split = SPLIT_NAMES.get(path.stem.lower(), path.stem)
    if split in list_of:
      raise InputError(f'{path}: a second list of {split}, besides {list_of[split][0]}; give one')
    list_of[split] = (path,)
  for folder in (images, labels):
    if not folder.is_dir():
      raise InputError(f'{folder}: no such folder')
  same = images.resolve() == labels.resolve()
  if same and not lists:
    raise InputError(f'{images}: images and labels are in one folder; give a list of pairs')
  pairs, problems = ([], []) if same else match_files(images, labels)
  layout = f'{images} and {labels}'
  if lists:
    return apply_lists(list_of, pairs, problems, ([images], [labels]), layout)
  return Pairing.sorted(pairs, problems, (), layout)


def _find_folders(root) -> list:
  """Returns (image folder, label folder, split or None) of a layout, sorted by split."""
  if folders := _image_and_label_folders(root):
    return [(*folders, None)]
  children = _subfolders(root)
  found = []
  for name, path in children.items():
    split = SPLIT_NAMES.get(name)
    if not split:
      continue
    # train/ with images/ and labels/ in it, or train/ and trainannot/ next to each other.
    siblings = (
      children.get(f'{name}{separator}{label}')
      for separator in ('', '_', '-')
      for label in _LABEL_FOLDERS
    )
    folders = _image_and_label_folders(path) or next(
      ((path, sibling) for sibling in siblings if sibling), None
    )
    if folders:
      found.append((*folders, split))
  return sorted(found, key=lambda each: SPLITS.index(each[2]))


def _image_and_label_folders(folder):
  children = _subfolders(folder)
  both = [
    next((children[name] for name in names if name in children), None)
    for names in (_IMAGE_FOLDERS, _LABEL_FOLDERS)
  ]
  return both if all(both) else None


def _subfolders(folder) -> dict:
  return {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
