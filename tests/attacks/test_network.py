"""Nothing here talks to the network unless it is asked to: not to JAX's, TFDS's or W&B's homes.

The commands run in a network namespace without a route, in which a call for help would fail or
wait, and report every address that they look up or connect to.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

ROOT = pathlib.Path(__file__).parents[2]

_WATCH = """
import sys
def watch(event, arguments):
  if event == 'socket.getaddrinfo' or (
    event in ('socket.connect', 'socket.sendto') and isinstance(arguments[1], tuple)
  ):
    print('NETWORK', event, arguments[1:], file=sys.stderr, flush=True)
sys.addaudithook(watch)
"""


@pytest.mark.attack
def test_train_evaluate_and_predict_without_a_network(tmp_path):
  if subprocess.run(['unshare', '-n', 'true'], check=False, capture_output=True).returncode:
    pytest.skip('no permission for a network namespace')
  (tmp_path / 'watch').mkdir()
  (tmp_path / 'watch' / 'sitecustomize.py').write_text(_WATCH)
  PIL.Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / 'a.png')
  environment = os.environ | {'PYTHONPATH': f'{tmp_path / "watch"}:{ROOT}', 'HOME': str(tmp_path)}
  places = ['--dataset=scenes', f'--data_dir={tmp_path / "data"}']
  weights = f'--weights={tmp_path / "run" / "weights"}'
  for command in (
    ['train', '--model=front_end', '--stage=front_end', '--width=0.05', '--num_steps=2',
     '--batch_size=2', f'--workdir={tmp_path / "run"}', *places],
    ['evaluate', weights, '--split=test[:2]', f'--output={tmp_path / "scores.json"}', *places],
    ['predict', weights, f'--inputs={tmp_path / "a.png"}', f'--output={tmp_path / "out"}'],
    ['export', weights, f'--output={tmp_path / "a.onnx"}'],
    ['explore', weights, f'--output={tmp_path / "a.html"}'],
    ['report', str(tmp_path / 'run'), f'--output={tmp_path / "report.html"}'],
  ):  # fmt: skip
    name, *options = command
    done = subprocess.run(
      ['unshare', '-n', sys.executable, '-m', f'experiments.{name}', *options],
      env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert not done.returncode, (name, done.stderr[-2000:])
    assert 'NETWORK' not in done.stderr, (name, done.stderr)
