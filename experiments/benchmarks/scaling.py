"""Past this machine: what limits training on many devices, and what the paper's runs cost there.

The model is simple. A device computes at a share of its published peak, or as fast as its memory
gives what layers must read and write, whichever takes longer. The share is that of a training step
that is measured here, or given. All-reduces are rings: each device sends 2 (n - 1) / n of the bytes
in 2 (n - 1) messages. How many bytes are sent is read from compiled programs. Either nothing of
that is hidden behind the computation, or all that can be; both are told.
"""

from collections.abc import Iterator
import math
from typing import Any, NamedTuple

from absl import flags

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.nn import costs
from dilated_jax.nn.geometry import output_sizes

from .. import flag_files, networks, train as train_command
from . import collectives, peaks, train


class Device(NamedTuple):
  """Published figures of a device.

  Attributes:
    tflops: of matrix products in bfloat16, dense.
    memory: GB/s of its memory.
    link: GB/s that it can send to others of its island, over all links, in one direction.
    island: devices that such links join.
    network: GB/s that it can send beyond.
    latency: microseconds of a message, as an order of magnitude.
  """

  tflops: float
  memory: float
  link: float
  island: int
  network: float
  latency: float


# NVIDIA's data sheets of H100 (SXM), H200 and DGX H100: NVLink 900 GB/s, both directions together;
# a network adapter of 400 Gb/s for each GPU. Google Cloud's pages of TPU v4, v5e and v5p: 600, 400
# and 1200 GB/s, both directions and all links together; 50 Gb/s of network for a chip of v5p, taken
# for all; a pod is one island. A hop between TPUs takes about a microsecond ("How to Scale Your
# Model", jax-ml.github.io/scaling-book); the latency of GPUs is an assumption.
DEVICES = {
  'h100': Device(989, 3350, 450, 8, 50, 3),
  'h200': Device(989, 4800, 450, 8, 50, 3),
  'v4': Device(275, 1228, 300, 4096, 6, 1),
  'v5e': Device(197, 819, 200, 256, 6, 1),
  'v5p': Device(459, 2765, 600, 8960, 6, 1),
}

COUNTS = (8, 64, 256)
# The presets of the paper's runs, in the order in which a data set's are run.
RUNS = {
  'VOC': ('voc_coco_front_end_1', 'voc_coco_front_end_2', 'voc_context_large'),
  'CamVid': ('camvid',),
  'KITTI': ('kitti',),
  'Cityscapes': ('cityscapes',),
}
# Of these stages the paper does not state the number of steps; they are those of the presets.
UNSTATED = {('voc_context_large', 'context'), ('camvid', 'joint')}
# Largest images, where a stage is not fed crops.
_IMAGES = {'voc': (500, 500), 'cityscapes': (1024, 2048)}


class Work(NamedTuple):
  """A stage of one of the paper's runs.

  Attributes:
    data: whose run it is, as a heading.
    preset: its flag file.
    stage: its name.
    steps, batch: as the preset has them.
    model, options: the network.
    size: labeled area; of the features in the stage context.
    flops: of a training step for one image.
    traffic: bytes that must be moved for one image, without weights.
    weights: bytes of the weights that are trained.
  """

  data: str
  preset: str
  stage: str
  steps: int
  batch: int
  model: str
  options: dict[str, Any]
  size: tuple[int, int]
  flops: int
  traffic: int
  weights: int


def run(values) -> Iterator[dict]:
  """The share of the peak, the collectives, weak scaling, and the paper's runs."""
  devices = {name: overridden(device_of(name), values) for name in values.scaling_devices}
  share = values.scaling_share
  if not share:
    measured = {}
    for row in (*peaks.run(values), *train.run(values, train.CASES[1:])):
      measured |= row
      yield row
    share = measured['gflops'] / measured['peak_gflops']
  yield {'what': f'{share:.2f} of their peaks is what devices are taken to reach'}
  works = list(paper_runs())
  sent = yield from compiled(works)
  yield from weak(works, devices, share, sent)
  yield from paper(works, devices, share, sent)


def device_of(name: str) -> Device:
  """The figures of a device.

  Raises:
    InputError: it is not in the table.
  """
  if name not in DEVICES:
    raise InputError(f'--scaling_devices={name}: choose among {", ".join(DEVICES)}')
  return DEVICES[name]


