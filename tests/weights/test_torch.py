import collections
import copyreg
import os
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.weights import torch as reader
from dilated_jax.weights.mapped import MappedFile
from tests import torch_files
from tests.torch_files import Stored, View, legacy, pickled, zipped


def mapped(tmp_path, data):
  path = tmp_path / 'weights'
  path.unlink(missing_ok=True)
  path.write_bytes(data)
  return MappedFile(path)


NUMBERS = np.arange(1, 13, dtype=np.float32)
WRAPPERS = [zipped, legacy]


@pytest.mark.parametrize('wrap', WRAPPERS)
def test_own_files_are_read(tmp_path, wrap):
  """So that the refusals below are not for another reason."""
  data = pickled({'a': View(Stored('0', 12), 1, (2, 3), (5, 2))})
  result = reader.read(mapped(tmp_path, wrap(data, {'0': NUMBERS.tobytes()})))
  np.testing.assert_array_equal(result['a'], [[2, 4, 6], [7, 9, 11]])


def test_a_part_of_a_legacy_storage(tmp_path):
  data = pickled({'a': View(Stored('0', 12, part=[('1', 3, 8)]), 1, (2, 3), (3, 1))})
  result = reader.read(mapped(tmp_path, legacy(data, {'0': NUMBERS.tobytes()})))
  np.testing.assert_array_equal(result['a'], NUMBERS[4:10].reshape(2, 3))


def test_an_ordered_dict_of_python_2(tmp_path):
  class Pairs:
    def __reduce__(self):
      return collections.OrderedDict, ([['b', view], ['a', view]],)

  view = View(Stored('0', 12), 0, (12,), (1,))
  result = reader.read(mapped(tmp_path, legacy(pickled(Pairs()), {'0': NUMBERS.tobytes()})))
  assert list(result) == ['b', 'a']
  # Python 2's text: SHORT_BINSTRING instead of BINUNICODE.
  data = pickled({'weight': view}).replace(b'X\6\0\0\0weight', b'U\6weight')
  assert b'U\6weight' in data
  result = reader.read(mapped(tmp_path, legacy(data, {'0': NUMBERS.tobytes()})))
  np.testing.assert_array_equal(result['weight'], NUMBERS)


def test_byte_order(tmp_path):
  data = pickled({'a': View(Stored('0', 12), 2, (2, 5), (5, 1))})
  storages = {'0': NUMBERS.astype('>f4').tobytes()}
  result = reader.read(mapped(tmp_path, zipped(data, storages, byteorder=b'big')))
  np.testing.assert_array_equal(result['a'], NUMBERS[2:].reshape(2, 5))
  with pytest.raises(InputError, match='byte order'):
    reader.read(mapped(tmp_path, zipped(data, storages, byteorder=b'middle')))
  data = pickled({'a': View(Stored('0', 24, torch_files.BFloat16Storage), 0, (24,), (1,))})
  with pytest.raises(InputError, match='bfloat16'):
    reader.read(mapped(tmp_path, zipped(data, storages, byteorder=b'big')))


def test_overlapping_members_are_views_of_the_same_bytes(tmp_path):
  views = {key: View(Stored(key, 12), 0, (12,), (1,)) for key in 'ab'}
  data = bytearray(zipped(pickled(views), {key: NUMBERS.tobytes() for key in 'ab'}))
  entries = [data.rfind(b'archive/data/' + key) - 46 for key in (b'a', b'b')]
  data[entries[1] + 42 : entries[1] + 46] = data[entries[0] + 42 : entries[0] + 46]
  result = reader.read(mapped(tmp_path, bytes(data)))
  np.testing.assert_array_equal(result['a'], result['b'])
  assert np.may_share_memory(result['a'], result['b'])


