"""Files that PyTorch itself has written."""

import collections
import io
import operator
import os
import pickle
import time

import ml_dtypes
import numpy as np
import pytest
import torch

from dilated_jax.errors import InputError
from dilated_jax.weights import torch as reader
from dilated_jax.weights.mapped import MappedFile
from tests import torch_files
from tests.mutations import mutations
from tests.weights.test_torch import Executes, malicious, mapped

CONTAINERS = {
  'zip': {},
  'zip, protocol 4': {'pickle_protocol': 4},
  'zip, protocol 5': {'pickle_protocol': 5},
  'legacy': {'_use_new_zipfile_serialization': False},
  'legacy, protocol 4': {'_use_new_zipfile_serialization': False, 'pickle_protocol': 4},
}


@pytest.fixture(params=CONTAINERS)
def save(request, tmp_path):
  """Saves with the real torch; gives the file."""

  def saver(thing):
    path = tmp_path / 'weights'
    path.unlink(missing_ok=True)
    torch.save(thing, path, **CONTAINERS[request.param])
    return MappedFile(path)

  return saver


def assert_equal(result, expected):
  assert list(result) == list(expected)
  for name, tensor in expected.items():
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
      assert result[name].dtype == ml_dtypes.bfloat16
      np.testing.assert_array_equal(result[name].view(np.int16), tensor.view(torch.int16).numpy())
    else:
      assert result[name].dtype == tensor.numpy().dtype
      np.testing.assert_array_equal(result[name], tensor.numpy())
    assert not result[name].flags.writeable


def network():
  torch.manual_seed(0)
  return torch.nn.Sequential(
    torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 5)
  )


def test_a_state_dict(save):
  file = save(network().state_dict())
  assert reader.matches(file)
  result = reader.read(file)
  assert_equal(result, network().state_dict())
  assert result['1.num_batches_tracked'].shape == ()
  assert all(np.may_share_memory(value, file.data) for value in result.values())


def test_dtypes_strides_and_shared_storages(save):
  matrix = torch.randn(10, 12)
  tensors = {
    dtype: (torch.randn(3, 5) * 50).to(getattr(torch, dtype))
    for dtype in ('float64', 'float32', 'float16', 'bfloat16')
  }
  tensors |= {
    dtype: torch.arange(6).to(getattr(torch, dtype))
    for dtype in ('int64', 'int32', 'int16', 'int8', 'uint8', 'bool')
  }
  tensors |= {
    'parameter': torch.nn.Parameter(torch.randn(2, 3)),
    'whole': matrix,
    'turned': matrix.T,
    'slice': matrix[2:9:3, 1:8:2],
    'column': matrix[:, 3:4],
    'permuted': torch.randn(2, 3, 4, 5).permute(3, 1, 0, 2),
    'channels last': torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    'half slice': torch.randn(7, 8).half()[1:, ::3],
    'bfloat16 slice': torch.randn(7, 8).bfloat16()[1:, ::3],
    'scalar': torch.tensor(1.5),
    'one': torch.randn(1, 1, 1),
  }
  assert_equal(reader.read(save(tensors)), tensors)


@pytest.mark.parametrize('key', ['state_dict', 'model_state_dict', 'model'])
def test_a_checkpoint_of_a_parallel_model(save, key):
  state = network().state_dict()
  optimizer = torch.optim.Adam(network().parameters())
  checkpoint = {
    'epoch': 3,
    'arch': 'vgg16',
    'best': torch.tensor(71.5),
    'history': [1.5, None, True, -(2**40), ('a', 7)],
    'optimizer': optimizer.state_dict(),
    key: collections.OrderedDict((f'module.{name}', value) for name, value in state.items()),
  }
  assert_equal(reader.read(save(checkpoint)), checkpoint[key])


def test_whole_modules_are_refused_by_name(save):
  with pytest.raises(InputError, match=r'refers to torch.nn.modules.container.Sequential: .*state'):
    reader.read(save(network()))


def test_other_files_of_torch(tmp_path, save):
  for thing in (torch.ones(3), [torch.ones(3)], {'epoch': 3}, {}, {3: torch.ones(3)}, 'text', None):
    with pytest.raises(InputError, match='no dict of tensors'):
      reader.read(save(thing))
  with pytest.raises(InputError, match="'a' is empty"):
    reader.read(save({'a': torch.zeros(0, 3)}))
  with pytest.raises(InputError, match='_rebuild_sparse_tensor: not a file of weights alone'):
    reader.read(save({'a': torch.eye(3).to_sparse()}))
  with pytest.raises(InputError, match='ComplexFloatStorage: not a file of weights alone'):
    reader.read(save({'a': torch.ones(3, dtype=torch.complex64)}))
  with pytest.raises(InputError, match='negated'):
    reader.read(save({'a': torch._neg_view(torch.ones(3))}))


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_torchscript(tmp_path):
  torch.jit.script(network()).save(tmp_path / 'script')
  file = MappedFile(tmp_path / 'script')
  assert reader.matches(file)
  with pytest.raises(InputError, match='TorchScript'):
    reader.read(file)


@pytest.mark.parametrize('options', [{}, {'_use_new_zipfile_serialization': False}])
def test_damaged_files(tmp_path, options):
  file = io.BytesIO()
  state = {'a.weight': torch.randn(2, 3, 3), 'a.bias': torch.randn(4).half()}
  torch.save(collections.OrderedDict(state), file, **options)
  read = 0
  for data in mutations(file.getvalue(), 600, seed=1):
    start = time.perf_counter()
    try:
      result = reader.read(mapped(tmp_path, data))
    except InputError as error:
      assert '\n' not in str(error)
    else:
      read += 1
      for array in result.values():
        assert array.nbytes == len(array.tobytes()) < len(data)
    assert time.perf_counter() - start < 20
  assert 0 < read < 400


@pytest.mark.parametrize('old', [False, True])
def test_pytorch_reads_what_stands_in_for_its_files(tmp_path, old):
  """The other tests read files that are written without PyTorch."""
  rng = np.random.default_rng(0)
  shapes = {'a.weight': (2, 3, 4), 'a.bias': (2,), 'b': ()}
  arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
  (tmp_path / 'weights').write_bytes(torch_files.state_dict(arrays, old))
  found = torch.load(tmp_path / 'weights', weights_only=True)
  assert list(found) == list(arrays)
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name].numpy(), array)
  assert_equal(reader.read(MappedFile(tmp_path / 'weights')), found)


def test_names_that_stand_in_are_those_of_pytorch(tmp_path):
  for stand_in in torch_files.STAND_INS:
    real = operator.attrgetter(f'{stand_in.__module__}.{stand_in.__name__}'[len('torch.') :])(torch)
    assert (stand_in.__module__, stand_in.__qualname__) == (real.__module__, real.__qualname__)
  command = f'touch {tmp_path / "ran"}'
  kinds = dict(malicious(tmp_path / 'ran'))
  inner = pickle.dumps(Executes(os.system, command), 2)
  loads = Executes(torch.storage._load_from_bytes, torch_files.zipped(inner))
  assert kinds['torch.load'] == pickle.dumps(loads, 2)
  size = Executes(torch.Size, Executes(os.system, command))
  assert kinds['argument'] == pickle.dumps(size, 2)
