"""What one picture and its label tell: both are read once and remembered in a few kilobytes."""

import dataclasses
import hashlib

import numpy as np
from PIL import Image

from dilated_jax.data.audit.findings import Issue
from dilated_jax.data.folder import labels, pairing
from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files

THUMB = 32  # Pixels of a side of the reduced picture by which near duplicates are found.


@dataclasses.dataclass(frozen=True, eq=False)
class PairStats:
  """A pair that was looked at.

  Attributes:
    name: of the pair.
    split: of the pair, or None.
    image, label: where they are, for messages.
    faults: what is wrong with the files themselves.
    shape: (H, W) of the picture; None if it can't be read.
    gray: whether the picture has no colors.
    file: digest of the picture's file; empty where there is none.
    pixels: digest of the picture's pixels; empty if it can't be read.
    thumb: (32, 32) uint8, the picture in gray.
    stored: what the label holds; None if it can't be read.
    label_pixels: digest of the label's pixels; empty if it can't be read.
    rough: see `roughness`.
  """

  name: str
  split: str | None
  image: str
  label: str
  faults: tuple[Issue, ...]
  shape: tuple[int, int] | None
  gray: bool
  file: bytes
  pixels: bytes
  thumb: np.ndarray | None
  stored: labels.Stored | None
  label_pixels: bytes
  rough: float


def files(pair: pairing.Pair) -> PairStats:
  """Looks at a picture file and its label file.

  Args:
    pair: of files.

  Returns:
    a Seen. Whatever is wrong is among its faults; nothing is raised.
  """
  faults, image, head, codes, stored = [], None, None, None, None
  try:
    image, head = image_files.read_image_and_info(pair.image)
  except InputError as error:
    faults.append(Issue('unreadable picture', str(pair.image), _reason(error, pair.image)))
  try:
    form, palette, codes = labels.read_codes(pair.label)
    stored = labels.store(form, palette, codes)
    if _bits(pair.label) == 16:
      faults.append(Issue('16-bit label', str(pair.label), 'no value is above 255'))
  except InputError as error:
    kind = _why(pair.label)
    faults.append(Issue(kind, str(pair.label), _reason(error, pair.label)))
  if head:
    faults += _of_head(head, str(pair.image))
  if image is not None and codes is not None:
    faults += _of_sizes(pair, image, head, codes)
  file = b'' if image is None else _digest(pair.image.read_bytes())
  return _seen(pair, faults, image, stored, codes, file)


def example(name: str, split: str, content: dict) -> PairStats:
  """Looks at an example of a prepared data set.

  Args:
    name: of the data set.
    split: of the example.
    content: 'image' uint8 (H, W, 3), 'label' uint8 (H, W) and 'name'.

  Returns:
    a Seen; there are no files, so only their content can have faults.
  """
  place = f'{name} {split}/{content["name"]}'
  pair = pairing.Pair(content['name'], place, place, split)
  codes = content['label']
  return _seen(pair, [], content['image'], labels.store('gray', None, codes), codes, b'')


def _seen(pair, faults, image, stored, codes, digest):
  thumb = None
  if image is not None:
    gray = Image.fromarray(image).convert('L')
    thumb = np.asarray(gray.resize((THUMB, THUMB), Image.Resampling.BOX))
    if image.min() == image.max():
      faults.append(Issue('blank picture', str(pair.image), f'every value is {image.max()}'))
  return PairStats(
    pair.name,
    pair.split,
    str(pair.image),
    str(pair.label),
    tuple(faults),
    None if image is None else image.shape[:2],
    image is not None and bool((image[..., :1] == image).all()),
    digest,
    b'' if image is None else _digest(image),
    thumb,
    stored,
    b'' if codes is None else _digest(codes),
    0.0 if codes is None else roughness(codes),
  )


def _digest(content) -> bytes:
  digest = hashlib.blake2b(digest_size=16)
  digest.update(str(np.shape(content)).encode())
  digest.update(np.ascontiguousarray(content) if isinstance(content, np.ndarray) else content)
  return digest.digest()


def _reason(error, path) -> str:
  return str(error).removeprefix(f'{path}: ')


def _why(path) -> str:
  """What kind of fault a label file has that can't be read as a label."""
  try:
    with image_files.open_image(path) as image:
      if image.format == 'JPEG':
        return 'lossy label'
      if image.mode == 'F' or image.mode.startswith('I'):
        return 'label beyond 8 bits'
      return 'transparent label' if image.has_transparency_data else 'unreadable label'
  except InputError:
    return 'unreadable label'


