"""profile.py: a trace of steps, and the operations in it."""

import json

import jax
import jax.numpy as jnp
import pytest

from dilated_jax.training.profile import Profile, operations


@pytest.fixture
def step():
  return jax.jit(lambda x: jnp.sin(x @ x).sum())


def run(profile, step, count):
  result = None
  for number in range(count):
    profile.before(number, result)
    result = step(jnp.ones((64, 64)))
  profile.close(count, result)


def test_traced_steps_and_their_operations(tmp_path, step, caplog):
  run(Profile(tmp_path, 2), step, 7)
  found = json.loads((tmp_path / 'operations.json').read_text())
  assert (found['first_step'], found['steps']) == (3, 2)
  assert '2 steps are traced' in caplog.text
  rows = found['operations']
  assert rows == operations(tmp_path)
  dots = [row for row in rows if 'dot' in row['name']]
  assert dots and sum(row['calls'] for row in dots) == 2  # One a step.
  times = [row['milliseconds'] for row in rows]
  assert times == sorted(times, reverse=True) and times[0] > 0


def test_a_run_that_ends_earlier(tmp_path, step):
  run(Profile(tmp_path, 9), step, 4)
  assert json.loads((tmp_path / 'operations.json').read_text())['steps'] == 2


def test_too_few_steps(tmp_path, step, caplog):
  run(Profile(tmp_path, 2), step, 2)
  assert '`profile`: too few steps' in caplog.text and not list(tmp_path.iterdir())


def test_none_is_asked_for(tmp_path, step, caplog):
  run(Profile(tmp_path, 0), step, 5)
  assert not list(tmp_path.iterdir()) and not caplog.messages
