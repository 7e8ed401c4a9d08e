"""Files as torch.save writes them, written without PyTorch."""

import collections
import io
import pickle
import sys
import types
from unittest import mock
import zipfile

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C


def _stand_in(module, name):
  """Something that is pickled as `module.name`."""
  return type(name, (), {'__module__': module, '__qualname__': name})


FloatStorage = _stand_in('torch', 'FloatStorage')
DoubleStorage = _stand_in('torch', 'DoubleStorage')
BFloat16Storage = _stand_in('torch', 'BFloat16Storage')
Size = _stand_in('torch', 'Size')
rebuild_tensor = _stand_in('torch._utils', '_rebuild_tensor_v2')
load_from_bytes = _stand_in('torch.storage', '_load_from_bytes')
STAND_INS = (
  FloatStorage,
  DoubleStorage,
  BFloat16Storage,
  Size,
  rebuild_tensor,
  load_from_bytes,
)


def _modules():
  """What a pickler imports to see that these names are there."""
  modules = {name: types.ModuleType(name) for name in ('torch', 'torch._utils', 'torch.storage')}
  for thing in (
    FloatStorage,
    DoubleStorage,
    BFloat16Storage,
    Size,
    rebuild_tensor,
    load_from_bytes,
  ):
    setattr(modules[thing.__module__], thing.__name__, thing)
  return modules


class Stored:
  """A storage: the bytes of one or more tensors."""

  def __init__(self, key, count, kind=FloatStorage, part=()):
    self.identity = ('storage', kind, key, 'cpu', count, *part)


class View:
  """A tensor: a view of a storage."""

  def __init__(self, storage, offset, shape, strides):
    self.arguments = storage, offset, shape, strides, False, collections.OrderedDict()

  def __reduce__(self):
    return rebuild_tensor, self.arguments


class _Pickler(pickle.Pickler):
  def persistent_id(self, thing):
    return thing.identity if isinstance(thing, Stored) else None


def pickled(thing, protocol=2):
  file = io.BytesIO()
  with mock.patch.dict(sys.modules, _modules()):
    _Pickler(file, protocol).dump(thing)
  return file.getvalue()


def zipped(data, storages=(), compression=zipfile.ZIP_STORED, **others):
  """A file of torch 1.6 or newer from the pickle and {key: bytes} of the storages."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', data)
    for name, content in others.items():
      archive.writestr(f'archive/{name}', content)
    for key, content in dict(storages).items():
      archive.writestr(f'archive/data/{key}', content)
  return file.getvalue()


def legacy(data, storages=()):
  """The format before torch 1.6; storages are float32."""
  parts = [pickled(_MAGIC), pickled(1001), pickled({'little_endian': True}), data]
  parts.append(pickled(list(dict(storages))))
  for content in dict(storages).values():
    parts += [(len(content) // 4).to_bytes(8, 'little'), content]
  return b''.join(parts)


def state_dict(arrays, old=False) -> bytes:
  """The file of {name: float32 array}; in the format before torch 1.6 if `old`."""
  tensors, storages = collections.OrderedDict(), {}
  for place, (name, array) in enumerate(arrays.items()):
    assert array.dtype == np.float32, name
    array = np.asarray(array, order='C')
    strides = tuple(stride // 4 for stride in array.strides)
    stored = Stored(str(place), array.size, part=[None] if old else ())
    tensors[name] = View(stored, 0, array.shape, strides)
    storages[str(place)] = array.tobytes()
  if old:
    return legacy(pickled(tensors), storages)
  return zipped(pickled(tensors), storages, byteorder=b'little', version=b'3\n')


def resnet(blocks=(1, 1, 1, 1), width=2, basic=False, classes=5, seed=0):
  """The tensors of torchvision's ResNet by name, with numbers drawn; `width` instead of 64."""
  rng, tensors = np.random.default_rng(seed), {}

  def conv(name, norm, outputs, inputs, kernel):
    tensors[f'{name}.weight'] = rng.normal(0, 0.1, (outputs, inputs, kernel, kernel))
    for part in ('weight', 'bias', 'running_mean', 'running_var'):
      tensors[f'{norm}.{part}'] = rng.uniform(0.5, 1.5, outputs)
    tensors[f'{norm}.num_batches_tracked'] = np.array(7)

  conv('conv1', 'bn1', width, 3, 7)
  inputs = width
  for group, units in enumerate(blocks):
    planes = width * 2**group
    kernels = ((3, planes), (3, planes)) if basic else ((1, planes), (3, planes), (1, 4 * planes))
    for unit in range(units):
      name, given = f'layer{group + 1}.{unit}', inputs
      for index, (kernel, outputs) in enumerate(kernels, 1):
        conv(f'{name}.conv{index}', f'{name}.bn{index}', outputs, given, kernel)
        given = outputs
      if unit == 0 and given != inputs:
        conv(f'{name}.downsample.0', f'{name}.downsample.1', given, inputs, 1)
      inputs = given
  tensors['fc.weight'], tensors['fc.bias'] = rng.normal(0, 1, (classes, inputs)), np.zeros(classes)
  return {
    name: array if name.endswith('tracked') else array.astype(np.float32)
    for name, array in tensors.items()
  }
