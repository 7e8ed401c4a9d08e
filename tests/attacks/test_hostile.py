"""Files from strangers: nothing of them is run, and what they claim takes no memory and no time."""

import gzip
import html.parser
import io
import itertools
import json
import os
import tarfile
import time
import zlib

import numpy as np
import PIL.Image
import pytest

from dilated_jax import data
from dilated_jax.data import archive_index
from dilated_jax.errors import InputError
from dilated_jax.files import walk
from dilated_jax.images import files
from dilated_jax.models import spec, weights_folder
from experiments import flag_files
from experiments.reports import several, single, source
from tests.attacks import damaged

STATED = json.loads(damaged.MODEL)


@pytest.mark.parametrize(
  'options',
  [
    {'blocks': [10**9] * 5},
    {'context': 'large', 'dilations': [1] * 100_000},
    {'width': 10**400},
    {'stride': 10**400},
    {'crf': 'rnn', 'crf_rnn_iterations': 10**9},
    {'channels': [10**12] * 15},
  ],
)
def test_a_network_without_end_is_refused(options, tmp_path):
  stated = STATED | {'options': options, 'input': None}
  (tmp_path / 'model.json').write_text(json.dumps(stated))
  start = time.monotonic()
  with pytest.raises(InputError, match=r'model\.json'):
    spec.load_spec(tmp_path)
  assert time.monotonic() - start < 10


def test_weights_that_are_not_there_take_no_memory(tmp_path):
  stated = STATED | {'options': {'width': 100.0}, 'input': None}
  (tmp_path / 'model.json').write_text(json.dumps(stated))
  (tmp_path / 'checkpoint').mkdir()
  with pytest.raises(InputError, match='they do not belong together'):
    weights_folder.load_weights(tmp_path)


def test_names_of_classes_do_not_move_the_cursor(tmp_path):
  stated = STATED | {'classes': ['road\x1b[2J', 'car']}
  (tmp_path / 'model.json').write_text(json.dumps(stated))
  with pytest.raises(InputError) as raised:
    spec.load_spec(tmp_path)
  assert str(raised.value).isprintable()


def test_a_program_that_is_called_an_image_is_not_run(tmp_path):
  path = tmp_path / 'photo.png'
  path.write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n')
  with pytest.raises(InputError, match='not an image in a format'):
    files.read_image(path)


@pytest.mark.parametrize('size', [(20_000, 20_000), (1 << 20, 1), (2**31 - 1, 2**31 - 1)])
def test_a_header_alone_is_no_large_image(size, tmp_path):
  content = io.BytesIO()
  PIL.Image.new('L', (1, 1)).save(content, 'PNG')
  png = bytearray(content.getvalue())
  png[16:24] = b''.join(side.to_bytes(4, 'big') for side in size)
  png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, 'big')
  (tmp_path / 'bomb.png').write_bytes(png)
  with pytest.raises(InputError, match=r'bomb\.png'):
    files.read_image(tmp_path / 'bomb.png')


@pytest.mark.parametrize('size', [(1, 1), (1, 20_000), (20_000, 1)])
def test_thin_images_are_read(size, tmp_path):
  pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
  PIL.Image.fromarray(pixels).save(tmp_path / 'thin.png')
  np.testing.assert_array_equal(files.read_image(tmp_path / 'thin.png'), pixels)


def test_a_tar_whose_headers_unpack_to_gigabytes(tmp_path):
  """A long name of 2 GB of zeros, which gzip packs a thousand times."""
  about = tarfile.TarInfo('././@LongLink')
  about.type, about.size = tarfile.GNUTYPE_LONGNAME, 2 << 30
  with gzip.open(tmp_path / 'a.tgz', 'wb', 1) as file:
    file.write(about.tobuf(tarfile.GNU_FORMAT))
    for _ in range(128):
      file.write(bytes(1 << 20))
  with pytest.raises(InputError, match='damaged'):
    archive_index.read_index(tmp_path / 'a.tgz', ('data',), 'get it again')


def test_a_tar_that_fills_the_disk(tmp_path, monkeypatch):
  monkeypatch.setattr(archive_index, '_ROOM', 1 << 20)
  with tarfile.open(tmp_path / 'a.tgz', 'w:gz', compresslevel=1) as archive:
    for index in range(3):
      about = tarfile.TarInfo(f'data/{index}')
      about.size = 10 << 20
      archive.addfile(about, io.BytesIO(bytes(about.size)))
  with pytest.raises(InputError, match='times its size'):
    archive_index.read_index(tmp_path / 'a.tgz', ('data',), 'get it again')


