"""Raw data sets as their publishers pack them, made small: files by name, as a folder or a zip."""

import io
import zipfile

import numpy as np
import PIL.Image
import pytest

from dilated_jax import data
from dilated_jax.errors import InputError


def png(array) -> bytes:
  """A PNG: uint8 (H, W) or (H, W, 3), or uint16 (H, W)."""
  content = io.BytesIO()
  PIL.Image.fromarray(array).save(content, 'PNG', compress_level=1)  # Not as our code does it.
  return content.getvalue()


def palette_png(ids, colors) -> bytes:
  """A PNG of indices, uint8 (H, W), with the colors of its palette."""
  content, image = io.BytesIO(), PIL.Image.fromarray(ids)
  image.putpalette(np.array(colors, np.uint8).tobytes())
  image.save(content, 'PNG')
  return content.getvalue()


def decoded(content: bytes) -> np.ndarray:
  return np.asarray(PIL.Image.open(io.BytesIO(content)))


def picture(rng, size) -> bytes:
  return png(rng.integers(0, 256, (*size, 3), np.uint8))


def camvid(rng, names) -> dict[str, bytes]:
  """Files of CamVid as SegNet distributes it, with images of these names in each split."""
  files = {}
  for split, stems in names.items():
    for stem in stems:
      files[f'CamVid/{split}/{stem}.png'] = picture(rng, (4, 6))
      files[f'CamVid/{split}annot/{stem}.png'] = png(rng.integers(0, 11, (4, 6), np.uint8))
  return files


def unpack(root, files) -> None:
  for name, content in files.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def pack(path, files) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in files.items():
      archive.writestr(name, content)


def expect_refusal(name, root, data_dir, *messages) -> str:
  """Asserts that a raw data set is refused in one line that says this, and nothing is written."""
  with pytest.raises(InputError, match=messages[0]) as raised:
    data.prepare(name, data_dir, root)
  text = str(raised.value)
  for message in messages[1:]:
    raised.match(message)
  assert '\n' not in text
  assert not [path for path in data_dir.rglob('*') if path.is_file()]
  return text
