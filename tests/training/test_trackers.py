"""trackers.py: each tracker's own files hold what a run told, in both parts of a run."""

import importlib.util
import io
import json
import os
import struct
import threading

import numpy as np
import PIL.Image
import pytest

from dilated_jax.errors import InputError
from dilated_jax.training import run_logger, trackers

PARAMETERS = {'dataset': 'scenes', 'context': {'optimizer': {'learning_rate': 0.5}, 'crop': (4, 8)}}
IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
# By step, what both parts of a run tell. The class has a name that MLflow would refuse.
LOSS = {1: 2.5, 2: 1.25, 3: 0.5}


@pytest.fixture(autouse=True)
def without_settings(monkeypatch):
  """As for a user who has set up nothing; what trackers set is taken back."""
  for name in ('WANDB_MODE', 'WANDB_ERROR_REPORTING', 'WANDB_SILENT', 'MLFLOW_TRACKING_URI',
               'MLFLOW_DISABLE_TELEMETRY'):  # fmt: skip
    monkeypatch.setenv(name, '')
    monkeypatch.delenv(name)


def run(workdir, name, steps, *, cut=False):
  """A part of a run, which ends as it should or is cut."""
  try:
    with trackers.Writers(workdir, [name], PARAMETERS) as writers:
      logger = run_logger.RunLogger(writers, 'context', 3)
      for step in steps:
        logger(step, loss=LOSS[step])
        logger.details(step, val_per_class_iou={'hard (shoulder)!': step / 4, 'train': None})
      assert logger.takes_images
      logger.image(steps[-1], 'val', IMAGE)
      if cut:
        raise KeyboardInterrupt
  except KeyboardInterrupt:
    pass


def records(path):
  """The records of TensorFlow's files: length, checksum, bytes, checksum."""
  content = io.BytesIO(path.read_bytes())
  while head := content.read(12):
    yield content.read(struct.unpack('<Q', head[:8])[0])
    content.read(4)


def test_tensorboard(tmp_path):
  from tensorboardX.proto import event_pb2

  run(tmp_path, 'tensorboard', [1, 2], cut=True)
  (part,) = (tmp_path / 'tensorboard').iterdir()
  part.rename(part.with_name('earlier'))  # Names hold seconds.
  run(tmp_path, 'tensorboard', [3])
  numbers, images, texts = {}, [], []
  for path in sorted((tmp_path / 'tensorboard').iterdir()):
    for record in records(path):
      event = event_pb2.Event.FromString(record)
      for value in event.summary.value:
        if value.HasField('image'):
          encoded = io.BytesIO(value.image.encoded_image_string)
          images.append((value.tag, event.step, PIL.Image.open(encoded)))
        elif value.HasField('simple_value'):
          numbers[value.tag, event.step] = value.simple_value
        else:
          texts.append(value.tensor.string_val[0].decode())
  iou = 'context/val_per_class_iou/hard__shoulder__'  # As tensorboardX writes names.
  assert numbers.pop(('context/loss', 2)) == 1.25 and numbers.pop((iou, 3)) == 0.75
  assert len(numbers) == 4
  assert [(tag, step) for tag, step, _ in images] == [('context/val', 2), ('context/val', 3)]
  assert all((np.asarray(image) == IMAGE).all() for _, _, image in images)
  assert 'context/optimizer/learning_rate: 0.5' in texts[0]


def wandb_records(path):
  """The records of a .wandb file, a log of LevelDB: blocks of 32 KiB of pieces with a head each."""
  from wandb.proto import wandb_internal_pb2

  content, at, whole = path.read_bytes(), 7, b''
  while at < len(content):
    if (left := -at % 32768) and left < 7:
      at += left
      continue
    _, length, kind = struct.unpack('<IHB', content[at : at + 7])
    whole += content[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):  # The only piece, or the last one.
      yield wandb_internal_pb2.Record.FromString(whole)
      whole = b''