def test_folders_that_link_to_each_other(tmp_path):
  """With ten, the ways through them are ten million."""
  for index in range(10):
    (tmp_path / f'{index}').mkdir()
    (tmp_path / f'{index}' / 'a.png').write_bytes(b'a')
    for other in range(10):
      os.symlink(tmp_path / f'{other}', tmp_path / f'{index}' / f'to{other}')
  start = time.monotonic()
  found = walk(tmp_path)
  assert time.monotonic() - start < 5
  assert {path.resolve() for path in found.files} == {
    tmp_path.resolve() / f'{index}/a.png' for index in range(10)
  }


def test_flag_files_that_include_each_other_come_to_an_end(tmp_path):
  (tmp_path / 'self.flags').write_text(f'--flagfile=../{tmp_path.name}/self.flags')
  with pytest.raises(InputError, match='includes itself'):
    flag_files.expand([f'--flagfile={tmp_path}/self.flags'])
  for index in range(40):
    (tmp_path / f'{index}.flags').write_text(f'--flagfile={index + 1}.flags\n' * 2)
  (tmp_path / '40.flags').write_text('')
  with pytest.raises(InputError, match='include each other'):
    flag_files.expand([f'--flagfile={tmp_path}/0.flags'])


def test_a_label_that_is_edited_never_gives_the_old_data_set(tmp_path):
  """Neither if its size is the same, nor if its time is set back."""
  root = tmp_path / 'raw'
  damaged.folder(root)
  data.prepare('folder', tmp_path / 'data', root)
  load = dict(data_dir=tmp_path / 'data', manual_dir=root)
  before = data.load('folder', 'train', **load)[0]
  for path in sorted((root / 'labels').iterdir()):
    path.write_bytes(path.read_bytes())
  assert data.load('folder', 'train', **load)[0]['name'] == before['name']  # Equal, but touched.
  path = root / 'labels' / '0.png'
  about = path.stat()
  content = bytearray(path.read_bytes())
  content[-20] ^= 1  # Damaged or not: it is another file of equal size.
  path.write_bytes(content)
  os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
  with pytest.raises(InputError, match='has changed since'):
    data.load('folder', 'train', **load)


class _Elements(html.parser.HTMLParser):
  """Names of the elements of a page, and of their attributes."""

  def __init__(self, page: str):
    super().__init__()
    self.found = set()
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.found |= {tag, *(f'@{name}' for name, _ in attrs)}


def test_names_are_no_markup_in_reports(tmp_path):
  """Class names, flags and layers that are scripts: the page has the elements of any other."""

  def pages(name):
    stage = tmp_path / str(len(name)) / 'front_end'
    stage.mkdir(parents=True)
    scores = json.loads(damaged.SCORES) | {
      'per_class_iou': {f'{name}1': 0.25, f'{name}2': 0.75},
      **{key: name for key in ('dataset', 'split', 'protocol', 'weights')},
      'flags': {name: name},
      'made': {name: name, 'date': name},
      'notes': [name],
      'step': 2,
    }
    lines = [
      {'stage': 'front_end', 'step': step, 'loss': 1.0, 'accuracy': 0.5, 'gradient_norm': 1.0}
      | {'learning_rate': 0.1, 'mean_iou': 0.5, 'per_class_iou': {f'{name}1': 0.5}}
      | {'layer_drift': {name: 0.5}, 'layer_gradient_norm': {name: 1.0}}
      for step in (1, 2)
    ]
    about = {'model': name, 'dataset': name, 'date': name, 'classes': [f'{name}1'], name: name}
    run = stage.parent
    (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    (run / 'about.json').write_text(json.dumps(about | {'palette': [[1, 2, 3]]}))
    (run / 'flags.txt').write_text(f'--{name}={name}\n')
    (run / 'scores.json').write_text(json.dumps(scores))
    (stage / 'config.json').write_text(json.dumps({name: name, 'num_steps': 5}))
    (stage / 'val.json').write_text(json.dumps(scores))
    found = [source.load(run), source.load(run / 'scores.json')]
    yield from map(single.render, found)
    for one in found:
      yield several.render([one, one])

  hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>\'`</style></title>-->'
  for plain, attacked in zip(pages('road'), pages(hostile), strict=True):
    assert _Elements(attacked.decode()).found == _Elements(plain.decode()).found


@pytest.mark.parametrize('values', [*itertools.permutations([1e308, -1e308, 1e-320, 0.0], 2)])
def test_numbers_at_the_end_of_floats_draw_a_report(values, tmp_path):
  lines = [
    {'stage': 'joint', 'step': step, 'loss': value, 'learning_rate': value, 'mean_iou': value}
    for step, value in enumerate(values)
  ]
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  assert b'</html>' in single.render(source.load(tmp_path))
