"""archives.py: the same files from a folder, a zip and tars; what is wrong with one is named."""

import contextlib
import gc
import io
import os
import stat
import tarfile
import tempfile
import zipfile

import pytest

from dilated_jax.data import archive_index, archives
from dilated_jax.errors import InputError
from tests import raw_files

FILES = {
  'Kit/Y12/Pictures/a.jpg': b'\xff\xd8 picture a',
  'Kit/Y12/Pictures/b.jpg': bytes(range(256)) * 40,  # Longer than a block, and no multiple of it.
  'Kit/Y12/Masks/deep/a.png': b'm' * 1024,
  'Kit/Y12/list.txt': b'a\nb\n',
}
OTHER = {'Kit/README': b'hello', 'Kit/Y12/Other/x.xml': b'<x/>', 'Kit/Y12/Masks2/a.png': b'no'}
FOLDERS = ('Kit/Y12/Pictures', 'Kit/Y12/Masks', 'Kit/Y12/list.txt')
KINDS = ['folder', 'zip', 'tar', 'tgz']


def add_to_tar(tar, name, content, **fields):
  info = tarfile.TarInfo(name)
  info.size = len(content)
  for key, value in fields.items():
    setattr(info, key, value)
  tar.addfile(info, io.BytesIO(content))


def pack(root, kind, files, more=None):
  """Writes the files as a publisher does; `more` adds members to an archive."""
  path = root / f'kit.{kind}'
  if kind == 'folder':
    for name, content in files.items():
      (root / name).parent.mkdir(parents=True, exist_ok=True)
      (root / name).write_bytes(content)
  elif kind == 'zip':
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.mkdir('Kit')
      for name, content in files.items():
        archive.writestr(name, content)
      if more:
        more(archive)
  else:
    with tarfile.open(path, 'w:gz' if kind == 'tgz' else 'w') as archive:
      folder = tarfile.TarInfo('./Kit')
      folder.type = tarfile.DIRTYPE
      archive.addfile(folder)
      for name, content in files.items():
        add_to_tar(archive, f'./{name}', content)
      if more:
        more(archive)
  return path


def find(root, kind='zip', folders=FOLDERS):
  return archives.open_tree(
    root, folders=folders, archives=(f'kit.{kind}',), name='Kit', source='kits.org'
  )


def expect(message, function, *args):
  with pytest.raises(InputError, match=message) as raised:
    function(*args)
  assert '\n' not in str(raised.value)
  return str(raised.value)


@pytest.mark.parametrize('kind', KINDS)
def test_the_same_files_come_from_every_packing(tmp_path, kind):
  pack(tmp_path, kind, FILES | OTHER)
  before = sorted(tmp_path.rglob('*'))
  tree = find(tmp_path, kind)
  assert tree.names() == sorted(FILES)
  for name in [*FILES, *reversed(FILES)]:  # Any order, any number of times.
    assert tree.read(name) == FILES[name]
  with tree.open('Kit/Y12/list.txt') as file:
    assert file.readline() == b'a\n'
  assert tree.has('Kit/Y12/list.txt')
  assert not tree.has('Kit/Y12/Other/x.xml') and not tree.has('Kit/Y12/Masks')
  message = expect('no Kit/Y12/Pictures/c.jpg', tree.read, 'Kit/Y12/Pictures/c.jpg')
  assert str(tmp_path) in message and 'kits.org' in message
  assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('outer', ['', 'Kit', 'Kit/Y12'])
def test_an_unpacked_copy_may_lack_its_outer_folders(tmp_path, outer):
  pack(tmp_path, 'folder', FILES)
  tree = find(tmp_path / outer)
  assert tree.names() == sorted(FILES)
  assert tree.read('Kit/Y12/Masks/deep/a.png') == FILES['Kit/Y12/Masks/deep/a.png']


def test_files_without_a_folder_are_in_one_of_the_name_of_their_archive(tmp_path):
  pack(tmp_path, 'zip', {'a.png': b'a', './b.png': b'b', 'other/c.png': b'c'})
  tree = find(tmp_path, folders=('kit',))
  assert {name: tree.read(name) for name in tree.names()} == {'kit/a.png': b'a', 'kit/b.png': b'b'}
  assert tree.locate('kit/a.png') == f'{tmp_path}/kit.zip: kit/a.png'


def test_outer_folders_that_tell_inner_ones_apart_are_needed(tmp_path):
  pack(tmp_path, 'folder', {'Kit/train/a/1.png': b'1', 'Kit/test/a/2.png': b'2'})
  folders = ('Kit/train/a', 'Kit/test/a')
  assert find(tmp_path / 'Kit', folders=folders).names() == [
    'Kit/test/a/2.png', 'Kit/train/a/1.png',
  ]  # fmt: skip
  assert not archives.exists(tmp_path / 'Kit/train', folders=folders, archives=())
  expect('not complete', find, tmp_path / 'Kit/train', 'zip', folders)