def overridden(device: Device, values) -> Device:
  """The device with the figures that flags give."""
  given = {
    'tflops': values.scaling_tflops, 'link': values.scaling_link,
    'latency': values.scaling_latency,
  }  # fmt: skip
  given['network'] = given['link']
  return device._replace(**{name: value for name, value in given.items() if value})


def paper_runs() -> Iterator[Work]:
  """The stages of the paper's runs, from the presets."""
  for data, presets in RUNS.items():
    for preset in presets:
      values = flags.FlagValues()
      train_command.define_flags(values)
      values(['train', *flag_files.expand([f'--flagfile=preset:paper/{preset}', '--workdir=none'])])
      classes = {'voc': 21, 'cityscapes': 19}.get(values.dataset, 11)
      options = networks.options(values)
      model = models.create(values.model, classes, **options)
      for config in train_command.stage_configs(values):
        size, channels = config.crop, 3
        table = model.front_end_table if config.stage == 'front_end' else model.table
        fed = tuple(side + 2 * model.margin for side in size)
        if config.stage == 'context':
          # On maps of whole images.
          image = _IMAGES[values.dataset]
          table, channels = model.context_table, classes
          fed = size = tuple(
            output_sizes(model.front_end_table, side + 2 * model.margin)[-1] for side in image
          )
        weights = costs.num_parameters(table, channels)
        yield Work(
          data, preset, config.stage, config.num_steps, config.batch_size, values.model, options,
          size, 3 * costs.flops(table, *fed, channels),
          3 * (costs.traffic_bytes(table, *fed, channels) - 4 * weights), 4 * weights,
        )  # fmt: skip


def compiled(works: list[Work]) -> Iterator[dict]:
  """What is sent in a step, for 8, 64 and 256 devices; returns {(preset, bands): operations}.

  Of the front end on crops of VOC and of Dilation10 on halves of Cityscapes pictures; of the other
  stages of one image a step with 4 devices only.
  """
  ways = {'pmap': ('pmap', 1), 'mesh': ('mesh', 1), 'mesh, 4 bands': ('mesh', 4)}
  first = works[0]
  single = [work for work in works if work.batch == 1]
  sent = {}
  for count in (4, *COUNTS):
    cases = [(work, 'mesh, 4 bands') for work in single]
    if count > 4:
      cases = [(first, way) for way in ways] + [(single[-1], 'mesh, 4 bands')]
    steps = [_step(work, *ways[way]) for work, way in cases]
    for (work, way), found in zip(cases, collectives.of_steps(count, steps), strict=True):
      sent.setdefault((work.preset, ways[way][1]), found)
      kinds = {
        'all-reduce': 'all_reduce_mib', 'collective-permute': 'rows_exchanged_mib',
        'all-gather': 'all_gather_mib',
      }  # fmt: skip
      other = {each['kind'] for each in found} - {*kinds}
      yield {
        'part': 'sent by a device in a step',
        'what': f'{_name(work)}, {way}, {count} devices',
        **{title: _bytes(found, kind) / 2**20 for kind, title in kinds.items()},
        'operations': len(found), 'others': ', '.join(sorted(other)) or 'none',
      }  # fmt: skip
  return sent


def _step(work: Work, parallelism: str, height: int) -> dict:
  """The arguments of `collectives.compiled_step`."""
  return {
    'model': work.model, 'options': work.options, 'stage': work.stage, 'size': work.size,
    'parallelism': parallelism, 'height': height,
  }  # fmt: skip


def weak(works, devices, share, sent) -> Iterator[dict]:
  """The front end of VOC, as many images a device as the paper's batch, and Dilation10 in bands."""
  names = {1: 'device', 4: '4 devices'}
  for work, bands in ((works[0], 1), (works[-1], 4)):
    for name, device in devices.items():
      for count in COUNTS:
        times = times_of(
          work, device, share, count // bands, bands, sent, count * work.batch // bands
        )
        alone, all_hidden = sum(times), max(times.compute, times.all_reduce + times.halo)
        yield {
          'part': f'weak scaling, batch {work.batch} for each {names[bands]}',
          'what': f'{_name(work)}, {count} {name}', 'compute_ms': times.compute,
          'all_reduce_ms': times.all_reduce, 'rows_ms': times.halo,
          'efficiency': f'{times.compute / alone:.0%} to {times.compute / all_hidden:.0%}',
          'limit': times.limit,
        }  # fmt: skip


