"""about: what a report of a problem needs."""

import json

import jax

from experiments import about
from tests import calling


def test_text_and_json_say_the_same(capsys, monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_dump_to=/tmp/x')
  monkeypatch.setenv('SOME_SECRET', 'hidden')
  calling.run(about)
  text = capsys.readouterr().out
  calling.run(about, '--json')
  found = json.loads(capsys.readouterr().out)
  assert found['versions']['jax'] == jax.__version__ and f'  jax: {jax.__version__}\n' in text
  assert found['devices']['cpu 7'] == 'cpu' and '  cpu 7: cpu\n' in text
  assert found['settings']['jax_numpy_dtype_promotion'] == 'strict'
  assert found['environment']['XLA_FLAGS'] == '--xla_dump_to=/tmp/x'
  assert 'hidden' not in text and found['machine']['cpu']


def test_what_made_a_result(monkeypatch):
  found = about.made()
  assert found['machine'] == about.machine() and found['devices'].endswith(' cpu')
  assert found['versions']['jax'] == jax.__version__ and found['date'].endswith(' UTC')

  def held():
    raise RuntimeError('the TPU is already in use')

  monkeypatch.setattr(jax, 'devices', held)
  assert about.made(by_devices=False).keys() == {'date', 'machine', 'versions'}


def test_a_package_that_is_not_there():
  assert about.version('no-such-package') == 'not installed'
