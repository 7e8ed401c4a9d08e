"""Valid files of every kind that is read, made small, to be damaged by `tests.mutations`."""

import io
import json
import pathlib
import tarfile
import wave
import zipfile

import numpy as np
from PIL import PngImagePlugin
import PIL.Image

from dilated_jax.evaluation import extremes

RNG = np.random.default_rng(0)
_PIXELS = RNG.integers(0, 256, (8, 9, 3), np.uint8)
_IDS = RNG.integers(0, 3, (8, 9), np.uint8)


def _saved(image, kind, **options) -> bytes:
  content = io.BytesIO()
  image.save(content, kind, **options)
  return content.getvalue()


def images() -> dict[str, bytes]:
  """Files of images and labels, by a name with a suffix."""
  rgb, gray = PIL.Image.fromarray(_PIXELS), PIL.Image.fromarray(_IDS)
  palette = gray.copy()
  palette.putpalette(bytes(range(9)))
  deep = PIL.Image.fromarray(RNG.integers(0, 65536, (8, 9), np.uint16))
  text = PngImagePlugin.PngInfo()
  text.add_text('comment', 'a' * 100, zip=True)
  exif = PIL.Image.Exif()
  exif[0x0112] = 6  # Orientation.
  exif[0x010E] = 'description'
  frames = {'save_all': True, 'append_images': [rgb.rotate(90), rgb.rotate(180)]}
  files = {
    'rgb.png': _saved(rgb, 'PNG', pnginfo=text, exif=exif),
    'gray.png': _saved(gray, 'PNG'),
    'palette.png': _saved(palette, 'PNG', transparency=1),
    'nibbles.png': _saved(palette, 'PNG', bits=4),
    'deep.png': _saved(deep, 'PNG'),
    'moving.png': _saved(rgb, 'PNG', **frames),
    'photo.jpg': _saved(rgb, 'JPEG', exif=exif),
    'print.jpg': _saved(rgb.convert('CMYK'), 'JPEG'),
    'waves.jpg': _saved(rgb, 'JPEG', progressive=True),
    'moving.gif': _saved(rgb.convert('P'), 'GIF', **frames),
    'gray.gif': _saved(gray, 'GIF'),
    'moving.webp': _saved(rgb, 'WEBP', lossless=True, **frames),
    'lossy.webp': _saved(rgb, 'WEBP', exif=exif),
    'plain.tif': _saved(rgb, 'TIFF', exif=exif),
    'packed.tif': _saved(gray, 'TIFF', compression='tiff_lzw'),
    'zipped.tif': _saved(deep, 'TIFF', compression='tiff_adobe_deflate'),
    'pages.tif': _saved(rgb, 'TIFF', **frames),
    'float.tif': _saved(PIL.Image.fromarray(np.float32(_IDS)), 'TIFF'),
    'wavelet.jp2': _saved(rgb, 'JPEG2000'),
    'exact.jp2': _saved(gray, 'JPEG2000', irreversible=False),
    'plain.bmp': _saved(rgb, 'BMP'),
    'ids.bmp': _saved(palette, 'BMP'),
    'plain.ppm': _saved(rgb, 'PPM'),
    'deep.pgm': _saved(deep, 'PPM'),
    'small.pgm': b'P2\n# a comment\n3 2\n7\n0 1 2 3 4 7\n',
    'packed.tga': _saved(palette, 'TGA', compression='tga_rle'),
    'packed.pcx': _saved(palette, 'PCX'),
    'plain.sgi': _saved(rgb, 'SGI'),
    'icon.ico': _saved(rgb, 'ICO'),
    'plain.dds': _saved(rgb, 'DDS'),
    'two.mpo': _saved(rgb, 'MPO', **frames),
    'plain.qoi': _saved(rgb, 'QOI'),
    'odd.avif': _saved(rgb, 'AVIF'),
  }
  return files


