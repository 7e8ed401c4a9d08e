"""A prepared folder has the same examples as the folder itself."""

import json
import os
import sys

import numpy as np
from PIL import Image
import pytest

from dilated_jax import data
from dilated_jax.errors import InputError
from tests.data.folder.folders import files_of, ids, load, make, picture, save, say


def test_a_folder_prepared_into_itself_is_used_as_it_is(tmp_path):
  root = make(tmp_path / 'own')
  (tmp_path / 'link').symlink_to(root)
  before = files_of(root)
  for place in (root, tmp_path / 'link'):
    assert os.path.samefile(data.prepare('folder', place, root), root)
    assert len(data.load('folder', 'train', place, root)) == 7
  assert files_of(root) == before


def test_a_folder_that_is_refused_leaves_nothing(tmp_path):
  root = make(tmp_path / 'own')
  say(root, names=['a', 'b'])
  (tmp_path / 'there').mkdir()
  for place in ('new/deep', 'there'):
    with pytest.raises(InputError, match='belong to no class'):
      data.prepare('folder', tmp_path / place, root)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['own', 'there']
  assert list((tmp_path / 'there').iterdir()) == []
  say(root)
  data.prepare('folder', tmp_path / 'new', root)
  assert [path.name for path in (tmp_path / 'new').iterdir()] == ['folder']


def test_prepared_is_the_same(tmp_path):
  root = make(tmp_path / 'own', 'abcdefghijk', label=ids(0, 255, 9))
  say(root, ignore=[255])
  gray = save(Image.fromarray(picture()).convert('L'), root / 'images' / 'c.png')
  exif = Image.Exif()
  exif[0x0112] = 3
  save(picture(), root / 'images' / 'd.png', exif=exif)
  jpeg = save(picture(), root / 'images' / 'k.jpg')
  (root / 'images' / 'k.png').unlink()
  own = tmp_path / 'prepared'
  place = data.prepare('folder', own, root)
  assert place == own / 'folder' / '1.1.0'
  assert data.splits('folder', own) == ('train', 'val')
  for split in ('train', 'val', 'train[:2]'):
    for one, other in zip(load(root, split), load(own, split), strict=True):
      assert one['name'] == other['name']
      np.testing.assert_array_equal(one['image'], other['image'])
      np.testing.assert_array_equal(one['label'], other['label'])
  here, there = (data.classes('folder', where) for where in (root, own))
  assert (here.names, here.palette, here.mean) == (there.names, there.palette, there.mean)
  assert data.describe_folder('folder', own) == json.loads(
    json.dumps(data.describe_folder('folder', root))
  )
  # Files that any decoder reads right are kept byte by byte, in the records.
  records = b''.join(path.read_bytes() for path in place.glob('*.array_record*'))
  assert jpeg.stat().st_size < len(records) and gray.exists()

  assert len(data.load('folder', 'train', own, root)) > 0
  make(root, ['new'], label=ids(0, 9))
  with pytest.raises(InputError, match=r'was prepared from .* has changed since; delete it'):
    data.load('folder', 'train', own, root)
  (place / 'classes.json').write_text('{')
  with pytest.raises(InputError, match='damaged'):
    data.classes('folder', own)


@pytest.mark.skipif(sys.platform != 'linux', reason='file names are text elsewhere')
def test_names_of_any_bytes(tmp_path):
  root = make(tmp_path / 'own', ['a', 'b', os.fsdecode(b'caf\xe9')])
  data.prepare('folder', tmp_path / 'prepared', root)
  names = [
    [each['name'] for split in ('train', 'val') for each in load(where, split)]
    for where in (root, tmp_path / 'prepared')
  ]
  assert names[0] == names[1] and os.fsdecode(b'caf\xe9') in names[0]


def test_a_wrong_folder_prepares_nothing(tmp_path):
  root = make(tmp_path / 'own')
  (root / 'labels' / 'a.png').unlink()
  save(ids(0), root / 'labels' / 'z.png')
  with pytest.raises(InputError, match=r'z\.png has no image'):
    data.prepare('folder', tmp_path / 'prepared', root)
  assert not [path for path in (tmp_path / 'prepared').rglob('*') if path.is_file()]
  with pytest.raises(InputError, match='expected images/ and labels/'):
    data.prepare('folder', tmp_path / 'prepared', tmp_path)


def test_manual_dir_alone_is_read_where_it_is(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))
  root = make(tmp_path / 'own')
  assert len(data.load('folder', 'train', None, root)) == 7
  assert not (tmp_path / 'default').exists()
  data.prepare('folder', None, root)
  assert (tmp_path / 'default' / 'folder' / '1.1.0' / 'classes.json').exists()
  assert data.is_prepared('folder') and len(data.load('folder', 'train')) == 7


def test_both_folders_prepare_at_once(tmp_path):
  root = make(tmp_path / 'own')
  assert data.classes('folder', tmp_path / 'prepared', root).num_classes == 3
  assert data.is_prepared('folder', tmp_path / 'prepared')
