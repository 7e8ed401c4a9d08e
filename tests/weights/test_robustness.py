"""Damaged files of every kind end in one line that names the file, or in finite numbers."""

import time

import jax
import numpy as np
import pytest
import safetensors.numpy

from dilated_jax.errors import InputError
from dilated_jax.weights.convert import convert
from tests import caffe_files, mutations
from tests.weights import test_convert as made

TINY = (1, 1, 2, 2, 2, 3, 2)


def v2(path):
  path.write_bytes(caffe_files.caffemodel(caffe_files.published('kitti', RNG, width=TINY)))


def v1(path):
  network = caffe_files.published('pascal_voc', RNG, width=TINY, num_classes=2, front_end=True)
  path.write_bytes(caffe_files.caffemodel(network, version=1))


def v0(path):
  network = caffe_files.vgg16(RNG, width=TINY, num_classes=3)
  path.write_bytes(caffe_files.caffemodel(network, version=0))


def zipped(path):
  made.write_pth(path, made.vgg_arrays(classes=3))


def legacy(path):
  made.write_pth(path, made.vgg_arrays(classes=3), legacy=True)


def keras(path):
  made.write_keras(path, made.vgg_arrays(classes=3))


def timm(path):
  tensors = made.torch_names(made.vgg_arrays(classes=3), timm=True)
  safetensors.numpy.save_file(tensors, path)


pytestmark = pytest.mark.usefixtures('hdf5_server')

RNG = np.random.default_rng(0)
KINDS = (v2, v1, v0, zipped, legacy, keras, timm)


def check(write, count, seed, tmp_path, monkeypatch, vgg):
  monkeypatch.setattr(made, 'WIDTHS', TINY)
  write(tmp_path / 'whole')
  path, outcomes = tmp_path / 'damaged', set()
  for index, content in enumerate(
    mutations.mutations((tmp_path / 'whole').read_bytes(), count, seed)
  ):
    path.write_bytes(content)
    start = time.monotonic()
    try:
      result = convert(path, fc='random' if vgg and index % 2 else 'auto')
      assert all(np.isfinite(array).all() for array in jax.tree.leaves(result.variables))
      outcomes.add('converted')
    except InputError as error:
      message = str(error)
      assert message.isprintable() and str(path) in message and len(message) < 1000
      outcomes.add('refused')
    assert time.monotonic() - start < 20, f'copy {index} of seed {seed}'
  assert 'refused' in outcomes


@pytest.mark.parametrize('write', KINDS)
def test_damaged_files(write, tmp_path, monkeypatch):
  check(write, 200, 0, tmp_path, monkeypatch, vgg=write not in (v2, v1))
