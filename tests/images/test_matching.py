"""Image files are found, and paired by name, or one line says which file does not fit."""

import os

import pytest

from dilated_jax.errors import InputError
from dilated_jax.images import matching


@pytest.fixture
def folder(tmp_path):
  for name in ('b10.png', 'b2.JPG', 'a.png', 'notes.txt', '._a.png', 'sub/c.png', 'sub/d/e.tif'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  return tmp_path


def names(paths):
  return [path.name for path in paths]


def test_find(folder):
  assert names(matching.find_images(folder)) == ['a.png', 'b2.JPG', 'b10.png']
  assert names(matching.find_images(f'{folder}/*')) == ['a.png', 'b2.JPG', 'b10.png']
  assert names(matching.find_images(f'{folder}/**/*.png')) == ['a.png', 'b10.png', 'c.png']
  assert names(matching.find_images(f'{folder}/b10.png, {folder}')) == [
    'b10.png',
    'a.png',
    'b2.JPG',
  ]
  assert names(matching.find_images([folder / 'sub', folder / 'notes.txt'])) == [
    'c.png',
    'notes.txt',
  ]


def test_find_takes_names_as_they_are(folder):
  (folder / 'x[1],y.png').touch()
  assert names(matching.find_images(f'{folder}/x[1],y.png')) == ['x[1],y.png']


@pytest.mark.parametrize('wanted', ['nothing.png', '*.webp', 'sub/d/**/*.png', 'void'])
def test_find_nothing(folder, wanted):
  (folder / 'void').mkdir()
  with pytest.raises(InputError, match=wanted.replace('*', r'\*')):
    matching.find_images(f'{folder}/{wanted}')
  with pytest.raises(InputError, match='no images given'):
    matching.find_images('')


def touch(folder, *files):
  for file in files:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).touch()
  return folder


def test_pairs_strip_official_suffixes(tmp_path):
  said = touch(
    tmp_path / 'said', 'x2_leftImg8bit.png', 'x10_leftImg8bit.png', 'x10_leftImg8bit_overlay.png',
    'x10_leftImg8bit_color.png', '0016E5_1.png', 'plain.png',
  )  # fmt: skip
  true = touch(
    tmp_path / 'true', 'city/x2_gtFine_labelIds.png', 'city/x2_gtFine_color.png',
    'city/x2_gtFine_labelTrainIds.png', 'city/x10_gtFine_labelTrainIds.png', '0016E5_1_L.png',
    'plain.png', 'city/x2_gtFine_polygons.json',
  )  # fmt: skip
  assert [(a.name, b.name) for a, b in matching.pair_by_name(said, true)] == [
    ('0016E5_1.png', '0016E5_1_L.png'),
    ('plain.png', 'plain.png'),
    ('x2_leftImg8bit.png', 'x2_gtFine_labelIds.png'),
    ('x10_leftImg8bit.png', 'x10_gtFine_labelTrainIds.png'),
  ]


def test_names_and_pictures_below(tmp_path):
  touch(tmp_path, 'b/x10.png', 'b/x2.JPG', 'a.tif', '.hidden.png', 'notes.txt')
  found = matching.list_images(tmp_path)
  assert [path.relative_to(tmp_path).as_posix() for path in found.images] == [
    'a.tif',
    'b/x2.JPG',
    'b/x10.png',
  ]
  assert names(found.others) == ['notes.txt'] and not found.unread
  assert (
    matching.image_name('b/x2_leftImg8bit.png')
    == 'x2'
    == matching.image_name('x2_gtFine_labelIds.png')
  )
  assert matching.image_name('0016E5_1_L.png') == '0016E5_1'


def test_kinds_and_instances_by_name(tmp_path):
  touch(tmp_path, 'x_gtFine_labelIds.png', 'x_gtFine_instanceIds.png', 'y_gtFine_labelIds.png')
  assert matching.label_kind('a/x_gtCoarse_labelTrainIds.png') == 'labelTrainIds'
  assert matching.label_kind('x_leftImg8bit_color.png') == 'color'
  assert matching.label_kind('x_leftImg8bit.png') is None and matching.label_kind('x_L.png') is None
  found = matching.instance_file(tmp_path / 'x_gtFine_labelIds.png')
  assert found == tmp_path / 'x_gtFine_instanceIds.png'
  assert matching.instance_file(tmp_path / 'y_gtFine_labelIds.png') is None
  assert matching.instance_file(tmp_path / 'x.png') is None


def test_pairs_by_frames_of_cityscapes(tmp_path):
  said = touch(tmp_path / 'said', 'bonn_000001_000019_said.png', 'bad_x_000001_000019_a_b.png')
  true = touch(tmp_path / 'true', 'bonn_000001_000019_gtFine_labelIds.png',
               'bad_x_000001_000019_gtCoarse_labelIds.png')  # fmt: skip
  assert [(a.name[:7], b.name[:7]) for a, b in matching.pair_by_name(said, true)] == [
    ('bad_x_0',) * 2, ('bonn_00',) * 2
  ]  # fmt: skip
  touch(said, 'bonn_000001_000019.png')
  with pytest.raises(InputError, match='belong to the same image'):
    matching.pair_by_name(said, true)