def paper(works, devices, share, sent) -> Iterator[dict]:
  """Each stage on one device, and on as many as pay; then each data set as a whole.

  More devices pay as long as half of what they cost is gained: a speedup of at least half their
  number, nothing hidden. Devices divide the batch; where it is one image, 4 take a band each.
  """
  for name, device in devices.items():
    totals: dict[str, list[float]] = {}
    for work in works:
      one = sum(times_of(work, device, share, 1, 1, sent))
      choices = []
      for groups, bands in _divisions(work.batch):
        times = times_of(work, device, share, groups, bands, sent)
        if one / sum(times) >= groups * bands / 2:
          choices.append((groups * bands, times))
      count, times = max(choices, key=lambda choice: choice[0])
      hours = work.steps * sum(times) / 3.6e6
      total = totals.setdefault(work.data, [0, 0, 0])
      for index, more in enumerate((work.steps * one / 3.6e6, hours, hours * count)):
        total[index] += more
      most = count == max(groups * bands for groups, bands in _divisions(work.batch))
      yield {
        'part': f'the paper\'s runs on {name}', 'what': _name(work),
        'steps': f'{work.steps}{"*" if (work.preset, work.stage) in UNSTATED else ""}',
        'batch': work.batch, 'ms_a_step': one, 'hours': work.steps * one / 3.6e6,
        'devices_that_pay': count, 'hours_there': hours, 'device_hours_there': hours * count,
        'limit': 'the batch' if most else times.limit,
      }  # fmt: skip
    for data, (one, hours, cost) in totals.items():
      yield {
        'part': f'the paper\'s runs on {name}', 'what': f'{data}, all stages', 'hours': one,
        'hours_there': hours, 'device_hours_there': cost,
      }  # fmt: skip


def _divisions(batch: int) -> list[tuple[int, int]]:
  """Numbers of groups that divide a batch, and bands of an image."""
  if batch == 1:
    return [(1, 1), (1, 4)]
  return [(count, 1) for count in range(1, batch + 1) if batch % count == 0]


class Times(NamedTuple):
  """Milliseconds of a step."""

  compute: float
  all_reduce: float
  halo: float

  @property
  def limit(self) -> str:
    """What takes longest."""
    names = 'computation', 'all-reduce', 'rows of neighbors'
    return names[max(range(3), key=self.__getitem__)]


def times_of(
  work: Work, device: Device, share: float, groups: int, bands: int, sent, batch: int | None = None
) -> Times:
  """The time of a step.

  Args:
    work: what is trained.
    device: on which.
    share: of its peak.
    groups: that have a share of the batch each.
    bands: devices of a group.
    sent: {(preset, bands): operations of the compiled program}; read where there are bands.
    batch: images of all; by default that of the paper.
  """
  images = math.ceil((batch or work.batch) / groups)
  compute = max(
    work.flops * images / bands / (1e9 * device.tflops * share),
    (work.traffic * images / bands + 3 * work.weights) / (1e6 * device.memory),
  )
  reduce = ring(work.weights, groups, device, beyond=groups * bands > device.island)
  halo = 0.0
  if bands > 1:
    reduce += ring(work.weights, bands, device)
    moved = [each for each in sent[work.preset, bands] if each['kind'] != 'all-reduce']
    bytes_ = sum(each['bytes'] for each in moved)
    halo = images * bytes_ / (1e6 * device.link) + len(moved) * device.latency / 1000
  return Times(compute, reduce, halo)


def ring(size: int, count: int, device: Device, beyond: bool = False) -> float:
  """Milliseconds of an all-reduce of `size` bytes among `count` devices, in a ring."""
  rate = device.network if beyond else device.link
  return 2 * (count - 1) / count * size / (1e6 * rate) + 2 * (count - 1) * device.latency / 1000


def _bytes(found: list[dict], kind: str) -> int:
  """Of the operations of a kind."""
  return sum(each['bytes'] for each in found if each['kind'] == kind)


def _name(work: Work) -> str:
  """A stage as it is told."""
  return f'{work.preset}, {work.stage}, {work.size[0]}x{work.size[1]}'