def test_a_directory_of_an_archive_beyond_four_gigabytes(tmp_path):
  """Entries whose length and place stand in the extra field (zip64)."""
  data = pickled({'a': View(Stored('0', 12), 0, (12,), (1,))})
  archive = zipped(data, {'0': NUMBERS.tobytes()})
  start = archive.index(b'PK\1\2')
  directory, ends = b'', archive[archive.index(b'PK\5\6') :]
  for entry in archive[start : -len(ends)].split(b'PK\1\2')[1:]:
    entry = b'PK\1\2' + entry
    lengths, place = entry[20:28], entry[42:46]
    numbers = b''.join(part + bytes(4) for part in (lengths[4:], lengths[:4], place))
    directory += entry[:20] + b'\xff' * 8 + entry[28:30] + (34).to_bytes(2, 'little')
    directory += entry[32:42] + b'\xff' * 4 + entry[46:] + b'ab\2\0xy' + b'\1\0\x18\0' + numbers
  ends = ends[:12] + len(directory).to_bytes(4, 'little') + ends[16:]
  data = archive[:start] + directory + ends
  result = reader.read(mapped(tmp_path, data))
  np.testing.assert_array_equal(result['a'], NUMBERS)


IMPOSSIBLE = {
  'beyond the storage': (1, (12,), (1,)),
  'beyond by strides': (0, (4, 2), (4, 1)),
  'absurd offset': (2**60, (1,), (1,)),
  'absurd shape': (0, (2**62, 2**62), (1, 1)),
  'wraps around': (0, (2**32, 2**32), (2**32, 1)),
  'absurd stride': (0, (2,), (2**62,)),
  'beyond 64 bits': (0, (2**70,), (1,)),
  'repeated': (0, (2**40,), (0,)),
  'repeated rows': (0, (12, 12), (0, 1)),
  'empty': (0, (0,), (1,)),
  'absurdly empty': (0, (2**62, 0), (1, 1)),
  'negative offset': (-1, (2,), (1,)),
  'negative side': (0, (-2, -2), (1, 1)),
  'negative stride': (5, (2,), (-1,)),
  'ranks differ': (0, (2, 3), (1,)),
  'of high rank': (0, (1,) * 100, (1,) * 100),
  'no numbers': (0, ('a',), (1,)),
  'a list': (0, [2], (1,)),
  'truth': (True, (2,), (1,)),
  'no offset': (None, (2,), (1,)),
}