def test_a_whole_folder_goes_before_an_archive_and_an_archive_before_half_a_folder(tmp_path):
  pack(tmp_path, 'zip', dict.fromkeys(FILES, b'zip'))
  pack(tmp_path, 'folder', FILES)
  assert find(tmp_path).read('Kit/Y12/list.txt') == b'a\nb\n'
  (tmp_path / 'Kit/Y12/list.txt').unlink()
  assert find(tmp_path).read('Kit/Y12/list.txt') == b'zip'


def test_several_archives_make_one_tree(tmp_path):
  pack(tmp_path, 'zip', {'Kit/Y12/list.txt': b'zip'})
  pack(tmp_path, 'tgz', {name: FILES[name] for name in list(FILES)[:3]})
  both = dict(folders=FOLDERS, name='Kit', source='kits.org')
  tree = archives.open_tree(tmp_path, archives=('kit.zip', 'kit.tgz'), **both)
  assert tree.read('Kit/Y12/list.txt') == b'zip'
  assert tree.read('Kit/Y12/Pictures/a.jpg') == FILES['Kit/Y12/Pictures/a.jpg']
  (tmp_path / 'kit.tgz').unlink()
  with pytest.raises(InputError, match=r'no kit\.tgz here.*kits\.org'):
    archives.open_tree(tmp_path, archives=('kit.zip', 'kit.tgz'), **both)


def test_two_trees_make_one(tmp_path):
  (tmp_path / 'a').mkdir()
  pack(tmp_path / 'a', 'zip', FILES)
  pack(tmp_path / 'b', 'folder', {'Extra/c.mat': b'c'})
  tree = find(tmp_path / 'a') | find(tmp_path / 'b', folders=('Extra',))
  assert tree.names() == sorted([*FILES, 'Extra/c.mat'])
  assert tree.read('Extra/c.mat') == b'c' and tree.read('Kit/Y12/list.txt') == b'a\nb\n'
  (tmp_path / 'b/Extra/c.mat').unlink()
  expect(r'b/Extra/c\.mat: is damaged', tree.read, 'Extra/c.mat')


def test_what_is_missing_is_named(tmp_path):
  assert not archives.exists(tmp_path, folders=FOLDERS, archives=('kit.zip',))
  expect('nowhere: no such folder; get Kit from kits.org', find, tmp_path / 'nowhere')
  expect(r'no kit\.zip here', find, tmp_path)
  pack(tmp_path, 'folder', {name: FILES[name] for name in list(FILES)[:3]})
  assert archives.exists(tmp_path, folders=FOLDERS, archives=('kit.zip',))
  message = expect(r'no kit\.zip here.*folders no Kit/Y12/list\.txt;', find, tmp_path)
  assert 'Masks' not in message


@pytest.mark.parametrize('kind', KINDS[1:])
def test_an_archive_without_a_needed_folder(tmp_path, kind):
  pack(tmp_path, kind, {'Kit/Y12/Pictures/a.jpg': b''})
  assert archives.exists(tmp_path, folders=FOLDERS, archives=(f'kit.{kind}',))
  expect(rf'kit\.{kind}: has no Kit/Y12/Masks; get the archive again', find, tmp_path, kind)


@pytest.mark.parametrize('kind', KINDS[1:])
@pytest.mark.parametrize('share', [0, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_archive(tmp_path, kind, share):
  path = pack(tmp_path, kind, FILES | OTHER)
  content = path.read_bytes()
  size = int(share * len(content))
  if kind == 'tar':  # What follows the two blocks of zeros at its end is padding.
    size = int(share * (len(content.rstrip(b'\0')) + 512))
  path.write_bytes(content[:size])
  expect(rf'kit\.{kind}: the archive is damaged .*; get the archive again', find, tmp_path, kind)


def test_a_tar_that_breaks_off_between_two_members(tmp_path):
  path = pack(tmp_path, 'tar', FILES)
  with tarfile.open(path) as tar:
    end = tar.getmembers()[-1].offset_data + 512
  path.write_bytes(path.read_bytes()[:end])
  expect(r'kit\.tar: the archive is damaged \(truncated', find, tmp_path, 'tar')


@pytest.mark.parametrize('kind', ['zip', 'tgz'])
def test_flipped_bits_are_noticed(tmp_path, kind):
  path = pack(tmp_path, kind, {name: os.urandom(3000) for name in FILES})
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0xFF
  path.write_bytes(content)

  def read_all():
    tree = find(tmp_path, kind)
    for name in tree.names():
      tree.read(name)

  expect(rf'kit\.{kind}: .*damaged', read_all)


@pytest.mark.parametrize('kind', KINDS[1:])
def test_bytes_of_any_kind_are_no_archive(tmp_path, kind):
  start = {'zip': b'PK\3\4', 'tgz': b'\x1f\x8b\x08\0', 'tar': b'Kit'}[kind]
  (tmp_path / f'kit.{kind}').write_bytes(start + os.urandom(2000))
  expect(r'the archive is damaged', find, tmp_path, kind)


@pytest.mark.parametrize('kind', KINDS[1:])
@pytest.mark.parametrize('name', ['../evil', '/etc/evil', 'Kit/../../evil', 'Kit/Y12/Masks/..'])
def test_names_that_lead_out_are_refused(tmp_path, kind, name):
  def more(archive):
    if kind == 'zip':
      archive.writestr(name, b'evil')
    else:
      add_to_tar(archive, name, b'evil')

  pack(tmp_path, kind, FILES, more)
  message = expect('leads out of the archive', find, tmp_path, kind)
  assert f'member {name} ' in message


@pytest.mark.parametrize('kind', KINDS[1:])
def test_a_name_with_a_line_break_stays_one_line(tmp_path, kind):
  pack(tmp_path, kind, FILES | {'Kit/Y12/Masks/a\nb.png': b''})
  expect(r"Kit/Y12/Masks/a\\nb\.png' has unprintable characters", find, tmp_path, kind)


@pytest.mark.parametrize('kind', ['tar', 'tgz'])
@pytest.mark.parametrize('type', [b'1', b'2', b'3', b'4', b'6', b'S'])  # S: sparse.
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, type):
  def more(archive):
    add_to_tar(archive, 'Kit/Y12/Pictures/evil', b'', type=type, linkname='/etc/passwd')

  pack(tmp_path, kind, FILES, more)
  expect(r'member Kit/Y12/Pictures/evil is a link or device', find, tmp_path, kind)


def test_a_link_in_a_zip_is_refused(tmp_path):
  def more(archive):
    info = zipfile.ZipInfo('Kit/Y12/Pictures/evil')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, '/etc/passwd')

  pack(tmp_path, 'zip', FILES, more)
  expect(r'member Kit/Y12/Pictures/evil is a link or device', find, tmp_path)