def test_weights_and_biases_offline(tmp_path):
  run(tmp_path, 'wandb', [1, 2], cut=True)
  run(tmp_path, 'wandb', [3])
  import wandb

  wandb.teardown()  # Its own process has written all.
  parts = sorted(
    (tmp_path / 'wandb').glob('offline-run-*/*.wandb'), key=lambda p: p.stat().st_mtime
  )
  assert len(parts) == 2
  ids, rows, config, exits, axes = set(), [], {}, [], set()
  for path in parts:
    for record in wandb_records(path):
      if record.HasField('run'):
        ids.add(record.run.run_id)
        config |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
        assert record.run.project == 'dilated_jax'
      elif record.HasField('history'):
        items = record.history.item
        rows.append({'/'.join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
      elif record.HasField('exit'):
        exits.append(record.exit.exit_code)
      elif record.HasField('metric'):
        axes.add((record.metric.glob_name, record.metric.step_metric))
  assert ids == {json.loads((tmp_path / 'trackers.json').read_text())['wandb']}
  losses = {r['context/step']: r['context/loss'] for r in rows if 'context/loss' in r}
  iou = 'context/val_per_class_iou/hard (shoulder)!'
  scores = {r['context/step']: r[iou] for r in rows if iou in r}
  assert [row['_step'] for row in rows] == sorted({row['_step'] for row in rows})
  assert losses == LOSS and scores == {1: 0.25, 2: 0.5, 3: 0.75}
  assert ('context/*', 'context/step') in axes and exits == [1, 0]
  assert config['context'] == {'optimizer': {'learning_rate': 0.5}, 'crop': [4, 8]}
  images = list((tmp_path / 'wandb').glob('offline-run-*/files/media/images/context/*.png'))
  assert len(images) == 2 and (np.asarray(PIL.Image.open(images[0])) == IMAGE).all()


def test_mlflow_in_the_workdir(tmp_path):
  run(tmp_path, 'mlflow', [1, 2], cut=True)
  kept = json.loads((tmp_path / 'trackers.json').read_text())['mlflow']
  from mlflow import MlflowClient

  client = MlflowClient(f'sqlite:///{tmp_path}/mlflow.db')
  assert client.get_run(kept).info.status == 'KILLED'
  run(tmp_path, 'mlflow', [2, 3])  # Step 2 was lost, and is done again.
  (experiment,) = [e for e in client.search_experiments() if e.name == 'dilated_jax']
  (found,) = client.search_runs([experiment.experiment_id])
  assert (found.info.run_id, found.info.status) == (kept, 'FINISHED')
  assert found.info.run_name == tmp_path.name
  assert found.data.params == {
    'dataset': 'scenes', 'context/optimizer/learning_rate': '0.5', 'context/crop': '(4, 8)',
  }  # fmt: skip
  history = client.get_metric_history(kept, 'context/loss')
  assert {metric.step: metric.value for metric in history} == LOSS
  iou = 'context/val_per_class_iou/hard _shoulder__'
  assert [metric.value for metric in client.get_metric_history(kept, iou)][-1] == 0.75
  images = list(tmp_path.glob('mlflow_artifacts/*/artifacts/images/*.png'))
  assert len(images) == 2 and (np.asarray(PIL.Image.open(images[0])) == IMAGE).all()


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
  class Broken:
    def __init__(self, workdir, parameters):
      pass

    def write(self, *_):
      raise ConnectionError('the server is gone')

    def close(self, finished):
      raise AssertionError('it is left out')

  monkeypatch.setitem(trackers.TRACKERS, 'mlflow', Broken)
  monkeypatch.setattr(trackers, 'check', lambda names: None)
  with trackers.Writers(tmp_path, ['mlflow']) as writers:
    for step in (1, 2):
      writers.write('context', step, {'loss': 0.5})
  assert caplog.text.count('Broken is left out from here on: the server is gone') == 1
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [1, 2]


def test_tensorboard_on_a_full_disk_is_left_and_not_waited_for(tmp_path, monkeypatch):
  board = trackers.TensorBoard(tmp_path, {})
  writer = board._board.file_writer.event_writer
  thread, file = writer._worker, writer._ev_writer._py_recordio_writer._writer
  with open('/dev/full', 'wb') as full:
    os.dup2(full.fileno(), file.fileno())
  monkeypatch.setattr(threading, 'excepthook', lambda _: None)
  thread._next_flush_time = 0
  board.write('context', 1, {'loss': 0.5})
  thread.join(10)
  with pytest.raises(OSError, match='can not be written'):
    board.write('context', 2, {'loss': 0.5})
  assert file.closed
  writer.close()  # As at the end of the process.


def test_a_tracker_that_can_not_begin_ends_the_run(tmp_path, monkeypatch):
  def refuse(workdir, parameters):
    raise RuntimeError('no permission.\nAsk someone.')

  monkeypatch.setitem(trackers.TRACKERS, 'wandb', refuse)
  with pytest.raises(InputError, match=r'`trackers`: wandb can not begin: no permission\.$'):
    trackers.Writers(tmp_path, ['wandb'])


@pytest.mark.parametrize('name', ['tensorboard', 'wandb', 'mlflow'])
def test_a_missing_package_is_told_with_its_extra(name, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda package: None)
  with pytest.raises(InputError, match=rf"`trackers` has {name}, .*'dilated_jax\[{name}\]'$"):
    trackers.check([name])
  assert trackers.default() == ()


def test_a_tracker_that_there_is_not():
  with pytest.raises(InputError, match="`trackers` has 'comet'; choose among tensorboard, wandb"):
    trackers.check(['comet'])