@pytest.mark.parametrize('place', IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize('wrap', WRAPPERS)
def test_impossible_tensors(tmp_path, wrap, place):
  data = wrap(pickled({'a': View(Stored('0', 12), *place)}), {'0': NUMBERS.tobytes()})
  with pytest.raises(InputError):
    reader.read(mapped(tmp_path, data))


STORAGES = {
  'missing': Stored('1', 12),
  'too short': Stored('0', 13),
  'absurd': Stored('0', 2**62),
  'of wider numbers': Stored('0', 12, torch_files.DoubleStorage),
  'no type': Stored('0', 12, 'float'),
  'no key': Stored(0, 12),
  'no count': Stored('0', None),
  'impossible part': Stored('0', 12, part=[('1', 8, 12)]),
  'negative part': Stored('0', 12, part=[('1', -4, 12)]),
  'no part': Stored('0', 12, part=[3]),
}


@pytest.mark.parametrize('storage', STORAGES.values(), ids=STORAGES)
def test_impossible_storages(tmp_path, storage):
  data = pickled({'a': View(storage, 0, (storage.identity[4] or 12,), (1,))})
  for wrap in WRAPPERS:
    with pytest.raises(InputError):
      reader.read(mapped(tmp_path, wrap(data, {'0': NUMBERS.tobytes()})))


def touch(path):
  """What a malicious pickle does here."""
  path.touch()


class Executes:
  def __init__(self, call, *arguments):
    self.made_by = call, arguments

  def __reduce__(self):
    return self.made_by


class SetsState:
  def __setstate__(self, state):
    touch(state['path'])


def text(value):
  data = value.encode()
  return b'X' + len(data).to_bytes(4, 'little') + data


def malicious(path):
  """Pickles that touch the file `path` when Python loads them."""
  command, expression = f'touch {path}', f'__import__("pathlib").Path("{path}").touch()'
  sets_state = SetsState()
  sets_state.path = path
  state = pickle.dumps({'path': path}, 2)[2:-1]
  module = SetsState.__module__.encode()
  yield 'REDUCE', pickle.dumps(Executes(os.system, command), 2)
  yield 'REDUCE, protocol 0', pickle.dumps(Executes(os.system, command), 0)
  yield 'GLOBAL', b'\x80\2cbuiltins\neval\n' + text(expression) + b'\x85R.'
  yield 'STACK_GLOBAL', b'\x80\4\x8c\2os\x8c\6system\x93' + text(command) + b'\x85R.'
  yield 'INST', f"(S'{command}'\nios\nsystem\n.".encode()
  yield 'OBJ', b'\x80\2(cos\nsystem\n' + text(command) + b'o.'
  yield 'BUILD', pickle.dumps(sets_state, 2)
  yield 'NEWOBJ', b'\x80\2c' + module + b'\nSetsState\n)\x81' + state + b'b.'
  yield 'NEWOBJ_EX', b'\x80\4c' + module + b'\nSetsState\n)}\x92' + state + b'b.'
  yield 'EXT1', b'\x80\2\x82\xf0' + text(command) + b'\x85R.'
  yield 'EXT2', b'\x80\2\x83\xf0\0' + text(command) + b'\x85R.'
  yield 'EXT4', b'\x80\2\x84\xf0\0\0\0' + text(command) + b'\x85R.'
  yield 'inside a dict', pickle.dumps({'state_dict': {}, 'x': Executes(os.system, command)}, 2)
  yield 'hidden by POP', pickle.dumps(Executes(os.system, command), 2)[:-1] + b'0}.'
  yield 'argument', pickled(Executes(torch_files.Size, Executes(os.system, command)))
  inner = pickle.dumps(Executes(os.system, command), 2)
  yield 'pickle in a pickle', pickle.dumps(Executes(pickle.loads, inner), 2)
  yield 'torch.load', pickled(Executes(torch_files.load_from_bytes, zipped(inner)))


@pytest.fixture
def extension():
  copyreg.add_extension('os', 'system', 240)
  yield
  copyreg.remove_extension('os', 'system', 240)


@pytest.mark.parametrize('wrap', [*WRAPPERS, bytes])
def test_nothing_is_executed(tmp_path, wrap, extension):
  ran = tmp_path / 'ran'
  kinds = dict(malicious(ran))
  assert len(kinds) == 17
  for kind, data in kinds.items():
    if kind not in ('torch.load', 'argument'):  # torch.load is careful by now; Size wants numbers.
      pickle.loads(data)
      assert ran.exists(), kind
      ran.unlink()
    with pytest.raises(
      InputError, match=r'not a file of weights alone|not what torch\.save'
    ) as error:
      reader.read(mapped(tmp_path, wrap(data)))
    assert not ran.exists(), kind
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('wrap', WRAPPERS)
@pytest.mark.parametrize('name', ['posix.system', 'builtins.eval', 'torch.load', 'torch._utils.os'])
def test_the_refusal_names_what_it_refuses(tmp_path, wrap, name):
  module, attribute = name.rsplit('.', 1)
  for data in (
    f'\x80\2c{module}\n{attribute}\n)R.'.encode('latin-1'),
    b'\x80\4' + text(module) + text(attribute) + b'\x93)R.',
  ):
    with pytest.raises(InputError, match=f'refers to {name}: not a file of weights alone'):
      reader.read(mapped(tmp_path, wrap(data)))


TAMPERING = {
  'a type': b'ctorch\nFloatStorage\n',
  'a call': b'ctorch._utils\n_rebuild_tensor_v2\n',
  'a size': b'ctorch\nSize\n',
  'a dict': b'}',
  'an OrderedDict': b'ccollections\nOrderedDict\n)R',
  'a list': b']',
  'a tuple': b')',
  'text': text('a'),
}
STATES = {
  'attributes': pickle.dumps({'__call__': 1, '_make': 2, 'shape': 3}, 2)[2:-1],
  'slots': pickle.dumps((None, {'__call__': 1, '_make': 2, 'shape': 3}), 2)[2:-1],
  'a tuple': pickle.dumps((3, '>', None, None, None, -1, -1, 0), 2)[2:-1],
}


@pytest.mark.parametrize('thing', TAMPERING.values(), ids=TAMPERING)
@pytest.mark.parametrize('state', STATES.values(), ids=STATES)
def test_a_file_changes_nothing_for_those_that_follow(tmp_path, thing, state):
  """BUILD sets attributes of whatever it finds."""
  with pytest.raises(InputError):
    reader.read(mapped(tmp_path, zipped(b'\x80\2' + thing + state + b'b.')))
  test_own_files_are_read(tmp_path, zipped)


def test_a_described_tensor_can_not_be_changed(tmp_path):
  good = pickled({'a': View(Stored('0', 12), 0, (12,), (1,))})
  for state in STATES.values():
    changed = good[:-2] + state + b'bs.'
    with pytest.raises(InputError, match='damaged'):
      reader.read(mapped(tmp_path, zipped(changed, {'0': NUMBERS.tobytes()})))


def test_zip_archives_of_other_kinds(tmp_path):
  np.savez(tmp_path / 'x.npz', a=np.ones(3))
  with pytest.raises(InputError, match=r'without data.pkl'):
    reader.read(MappedFile(tmp_path / 'x.npz'))
  data = zipped(pickled({'a': View(Stored('0', 12), 0, (12,), (1,))}), {'0': NUMBERS.tobytes()})
  with pytest.raises(InputError, match='cut short'):
    reader.read(mapped(tmp_path, data[:-30]))
  with zipfile.ZipFile(tmp_path / 'x.keras', 'w') as archive:
    archive.writestr('model.weights.h5', b'x')
  with pytest.raises(InputError, match=r'unzip it and give its model\.weights\.h5'):
    reader.read(MappedFile(tmp_path / 'x.keras'))


def test_matches_by_content(tmp_path):
  for data in (b'PK', b'\x80', b'\x80\2}.', b'\x89HDF\r\n\x1a\n', bytes(100), b'\n\4VGG_'):
    assert not reader.matches(mapped(tmp_path, data))
    with pytest.raises(InputError):
      reader.read(mapped(tmp_path, data))


def nasty(much):
  """Files that ask for more than they are worth."""
  good = pickled({'a': View(Stored('0', 12), 0, (12,), (1,))})
  archive = bytearray(zipped(good))
  end = archive.rfind(b'PK\5\6')
  yield 'zip bomb', zipped(bytes(1000 * much), compression=zipfile.ZIP_DEFLATED)
  yield 'packed', zipped(good, {'0': NUMBERS.tobytes()}, compression=zipfile.ZIP_DEFLATED)
  yield 'many members', bytes(archive[:end] + b'PK\5\6' + b'\xff' * 18)
  long = b'PK\6\6' + bytes(20) + (2**60).to_bytes(8, 'little') * 4
  locator = b'PK\6\7' + bytes(4) + end.to_bytes(8, 'little') + bytes(4)
  yield 'many members, zip64', bytes(archive[:end]) + long + locator + bytes(archive[end:])
  name = archive.rfind(b'archive/data.pkl')
  yield 'long member', bytes(archive[: name - 22] + b'\xff' * 4 + archive[name - 18 :])
  yield 'member elsewhere', bytes(archive[: name - 4] + b'\xff' * 4 + archive[name:])
  entry = b'PK\1\2' + bytes(24) + b'\1' + bytes(17) + b'a'
  size = (len(entry) * much).to_bytes(4, 'little')
  tail = b'PK\5\6' + bytes(8) + size + end.to_bytes(4, 'little') + bytes(2)
  yield 'many real members', bytes(archive[:end]) + entry * much + tail
  pickles = {
    'lists': b']' * much,
    'lists in lists': b']' + b'](' * much + b'e' * much + b'.',
    'lists in each other': b']' * much + b'a' * (much - 1) + b'.',
    'dicts in each other': b'}X\1\0\0\0a' * much + b'}' + b's' * much + b'.',
    'tuples in each other': b')' + b'\x85' * much + b'.',
    'tuples of themselves': b')q\0' + b'h\0\x86q\0' * much + b'.',
    'a key of tuples': b'})q\0' + b'h\0\x86q\0' * much + b'Ns.',
    'many keys of tuples': b'})q\0' + b'h\0\x86q\0' * much + b'(h\0Nh\0Nu.',
    'a pair with a key of tuples': (
      b')q\0' + b'h\0\x86q\0' * much + b'ccollections\nOrderedDict\n]h\0N\x86a\x85R.'
    ),
    'a dict of tuples': b')q\0' + b'h\0\x86q\0' * much + b'(h\0Nd.',
    'a set of tuples': b'\x8f)q\0' + b'h\0\x86q\0' * much + b'(h\0\x90.',
    'dicts': b'}' * much,
    'doubled': b'2' * much,
    'marks': b'(' * much + b'.',
    'marks without end': b'(' * 5 * much,
    'memo': b'Nr\xff\xff\xff\xffr\0\0\0\x80j\xff\xff\xff\xff.',
    'no memo': b'j\xff\xff\xff\xff.',
    'long text': b'\x8d' + (2**60).to_bytes(8, 'little') + b'a.',
    'long bytes': b'\x8e' + (2**60).to_bytes(8, 'little') + b'a.',
    'long bytearray': b'\x96' + (2**60).to_bytes(8, 'little') + b'a.',
    'long number': b'\x8b\xff\xff\xff\x7fa.',
    'long digits': b'I' + b'9' * much + b'\n.',
    'long line': b'c' + b'a' * much + b'\nb\n.',
    'one list of pairs again and again': (
      b'](' + b'K\1K\2\x86' * much + b'eq\0' + b'ccollections\nOrderedDict\nh\0\x85R' * much
    ),
    'no stop': b'N' * much,
    'stops at once': b'.',
    'a list of itself': b']q\0h\0ah\0ah\0a.',
    'a dict of itself': b'}q\0X\5\0\0\0modelh\0s.',
    'surrogates': b'}X\3\0\0\0\xed\xa0\x80Ns.',
    'backslashes in a name': b'c\\/\\d\nsystem\n.',
    'a name without an end': b'cos',
    'lines in a name': b'cos\r\nsys\ttem\n.',
  }
  yield from ((name, zipped(data)) for name, data in pickles.items())
  yield from ((f'{name}, legacy', legacy(data)) for name, data in pickles.items() if much < 10_000)


def test_nasty_files_take_no_time(tmp_path):
  for name, data in nasty(100_000):
    file = mapped(tmp_path, data)
    start = time.perf_counter()
    with pytest.raises(InputError) as error:
      reader.read(file)
    assert time.perf_counter() - start < 20, name
    assert str(error.value).isprintable(), name


def test_nasty_files_take_no_memory(tmp_path):
  for name, data in nasty(5000):
    file = mapped(tmp_path, data)
    tracemalloc.start()
    try:
      with pytest.raises(InputError):
        reader.read(file)
      peak = tracemalloc.get_traced_memory()[1]
    finally:
      tracemalloc.stop()
    # The smallest objects take 60 bytes and are made by one opcode, a byte.
    assert peak < 80 * len(data) + 20_000, name


def test_what_stands_beside_the_weights_may_be_deep(tmp_path):
  data = pickled({'a': View(Stored('0', 12), 0, (12,), (1,))})[:-1]
  data += text('x') + b']' * 10**5 + b'a' * (10**5 - 1) + b's.'
  result = reader.read(mapped(tmp_path, zipped(data, {'0': NUMBERS.tobytes()})))
  np.testing.assert_array_equal(result['a'], NUMBERS)
