"""Checksums find every flipped bit, every lost end and every lost file."""

import json
import os
import zlib

from hypothesis import given, settings, strategies as st
import pytest

from dilated_jax.checksums import FILE, check_checksums, checked_meanwhile, write_checksums
from dilated_jax.errors import InputError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  made = tmp_path_factory.mktemp('folder')
  (made / 'inner').mkdir()
  (made / 'a.txt').write_bytes(b'some text')
  (made / 'inner' / 'b.bin').write_bytes(bytes(range(256)) * 40)
  (made / 'empty').write_bytes(b'')
  write_checksums(made, leave_out={'later'})
  return made


def test_they_are_those_of_zlib(folder):
  expected = {'a.txt': zlib.crc32(b'some text'), 'empty': 0}
  found = json.loads((folder / FILE).read_text())
  assert found.keys() == {'a.txt', 'empty', 'inner/b.bin'}
  assert {name: int(found[name], 16) for name in expected} == expected
  check_checksums(folder)


@settings(max_examples=200)
@given(data=st.data())
def test_every_flipped_bit_is_found_in_the_checksums_too(folder, data):
  name = data.draw(st.sampled_from(['a.txt', 'inner/b.bin', FILE]))
  content = bytearray((folder / name).read_bytes())
  before = bytes(content)
  content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
  (folder / name).write_bytes(content)
  try:
    with pytest.raises(InputError, match=r'damaged|missing') as error:
      check_checksums(folder)
    assert name == FILE or str(folder / name) in str(error.value)
  finally:
    (folder / name).write_bytes(before)


def test_lost_ends_and_lost_files_are_found(folder):
  path = folder / 'inner' / 'b.bin'
  before = path.read_bytes()
  try:
    path.write_bytes(before[:-1])
    with pytest.raises(InputError, match=r'b\.bin: is damaged.*get it elsewhere'):
      check_checksums(folder, advice='get it elsewhere')
    check_checksums(folder, {'a.txt'})
    path.unlink()
    with pytest.raises(InputError, match=r'b\.bin: is missing'):
      check_checksums(folder)
  finally:
    path.write_bytes(before)


def test_damage_is_told_in_place_of_what_a_reader_says(folder):
  path = folder / 'a.txt'
  before = path.read_bytes()
  with pytest.raises(ZeroDivisionError), checked_meanwhile(folder):
    _ = 1 // 0
  path.write_bytes(b'other text')
  try:
    with pytest.raises(InputError, match=r'a\.txt: is damaged'), checked_meanwhile(folder):
      _ = 1 // 0
  finally:
    path.write_bytes(before)


def test_folders_without_checksums_are_not_checked(tmp_path):
  (tmp_path / 'a').write_bytes(b'')
  check_checksums(tmp_path)


def test_hidden_files_are_not_counted(tmp_path):
  (tmp_path / '.DS_Store').write_bytes(b'x')
  write_checksums(tmp_path)
  os.unlink(tmp_path / '.DS_Store')
  check_checksums(tmp_path)
