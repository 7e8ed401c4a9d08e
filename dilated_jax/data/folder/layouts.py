"""Finds the images and labels of a folder, in any of the layouts that people use."""

from collections.abc import Sequence
import dataclasses
import pathlib

from dilated_jax.data.folder import names
from dilated_jax.data.folder.lists import apply_lists, find_lists
from dilated_jax.data.folder.names import SPLITS
from dilated_jax.data.folder.pairing import Pairing, Problem, match_files
from dilated_jax.errors import InputError
from dilated_jax.images import matching, similar_names

LAYOUTS = (
  'images/ and labels/ (or masks/), with train/, val/ and test/ below or above them if there are '
  'splits, or train.txt, val.txt and test.txt with one name or "image label" on each line'
)


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
  _require_folder(root)
  folders, unused = _find_folders(root)
  lists, remarks = find_lists(root)
  if not folders and not lists:
    found = ''
    deeper = [path for path in _subfolders(root) if _find_folders(path)[0] or find_lists(path)[0]]
    if deeper:
      found = f'; {deeper[0]} has some'
    elif pair := _side_by_side(root):
      image, label = (path.relative_to(root) for path in pair)
      raise InputError(
        f'{root}: images and labels lie in one folder here, such as {image} and {label}; write a '
        f'list of pairs, {root / "train.txt"} with "{image} {label}" and so on, one pair on each '
        'line, and val.txt with those for validation'
      )
    elif unused:
      found = f' (subfolders: {", ".join(unused[:8])}{", ..." if len(unused) > 8 else ""})'
    elif images := matching.list_images(root).images:
      found = f' ({len(images)} images lie in the folder itself)'
    raise InputError(f'{root}: no images with labels are found here{found}; expected {LAYOUTS}')
  if folders and unused:
    remarks.append(Problem('passed over', root, f'subfolders not used: {", ".join(unused)}'))
  pairs, problems = [], []
  for images, labels, split in folders:
    matched, wrong, remarked = match_files(images, labels)
    pairs += [pair._replace(split=split or pair.split) for pair in matched]
    problems += wrong
    remarks += remarked
  layout = ', '.join(
    dict.fromkeys(f'{images.name}/ and {labels.name}/' for images, labels, _ in folders)
  )
  if folders and folders[0][0].parent != root:
    layout = ', '.join(f'{images.parent.name}/' for images, _, _ in folders) + f' with {layout}'
  if not lists:
    problems += _missing_splits(root, pairs)
    return Pairing.sorted(pairs, problems, (), layout, remarks)
  listed_in = ' and '.join(path.name for files in lists.values() for path in files)
  layout = f'{layout}, listed in {listed_in}' if layout else f'listed in {listed_in}'
  image_roots = [root, *(images for images, _, _ in folders)]
  label_roots = [root, *(labels for _, labels, _ in folders)]
  pairing = apply_lists(lists, pairs, problems, (image_roots, label_roots), layout, remarks)
  return dataclasses.replace(
    pairing, problems=(*pairing.problems, *_missing_splits(root, pairing.pairs))
  )


def _missing_splits(root, pairs) -> list[Problem]:
  """Returns problems of images in no split where others are in one, and of a missing train."""
  if not any(pair.split for pair in pairs):
    return []
  detail = 'is in no split, and other images are; put it into train/, val/ or test/'
  problems = [Problem('in no split', pair.image, detail) for pair in pairs if not pair.split]
  if not any(pair.split in ('train', None) for pair in pairs):
    problems.append(Problem('no train split', root, 'there is no train split; add training images'))
  return problems


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
    split = names.parse(path.stem).split or path.stem
    if split in list_of:
      raise InputError(f'{path}: a second list of {split}, besides {list_of[split][0]}; give one')
    list_of[split] = (path,)
  for folder in (images, labels):
    _require_folder(folder)
  same = images.resolve() == labels.resolve()
  if same and not lists:
    raise InputError(
      f'{images}: images and labels are in one folder; give a list of pairs, such as train.txt '
      'with "x.jpg x_mask.png" and so on, one pair on each line'
    )
  pairs, problems, remarks = ([], [], []) if same else match_files(images, labels)
  layout = f'{images} and {labels}'
  if lists:
    return apply_lists(list_of, pairs, problems, ([images], [labels]), layout, remarks)
  return Pairing.sorted(pairs, problems, (), layout, remarks)


def _require_folder(folder) -> None:
  if not folder.is_dir():
    problem = 'is a file; name its folder' if folder.exists() else 'no such folder'
    raise InputError(f'{folder}: {problem}')


def _find_folders(root) -> tuple[list, list[str]]:
  """Finds (image folder, label folder, split or None), sorted by split, and unused subfolders."""
  children = _subfolders(root)
  found = []
  if folders := _image_and_label_folders(root):
    found = [(*folders, None)]
  else:
    # train/ with images/ and labels/ in it, or train/ and trainannot/ next to each other.
    for path in children:
      split, kind = names.parse(path.name)
      if split and kind != 'labels':
        siblings = [each for each in children if names.parse(each.name) == (split, 'labels')]
        sibling = _nearest_sibling(path, siblings)
        folders = (None if kind else _image_and_label_folders(path)) or (
          sibling and (path, sibling)
        )
        if folders:
          found.append((*folders, split))
    found.sort(key=lambda each: SPLITS.index(each[2]))
  used = {
    each.relative_to(root).parts[0] for images, labels, _ in found for each in (images, labels)
  }
  return found, [path.name for path in children if path.name not in used]


def _side_by_side(root) -> tuple[pathlib.Path, pathlib.Path] | None:
  """Returns an image and its label that lie in one folder, such as train/x.jpg and x_mask.png."""
  groups = {}
  # train/ first, which the message will name.
  folders = sorted(_subfolders(root), key=lambda path: names.parse(path.name).split != 'train')
  for folder in (root, *folders):
    for path in sorted(folder.iterdir()):
      if path.suffix.lower() in matching.SUFFIXES:
        name = similar_names.without_endings(matching.image_name(path))
        groups.setdefault((folder, name), []).append(path)
  for files in groups.values():
    if len(files) > 1:
      # x before x_mask, and x.jpg before x.png.
      image, label, *_ = sorted(files, key=lambda path: (len(path.stem), path.suffix.lower()))
      return image, label
  return None


def _nearest_sibling(path, siblings) -> pathlib.Path | None:
  """Returns the label folder of a split whose name has the same number: train2, trainannot2."""
  number = ''.join(filter(str.isdigit, path.name))
  numbered = [each for each in siblings if ''.join(filter(str.isdigit, each.name)) == number]
  return next(iter(numbered or siblings), None)


def _image_and_label_folders(folder) -> tuple[pathlib.Path, pathlib.Path] | None:
  """Returns the two folders; of several, one with images: VOC's Annotations/ has none."""
  children, both = _subfolders(folder), []
  for kind in ('images', 'labels'):
    folders = [path for path in children if names.parse(path.name) == (None, kind)]
    folders.sort(key=lambda path: names.rank(path.name))
    if len(folders) > 1:
      folders = [path for path in folders if matching.list_images(path).images] or folders
    both.append(next(iter(folders), None))
  return (both[0], both[1]) if both[0] and both[1] else None


def _subfolders(folder) -> list[pathlib.Path]:
  """Returns the subfolders and links to folders, except hidden ones."""
  folders = (path for path in folder.iterdir() if path.is_dir() and path.name[0] not in '._')
  return sorted(folders, key=lambda path: path.name.lower())
