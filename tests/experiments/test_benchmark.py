"""benchmark: every suite is there, and its rows are printed, written and drawn."""

import importlib
import json

import pytest

from dilated_jax.errors import InputError
from experiments import benchmark
from experiments.benchmarks import peaks, peers, pool, report
from tests import calling

ROWS = [
  {'what': 'conv, 3x3', 'theirs': 'XLA', 'ours_ms': 2.0, 'theirs_ms': 3.0, 'ratio': 1.5,
   'ours_quartiles_ms': [1.5, 2.5], 'flops': 4e6, 'bytes': 1e6, 'gflops': 2.0},
  {'what': 'conv, 5x5', 'theirs': 'PyTorch', 'ours_ms': 123.4},
  {'what': 'agreement', 'float32': 1e-7},
]  # fmt: skip


@pytest.mark.parametrize('name', benchmark.SUITES)
def test_suites(name):
  assert callable(importlib.import_module(f'experiments.benchmarks.{name}').run)


def test_the_list_tells_every_suite(capsys):
  calling.run(benchmark, '--list')
  assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*benchmark.SUITES]


def test_rows_are_printed_and_written(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(pool, 'run', lambda values: map(dict, ROWS))
  output = f'--output={tmp_path}/pool.json,{tmp_path}/pool.md'
  calling.run(benchmark, '--suite=pool', output, '--repeats=2')
  out = capsys.readouterr().out.splitlines()
  assert out[1].split() == [
    'conv,', '3x3', '2.00', '(1.50-2.50)', 'ms', 'XLA:', '3.00', 'ms', 'x1.50', 'GFLOP/s', '2',
  ]  # fmt: skip
  assert out[2].split() == ['conv,', '5x5', '123', 'ms']
  assert out[4] == f'PyTorch was not found; {peers.HOW_TO_GET["PyTorch"]}'
  content = json.loads((tmp_path / 'pool.json').read_text())
  assert content['machine'] == out[0] and content['repeats'] == 2
  assert content['rows'][:-1] == [{'suite': 'pool', 'unit': 'ms'} | row for row in ROWS]
  lines = (tmp_path / 'pool.md').read_text().splitlines()
  tables = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if '|' in line]
  assert tables[0] == ['what', 'ours, ms', 'XLA, ms', 'ratio', 'GFLOP/s']
  assert tables[2] == ['conv, 3x3', '2.00 (1.50-2.50)', '3.00', 'x1.50', '2']
  assert tables[3] == ['what', 'ours, ms'] and tables[5] == ['conv, 5x5', '123']
  assert tables[6] == ['what', 'float32'] and tables[8] == ['agreement', '1e-07']
  assert lines.count('`--suite=pool`') == 1 and lines[-1] == f'{out[4]}.'


def test_peaks_and_curves_are_drawn(monkeypatch, tmp_path):
  small = peaks.run
  monkeypatch.setattr(peers, 'pytorch', lambda values: None)
  monkeypatch.setattr(peaks, 'run', lambda values: small(values, 32, 64))
  curve = [dict(ROWS[0], what=f'{x} pixels', curve='pixels', x=x) for x in (10, 20)]
  monkeypatch.setattr(pool, 'run', lambda values: [*map(dict, ROWS), *curve])
  output = tmp_path / 'a.json'
  plot = tmp_path / 'a.png'
  calling.run(benchmark, '--suite=pool', '--repeats=1', f'--plot={plot}', f'--output={output}')
  assert plot.read_bytes().startswith(b'\x89PNG')
  rows = json.loads(output.read_text())['rows']
  work = {'peak_gflops': 2 * 32**3 / 1e6, 'peak_gb_per_s': 12 * 64 / 1e6}
  for row, (name, done) in zip(rows, work.items()):
    assert row[name] == pytest.approx(done / row['ours_min_ms'])


def test_what_can_not_be_done_is_refused_before_anything_is_measured(monkeypatch):
  for flag, message in {
    '--suite=convs': '--suite=convs: no such choice; choose among peaks, conv',
    '--suite=': '--suite= names none; choose among peaks, conv',
    '--output=a.txt': r'--output=a.txt: the name must end in .json or .md',
    '--plot=a.xyz': r'--plot=a.xyz: the name must end in one of .*jpg, .*png',
    '--torch_python=/no/python': '--torch_python=/no/python: no such program; name a Python',
  }.items():
    with pytest.raises(InputError, match=message):
      calling.run(benchmark, flag)
  monkeypatch.setattr(report.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(InputError, match=r'matplotlib; pip install dilated_jax\[plot\]'):
    calling.run(benchmark, '--plot=a.png')
