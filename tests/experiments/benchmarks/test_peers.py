"""peers: another process is asked, times itself, and its failures are one line."""

import sys

import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import table as tables
from experiments.benchmarks import peers

# What a file of peers/ holds. It prints, which must not disturb the answers.
FILE = """
import array, time

def version():
  return 'stub 1'

def wait():
  time.sleep(0.002)

def plain(result):
  return result

def doubled(x, wrong=False):
  _, dtype, shape, content = x
  print('prepared')
  def call():
    if wrong:
      raise ValueError('no such\\n  thing')
    found = array.array('f', content)
    return 'array', dtype, shape, array.array('f', [2 * each for each in found]).tobytes()
  return call

def ends():
  raise SystemExit(3)

def grows(mib):
  return lambda: bytearray(mib << 20).count(b'1')
"""


@pytest.fixture
def peer(monkeypatch, tmp_path):
  (tmp_path / 'stub.py').write_text(FILE)
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  peer = peers.Peer(sys.executable, 'stub')
  yield peer
  peer.close()


def test_jobs(peer):
  assert peer.version == 'stub 1'
  x = np.arange(6, dtype=np.float32).reshape(2, 3)
  one, other = peer.job('doubled', x=x), peer.job('doubled', x=x[::-1])
  for job, wanted in ((one, 2 * x), (other, 2 * x[::-1]), (one, 2 * x)):
    np.testing.assert_array_equal(job.result(), wanted)
  assert one.milliseconds() > 2  # Waiting counts.
  assert peer.job('grows', mib=64).peak_mib() > 32


def test_failures_are_one_line(peer):
  for function, options, message in (
    ('doubled', {'wrong': True}, 'ValueError: no such thing'),
    ('absent', {}, "AttributeError: module 'stub' has no attribute 'absent'"),
    ('ends', {}, 'ended with status 3 while it measured'),
  ):
    given = {} if function == 'ends' else {'x': np.zeros(1, np.float32)}
    with pytest.raises(InputError, match=f'{sys.executable}: {message}'):
      peer.job(function, **given, **options).milliseconds()


def test_what_is_no_interpreter_and_what_lacks_the_package():
  with pytest.raises(InputError, match='/nowhere: No such file or directory; name a Python'):
    peers.Peer('/nowhere', 'stub')
  with pytest.raises(InputError, match="ModuleNotFoundError: No module named 'stub'"):
    peers.Peer(sys.executable, 'stub')


def test_layers_are_plain_data():
  (layer,) = peers.layers_of((tables.Layer('a', channels=4, dilation=2),), channels=7)
  assert (layer['in_channels'], layer['out_channels'], layer['dilation']) == (7, 4, 2)
  layers = peers.layers_of(models.create('fcn8s', 3, width=1 / 32).table)
  names = [layer['name'] for layer in layers]
  held = {-1}
  for row, layer in enumerate(layers):
    assert set(layer['reads']) <= held, names[row]
    held = held - set(layer['last_reads']) | {row}
  assert held == {len(layers) - 1}  # Nothing is kept that is read no more.