@pytest.mark.parametrize('kind', ['tar', 'tgz'])
def test_a_negative_size_does_not_run_in_circles(tmp_path, kind):
  def more(archive):
    header = bytearray(tarfile.TarInfo('Kit/Y12/Pictures/evil').tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b'\xff' * 10 + b'\xfe\x00'  # -512
    header[148:156] = b' ' * 8
    header[148:156] = b'%06o\0 ' % sum(header)
    archive.fileobj.write(header)
    archive.offset += len(header)

  pack(tmp_path, kind, FILES, more)
  expect('damaged', find, tmp_path, kind)


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_larger_than_the_limit_is_refused(tmp_path, kind, monkeypatch):
  pack(tmp_path, kind, FILES)
  monkeypatch.setattr(archive_index, 'LIMIT', 2**13)
  name = 'Kit/Y12/Pictures/b.jpg'
  if kind == 'tgz':  # It would be kept, so it is refused before anyone asks for it.
    expect(rf'{name}.* more than', find, tmp_path, kind)
  else:
    expect(rf'{name}.* more than', find(tmp_path, kind).read, name)


def test_an_encrypted_zip_is_named(tmp_path):
  path = pack(tmp_path, 'zip', FILES)
  content = bytearray(path.read_bytes())
  name = b'Kit/Y12/Pictures/a.jpg'
  content[content.find(name) - 24] |= 1  # In its own header, and in the list at the end.
  content[content.rfind(name) - 38] |= 1
  path.write_bytes(content)
  tree = find(tmp_path)
  expect(r'Pictures/a\.jpg: .*encrypted', tree.read, 'Kit/Y12/Pictures/a.jpg')


def test_nothing_stays_open(tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))  # Of what was unpacked.

  def opened():
    links = []
    for number in os.listdir('/proc/self/fd'):
      with contextlib.suppress(FileNotFoundError):  # Of other threads.
        links.append(os.readlink(f'/proc/self/fd/{number}'))
    return [link for link in links if link.startswith(f'{tmp_path.resolve()}/')]

  for kind in KINDS[1:]:
    pack(tmp_path, kind, FILES)
    tree = find(tmp_path, kind)
    tree.read(next(iter(FILES)))
    del tree
  gc.collect()
  assert not opened()
  with open(tmp_path / 'seen', 'w'):
    assert opened() == [f'{tmp_path.resolve()}/seen']


def test_links_in_an_unpacked_copy_are_followed(tmp_path):
  files = {'kit/a/x/1.png': b'1', 'kit/b/2.png': b'2'}
  raw_files.unpack(tmp_path / 'real', files)
  (tmp_path / 'linked/kit/a').mkdir(parents=True)
  (tmp_path / 'linked/kit/a/x').symlink_to(tmp_path / 'real/kit/a/x')
  (tmp_path / 'linked/kit/b').symlink_to(tmp_path / 'real/kit/b')
  (tmp_path / 'real/kit/a/x/up').symlink_to(tmp_path / 'linked/kit/a')
  trees = [
    archives.open_tree(
      tmp_path / copy, folders=('kit/a', 'kit/b'), archives=(), name='Kit', source='x'
    )
    for copy in ('real', 'linked')
  ]
  assert trees[0].names() and [tree.names()[-1] for tree in trees] == ['kit/b/2.png'] * 2
  assert {'kit/a/x/1.png', 'kit/b/2.png'} <= set(trees[1].names())
  assert {name: trees[1].read(name) for name in trees[1].names()} == files