def _bits(path) -> int:
  with image_files.open_image(path, decode=False) as image:
    return 16 if image.mode.startswith('I') else 8


def _of_head(head, path):
  if head.transparent:
    yield Issue('transparent picture', path, f'mode {head.mode}, something shines through')
  elif head.mode in ('RGBA', 'LA', 'PA'):
    yield Issue('alpha channel', path, f'mode {head.mode}, nothing shines through')
  if head.bits == 16:
    yield Issue('16-bit picture', path, f'mode {head.mode}')
  if head.mode in ('CMYK', 'LAB'):
    yield Issue('picture for print', path, f'mode {head.mode}')


def _of_sizes(pair, image, head, codes):
  """Whether the label has the size of the picture as a viewer shows it, and its rotation."""
  height, width = image.shape[:2]
  sizes = f'label {codes.shape[1]}x{codes.shape[0]}, picture {width}x{height} (width x height)'
  if head.orientation == 1:
    if codes.shape != (height, width):
      yield Issue('other size', str(pair.label), sizes)
    return
  with image_files.open_image(pair.image) as stored:
    unturned = np.asarray(stored.convert('L'))
  said = f'EXIF orientation {head.orientation}'
  if codes.shape != (height, width):
    if codes.shape == unturned.shape:
      yield Issue('rotation not followed', str(pair.label), f'{said}; {sizes}')
    else:
      yield Issue('other size', str(pair.label), f'{sizes}; {said}')
  elif codes.shape == unturned.shape:
    turned = np.asarray(Image.fromarray(image).convert('L'))
    if agreement(unturned, codes) > agreement(turned, codes):
      found = f'{said}; the label fits the picture as it is stored, not as it is shown'
      yield Issue('rotation not followed', str(pair.label), found)


def agreement(gray: np.ndarray, codes: np.ndarray) -> float:
  """How much stronger the edges of a picture are along the borders of its label than elsewhere.

  Args:
    gray: (H, W) uint8 picture.
    codes: (H, W) values of its label.

  Returns:
    the ratio of mean gradients; 1 if they have nothing to do with each other.
  """
  gray = gray.astype(np.float32)
  down, right = np.abs(np.diff(gray, axis=0))[:, :-1], np.abs(np.diff(gray, axis=1))[:-1]
  border = (codes[1:, :-1] != codes[:-1, :-1]) | (codes[:-1, 1:] != codes[:-1, :-1])
  gradient = down + right
  return float(gradient[border].mean() / max(gradient.mean(), 1e-6)) if border.any() else 0.0


def roughness(codes: np.ndarray) -> float:
  """How torn the borders of a label are, which tells smoothing and compression with loss.

  Counts pixels of which at most one neighbor is like them, while their value stands on no firmer
  ground within two pixels: what interpolation and JPEG leave between two classes.

  Args:
    codes: (H, W) integers, values of a label.

  Returns:
    their number by the number of pixels at borders. On CamVid 0.014 in the median and at most
    0.05; saved as JPEG of quality 75 and read again 0.125 in the median and at least 0.06.
  """
  if min(codes.shape) < 3:
    return 0.0
  framed = np.pad(codes.astype(np.int32), 2, mode='edge')
  inner = framed[1:-1, 1:-1]
  below, beside = inner[:-1] != inner[1:], inner[:, :-1] != inner[:, 1:]
  border = np.zeros(inner.shape, bool)
  border[:-1] |= below
  border[1:] |= below
  border[:, :-1] |= beside
  border[:, 1:] |= beside
  rows, columns = np.nonzero(border[1:-1, 1:-1])
  if not len(rows):
    return 0.0
  values = codes[rows, columns]
  alike = np.zeros(len(rows), np.int8)
  for down in (1, 2, 3):
    for right in (1, 2, 3):
      alike += framed[rows + down, columns + right] == values
  loose = alike <= 2  # Itself, and one more.
  shaky = np.zeros(framed.shape, bool)
  shaky[rows[loose] + 2, columns[loose] + 2] = True
  places, values = (rows[loose], columns[loose]), values[loose]
  strange = np.ones(len(values), bool)
  for down in range(5):
    for right in range(5):
      near = places[0] + down, places[1] + right
      strange &= (framed[near] != values) | shaky[near]
  edges = (codes[1:, :-1] != codes[:-1, :-1]) | (codes[:-1, 1:] != codes[:-1, :-1])
  return float(strange.sum() / max(edges.sum(), 1))
