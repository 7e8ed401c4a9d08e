"""benchmark: every suite is there, and its rows are printed and written."""

import importlib
import json

import pytest

from experiments import benchmark
from experiments.benchmarks import pool
from tests import calling


@pytest.mark.parametrize('name', benchmark.SUITES)
def test_suites(name):
  suite = importlib.import_module(f'experiments.benchmarks.{name}')
  assert callable(suite.run) and f'\n{name}: ' in benchmark.__doc__


def test_rows_are_printed_and_written(monkeypatch, tmp_path, capsys):
  row = {'what': 'it', 'theirs': 'them', 'ours_ms': 2.0, 'theirs_ms': 3.0, 'ratio': 1.5}
  monkeypatch.setattr(pool, 'run', lambda values: [dict(row)])
  calling.run(benchmark, '--suite=pool', f'--output={tmp_path}/pool.json', '--repeats=2')
  out = capsys.readouterr().out.splitlines()
  assert out[1].split() == ['it', '2.00', 'ms', 'them:', '3.00', 'ms', 'x1.50']
  content = json.loads((tmp_path / 'pool.json').read_text())
  assert content['machine'] == out[0] and content['repeats'] == 2
  assert content['rows'] == [row | {'unit': 'ms'}]
