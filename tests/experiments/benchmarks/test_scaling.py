"""scaling: the figures of the paper's runs, and the arithmetic of the model."""

import pytest

from dilated_jax.errors import InputError
from dilated_jax.nn import costs, table as tables
from experiments import benchmark
from experiments.benchmarks import scaling
from experiments.benchmarks.scaling import Device
from tests import calling

DEVICE = Device(tflops=100, memory=1e9, link=10, island=8, network=1, latency=50)
# 2 MiB of gradients, and 1 MiB of rows in two messages.
SENT = [
  {'kind': 'all-reduce', 'bytes': 2**21},
  {'kind': 'collective-permute', 'bytes': 2**19},
  {'kind': 'all-gather', 'bytes': 2**19},
]


def test_the_runs_of_the_paper():
  works = {(work.preset, work.stage): work for work in scaling.paper_runs()}
  # Section 5 and Appendix A: steps and batch.
  assert {name: work[3:5] for name, work in works.items()} == {
    ('voc_coco_front_end_1', 'front_end'): (140_000, 14),
    ('voc_coco_front_end_2', 'front_end'): (50_000, 14),
    ('voc_context_large', 'context'): (40_000, 60),
    ('camvid', 'front_end'): (20_000, 8),
    ('camvid', 'joint'): (20_000, 1),
    ('kitti', 'front_end'): (10_000, 8),
    ('kitti', 'joint'): (20_000, 1),
    ('cityscapes', 'front_end'): (40_000, 8),
    ('cityscapes', 'context'): (24_000, 100),
    ('cityscapes', 'joint'): (60_000, 1),
  }
  front_end = tables.front_end(21)
  work = works['voc_coco_front_end_1', 'front_end']
  assert work.flops == 3 * costs.flops(front_end, 500, 500)
  assert work.weights == 4 * 134_346_581
  assert work.traffic == 3 * (costs.traffic_bytes(front_end, 500, 500) - work.weights)
  assert works['cityscapes', 'context'].size == (128, 256)
  assert works['voc_context_large', 'context'].weights == 4 * 6_803_139


def test_a_ring():
  """Of 8 devices, each sends 14 messages of an eighth."""
  milliseconds = 14 * (80e6 / 8 / 10e9 * 1e3 + 50e-3)
  assert scaling.ring(80_000_000, 8, DEVICE) == pytest.approx(milliseconds)
  assert scaling.ring(80_000_000, 1, DEVICE) == 0
  assert scaling.ring(8, 16, DEVICE, beyond=True) == pytest.approx(30 * (8 / 16 / 1e6 + 50e-3))


def test_times_of_a_step():
  work = scaling.Work(
    'VOC', 'a', 'joint', 10, 4, 'front_end', {}, (8, 8), int(1e12), int(1e6), int(8e7)
  )
  times = scaling.times_of(work, DEVICE, 0.5, 2, 1, {})
  assert times.compute == pytest.approx(2 * 1e12 / 50e12 * 1e3)  # Two of four images.
  assert times.all_reduce == pytest.approx(scaling.ring(80_000_000, 2, DEVICE))
  assert times.halo == 0 and times.limit == 'computation'
  # In four bands, their gradients added first, then those of the groups through the network.
  banded = scaling.times_of(work, DEVICE, 0.5, 4, 4, {('a', 4): SENT})
  assert banded.compute == pytest.approx(1e12 / 4 / 50e12 * 1e3)
  assert banded.all_reduce == pytest.approx(
    scaling.ring(80_000_000, 4, DEVICE) + scaling.ring(80_000_000, 4, DEVICE, beyond=True)
  )
  assert banded.halo == pytest.approx(2**20 / 10e6 + 2 * 50e-3) and banded.limit == 'all-reduce'
  # Memory that gives a byte a second is what limits.
  slow = DEVICE._replace(memory=1e-9)
  assert scaling.times_of(work, slow, 0.5, 4, 1, {}).compute == pytest.approx(1e3 * (1e6 + 3 * 8e7))


def test_the_suite(monkeypatch):
  asked = []

  def of_steps(devices, steps):
    asked.append((devices, len(steps)))
    return [SENT for _ in steps]

  monkeypatch.setattr(scaling.collectives, 'of_steps', of_steps)
  values = calling.parsed(
    benchmark, '--scaling_share=0.5', '--scaling_devices=v5e', '--scaling_tflops=100'
  )
  rows = list(scaling.run(values))
  assert rows[0]['what'].startswith('0.50 of their peaks')
  assert asked == [(4, 3), (8, 4), (64, 4), (256, 4)]
  sent = next(row for row in rows if 'operations' in row)
  assert (sent['all_reduce_mib'], sent['rows_exchanged_mib'], sent['all_gather_mib']) == (
    2,
    0.5,
    0.5,
  )
  whole = {row['what']: row for row in rows if row['what'].endswith('all stages')}
  parts = [row for row in rows if row['what'].startswith('cityscapes') and 'hours' in row]
  for column in ('hours', 'hours_there', 'device_hours_there'):
    wanted = sum(row[column] for row in parts)
    assert whole['Cityscapes, all stages'][column] == pytest.approx(wanted)
  one = next(row for row in parts if 'joint' in row['what'])
  work = list(scaling.paper_runs())[-1]
  assert one['ms_a_step'] == pytest.approx(work.flops / 50e9)  # Half of 100 TFLOP/s.
  assert one['hours'] == pytest.approx(60_000 * one['ms_a_step'] / 3.6e6)


def test_other_devices_are_refused():
  with pytest.raises(InputError, match='--scaling_devices=a100: choose among h100'):
    scaling.device_of('a100')