def archives() -> dict[str, bytes]:
  """Archives with a folder `data` of two files."""
  members = {'data/a.txt': b'some text' * 20, 'data/deep/b.png': images()['gray.png']}
  zipped = io.BytesIO()
  with zipfile.ZipFile(zipped, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  files = {'data.zip': zipped.getvalue()}
  for name, mode, kind in (
    ('gnu.tar', 'w', tarfile.GNU_FORMAT),
    ('pax.tar', 'w', tarfile.PAX_FORMAT),
    ('packed.tgz', 'w:gz', tarfile.GNU_FORMAT),
  ):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode, format=kind) as archive:
      for inner, data in {**members, 'data/' + 'long' * 40: b'x', 'data/ü': b'y'}.items():
        about = tarfile.TarInfo(inner)
        about.size = len(data)
        archive.addfile(about, io.BytesIO(data))
    files[name] = content.getvalue()
  return files


def sound() -> bytes:
  content = io.BytesIO()
  with wave.open(content, 'wb') as file:
    file.setnchannels(2)
    file.setsampwidth(2)
    file.setframerate(8000)
    file.writeframes(RNG.bytes(400))
  return content.getvalue()


def folder(root: pathlib.Path) -> None:
  """A folder of images and labels, without lists."""
  for index in range(3):
    for kind, array in (('images', _PIXELS), ('labels', _IDS)):
      (root / kind).mkdir(parents=True, exist_ok=True)
      PIL.Image.fromarray(array).save(root / kind / f'{index}.png')


LIST = b'\xef\xbb\xbfimages/0.png labels/0.png\r\n# a comment\r\nimages/1.png,labels/1.png\r\n2\r\n'

CLASSES = json.dumps(
  {
    'names': ['road', 'ürban', 'car'],
    'palette': [[128, 64, 128], [0, 0, 142], [1, 2, 3]],
    'ids': [0, 1, 2],
    'ignore': [255, [0, 0, 0]],
    'mean': [105, 108.5, 110],
    'detected': {'folder': '/data', 'notes': [], 'fingerprint': '0123456789abcdef'},
  }
).encode()

PREDICTIONS = json.dumps(
  {'classes': ['road', 'car'], 'palette': [[128, 64, 128], [0, 0, 142]], 'dataset': 'camvid'}
).encode()

MODEL = json.dumps(
  {
    'model': 'dilation7',
    'options': {'context': 'large', 'crf': 'rnn', 'crf_rnn_bandwidths': [160.0, 3.0]},
    'classes': ['road', 'car'],
    'palette': [[128, 64, 128], [0, 0, 142]],
    'mean': [105.0, 108.0, 110.0],
    'channel_order': 'RGB',
    'image_scale': 1.0,
    'upsampling': 'corner',
    'dataset': 'camvid',
    'input': [900, 900],
    'source': '',
    'untrained': [],
  }
).encode()


def best_and_worst(path: pathlib.Path) -> bytes:
  kept = extremes.Extremes(3, 2)
  for index in range(3):
    example = {'name': f'image {index}', 'image': _PIXELS, 'label': _IDS}
    kept.add(example, np.roll(_IDS, index, 0))
  kept.save(path)
  return path.read_bytes()


METRICS = b''.join(
  json.dumps(line).encode() + b'\n'
  for line in (
    {'stage': 'front_end', 'step': 1, 'loss': 1.5, 'accuracy': 0.25, 'learning_rate': 0.001},
    {'stage': 'front_end', 'step': 1, 'layer_drift': {'conv1': 0.5, 'conv2': None}},
    {'stage': 'front_end', 'step': 10, 'loss': 0.5, 'accuracy': 0.75, 'mean_iou': 0.5},
    {'stage': 'context', 'step': 10, 'loss': 0.5, 'per_class_iou': {'road': 0.25, 'car': None}},
  )
)

SCORES = json.dumps(
  {
    'mean_iou': 0.5,
    'per_class_iou': {'road': 0.25, 'car': 0.75},
    'pixel_accuracy': 0.5,
    'mean_accuracy': 0.5,
    'frequency_weighted_iou': 0.5,
    'confusion': [[10, 2], [3, 20]],
    'dataset': 'camvid',
    'pictures': 3,
    'split': 'val',
    'protocol': 'default',
    'weights': 'run/weights',
    'flags': {'batch_size': 3, 'scales': [1.0, 0.5], 'flip': True, 'tile': None},
    'made': {'version': '0.1.0', 'jax': '0.12.0', 'date': '2026-11-26'},
  }
).encode()

FLAGS = b"""# a comment
--dataset=camvid
--nocheck
--batch_size=4
--flagfile=other.flags
// also a comment
--stage=front_end,context
"""
