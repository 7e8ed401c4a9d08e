"""memory.py: what a step takes is told before it runs."""

import logging

import jax
import pytest

from dilated_jax import models
from dilated_jax.nn import costs
from dilated_jax.training import memory
from dilated_jax.training.config import OptimizerOptions, StageConfig

MODEL = models.create('dilation8', 3, blocks=(1,), width=1 / 16, stride=2, fc_kernel=3)


def config(**options):
  return StageConfig('joint', batch_size=8, **options)


def test_what_is_predicted():
  side = 16 + 2 * MODEL.margin
  found = memory.predict(config(loss_resolution='full'), MODEL, (16, 16), devices=2)
  assert found == costs.training_memory(MODEL.table, side, side, batch_size=4, label_size=(16, 16))
  adam = config(optimizer=OptimizerOptions('adamw'), grad_accum_steps=2)
  found = memory.predict(adam, MODEL.clone(remat=True, dtype='bfloat16'), (16, 16))
  assert found == costs.training_memory(
    MODEL.table, side, side, batch_size=8, optimizer_slots=2, grad_accum_steps=2, remat=True
  )  # CPUs compute bfloat16 in float32.


@pytest.mark.parametrize('free, level', [(1 << 40, 'INFO'), (1 << 20, 'WARNING')])
def test_what_is_told(monkeypatch, caplog, free, level):
  monkeypatch.setattr(memory, 'memory', lambda: free)
  with caplog.at_level(logging.INFO):
    memory.tell(config(), MODEL, (16, 16))
  (record,) = caplog.records
  assert record.levelname == level and 'joint: a step takes about ' in record.message
  assert ('`batch_size`' in record.message) == (level == 'WARNING')


def test_a_network_with_a_crf_rnn():
  assert jax.device_count() == 8
  refined = models.create('dilation8', 3, crf='rnn', width=1 / 16, remat=True)
  assert memory.predict(config(), refined, (16, 16)).total > 0
