"""Reads Keras' files of weights (.h5, .weights.h5), which are HDF5."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from dilated_jax.weights.mapped import MappedFile

_SIGNATURE = b'\x89HDF\r\n\x1a\n'
_PROGRAM = pathlib.Path(__file__).with_name('hdf5_program.py')


def matches(file: MappedFile) -> bool:
  """Whether a file is HDF5.

  Args:
    file: any file.

  Returns:
    True if so.
  """
  return file.data[:8].tobytes() == _SIGNATURE


def read(file: MappedFile) -> dict[str, np.ndarray]:
  """Reads all data sets.

  Args:
    file: an HDF5 file.

  Returns:
    path ('group/.../name', no leading slash) and array of each data set, sorted by name in each
    group. The arrays are read-only and have the file's dtypes: integers or float16, float32,
    float64 of either byte order. They are views of the file, or of a temporary one for those that
    it keeps in chunks.

  Raises:
    InputError: h5py is missing; the file is damaged, or keeps something in a form that is not read
      here.
  """
  if not matches(file):
    raise file.fail('is not HDF5')
  if importlib.util.find_spec('h5py') is None:
    raise file.fail("is an HDF5 file, which h5py reads: pip install 'dilated_jax[hdf5]'")
  with tempfile.TemporaryDirectory() as folder:
    unpacked = pathlib.Path(folder, 'unpacked')
    try:
      answer = json.loads(_answer(file.path.absolute(), unpacked))
    except ValueError:  # It came to an end without one.
      raise file.fail('can not be read by HDF5: it is damaged; fetch it again') from None
    if 'refused' in answer:
      raise file.fail(answer['refused'])
    files = {False: file, True: file.attach(unpacked) if unpacked.stat().st_size else None}
    return {
      path: files[is_unpacked].array(offset, shape, dtype, repr(path))
      for path, dtype, shape, is_unpacked, offset in answer['data_sets']
    }


def _answer(file, unpacked) -> bytes:
  """What the program says, see there."""
  done = subprocess.run(
    [sys.executable, '-P', _PROGRAM, file, unpacked],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    env=os.environ | {'OPENBLAS_NUM_THREADS': '1'},  # Each thread takes memory of its own.
    check=False,
  )
  return done.stdout