def test_pairs_of_color_masks_alone(tmp_path):
  said = touch(tmp_path / 'said', 'a_color.png', 'a_overlay.png', 'b.png', 'b_color.png')
  true = touch(tmp_path / 'true', 'a_L.png', 'b.png')
  assert [(a.name, b.name) for a, b in matching.pair_by_name(said, true)] == [
    ('a_color.png', 'a_L.png'),
    ('b.png', 'b.png'),
  ]


def test_pairs_without_partner(tmp_path):
  said = touch(tmp_path / 'said', 'a.png')
  true = touch(tmp_path / 'true', *(f'{name}.png' for name in 'abcdef'))
  with pytest.raises(InputError, match=r'no prediction for 5 of 6 files: b.png, c.png, d.png, \.'):
    matching.pair_by_name(said, true)
  with pytest.raises(InputError, match='no label for 5 of 6'):
    matching.pair_by_name(true, said)
  with pytest.raises(InputError, match='same image'):
    matching.pair_by_name(touch(said, 'sub/a.png'), true)
  with pytest.raises(InputError, match='no such folder'):
    matching.pair_by_name(tmp_path / 'other', true)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match='no images'):
    matching.pair_by_name(said.parent / 'empty', true)


def test_links_are_followed_and_loops_end(tmp_path):
  touch(tmp_path, 'real/c.png', 'real/d/e.jpg', 'own/a.png', 'own/.ipynb_checkpoints/a.png')
  (tmp_path / 'own/linked').symlink_to(tmp_path / 'real')
  (tmp_path / 'own/again').symlink_to(tmp_path / 'real/d')
  (tmp_path / 'real/d/up').symlink_to(tmp_path / 'own')
  (tmp_path / 'own/nowhere.png').symlink_to(tmp_path / 'gone.png')
  found = matching.list_images(tmp_path / 'own')
  assert [path.relative_to(tmp_path / 'own').as_posix() for path in found.images] == [
    'a.png', 'again/e.jpg', 'linked/c.png', 'linked/d/e.jpg'
  ]  # fmt: skip
  reasons = {path.name: reason for path, reason in found.unread}
  assert reasons == {'up': 'a link back to a folder above it', 'nowhere.png': 'a link to nothing'}
  assert names(matching.find_images(f'{tmp_path}/own/**/*.*')) == [
    'a.png', 'e.jpg', 'c.png', 'e.jpg'
  ]  # fmt: skip


def test_folders_that_can_not_be_read_are_named(tmp_path, monkeypatch):
  touch(tmp_path, 'a.png', 'private/b.png')
  scandir = os.scandir

  def refuse(path):
    if str(path).endswith('private'):
      raise PermissionError(13, 'Permission denied')
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', refuse)
  found = matching.list_images(tmp_path)
  assert names(found.images) == ['a.png']
  assert found.unread == [(tmp_path / 'private', 'can not be read (Permission denied)')]


def test_what_is_passed_over_is_said(tmp_path, caplog):
  caplog.set_level('INFO')
  touch(tmp_path, 'a.png', 'sub/b.png', 'x.heic', 'y.heic', 'z.npy', 'none/readme')
  matching.find_images(tmp_path)
  over = 'passed over 2 subfolders (none, sub) and 3 files with other endings (.heic 2, .npy 1)'
  assert over in caplog.messages[-1] and '** takes subfolders too' in caplog.messages[-1]
  with pytest.raises(
    InputError, match=r'no images in this folder .*only 1 file with other endings \(readme 1'
  ):
    matching.find_images(tmp_path / 'none')


def test_predictions_are_paired_by_nearly_equal_names(tmp_path):
  said = touch(tmp_path / 'said', 'image_1.png', 'image_2.png')
  true = touch(tmp_path / 'true', 'mask_1.png', 'mask_2.png')
  assert [(a.name, b.name) for a, b in matching.pair_by_name(said, true)] == [
    ('image_1.png', 'mask_1.png'), ('image_2.png', 'mask_2.png')
  ]  # fmt: skip
  touch(true, 'image_12.png')
  with pytest.raises(InputError, match=r'no prediction .* nearest to image_12 is image_[12]'):
    matching.pair_by_name(said, true)


def test_digits_that_are_no_decimals(tmp_path):
  for name in ('1²3.png', '1²20.png', '٣.png'):
    (tmp_path / name).write_bytes(b'')
  assert [path.name for path in matching.find_images(tmp_path)] == ['1²3.png', '1²20.png', '٣.png']
