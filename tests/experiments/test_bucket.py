"""bucket.py: a run in a bucket, which a program on this machine plays."""

import http
import json
import re
import shutil
import urllib.error
import urllib.request

from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
import jax
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from experiments import bucket, train
from tests import calling, several_processes

# Orbax says so when a checkpoint is read without being told for which devices.
pytestmark = pytest.mark.filterwarnings('ignore:Sharding info not provided:UserWarning')


@pytest.fixture(scope='module')
def storage():
  """The address of a storage server with an empty bucket, and what it holds by name."""
  port = several_processes.free_port()
  download = objects.download

  def with_generation(request, response, storage, *arguments, **options):
    """As the real storage does, and as TensorStore needs it to look again at what it has read."""
    names = request.params['bucket_name'], request.params['object_id']
    try:
      response['x-goog-generation'] = storage.get_file_obj(*names)['generation']
    except NotFound:  # Though another request may write it at this moment.
      response.status = http.HTTPStatus.NOT_FOUND
    else:
      download(request, response, storage, *arguments, **options)

  for _, methods in emulator.HANDLERS:
    for method, handler in methods.items():
      methods[method] = with_generation if handler is download else handler
  read = emulator._read_data

  def read_bytes(handler, query):
    """All bytes that gcsfs puts there: the emulator reads a mail, and drops a return at its end."""
    kind = handler.headers.get('Content-Type') or ''
    if not kind.startswith('multipart/related'):
      return read(handler, query)
    boundary = re.search('boundary="?([^";]+)', kind)[1].encode()
    raw = emulator._decode_raw_data(emulator._read_raw_data(handler), handler)
    _, about, content, _ = raw.split(b'--' + boundary)
    (_, about), (head, content) = (part.split(b'\n\n', 1) for part in (about, content))
    given = head.split()[-1].decode()
    return {'meta': json.loads(about), 'content': content[:-1], 'content-type': given}

  address = f'http://localhost:{port}'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(objects, 'download', with_generation)  # Which `get` calls for TensorStore.
    patch.setattr(emulator, '_read_data', read_bytes)
    server = emulator.create_server('localhost', port, in_memory=True, default_bucket='bucket')
    server.start()
    patch.setenv('STORAGE_EMULATOR_HOST', address)  # Of gcsfs.
    patch.setenv('TENSORSTORE_GCS_HTTP_URL', address)
    patch.setenv('NO_GCE_CHECK', 'true')  # Nobody looks for an account.
    yield address
    server.stop()


def test_the_storage_tells_generations(storage):
  """Without them TensorStore reports a malformed one where it writes again what it has read."""
  bucket_address = f'{storage}/storage/v1/b/bucket/o'
  put = urllib.request.Request(
    f'{storage}/upload/storage/v1/b/bucket/o?uploadType=media&name=one', b'1', method='POST'
  )
  with urllib.request.urlopen(put) as response:
    written = json.load(response)['generation']
  with urllib.request.urlopen(f'{bucket_address}/one?alt=media') as response:
    assert response.headers['x-goog-generation'] == written and response.read() == b'1'
  with pytest.raises(urllib.error.HTTPError, match='404'):
    urllib.request.urlopen(f'{bucket_address}/two?alt=media')


def fetched(address, process=0):
  copy = bucket.Copy(address, process)
  copy.fetch()
  return copy


@pytest.fixture
def cache(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


def test_a_run_in_a_bucket_is_cut_and_goes_on(storage, cache, tmp_path, monkeypatch, capsys):
  data.prepare('scenes', tmp_path / 'data', counts={'train': 4, 'val': 2, 'test': 2})
  options = [
    f'--data_dir={tmp_path}/data', '--model=front_end', '--blocks=1', '--width=0.0625',
    '--stride=2', '--fc_kernel=3', '--fc_channels=4', '--batch_size=2', '--crop=16x32',
    '--num_steps=4', '--eval_every=2', '--log_every=1', '--image_scale=0.5', '--trackers=',
  ]  # fmt: skip
  calling.run(train, *options, f'--workdir={tmp_path}/here')

  carry, calls = bucket.Copy.carry_back, []

  def cut(copy):
    carry(copy)
    calls.append(copy)
    if len(calls) == 1:
      raise KeyboardInterrupt

  at = 'gs://bucket/runs/first'
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(bucket.Copy, 'carry_back', cut)
    calling.run(train, *options, f'--workdir={at}')
  shutil.rmtree(cache)  # It goes on from another machine.
  with pytest.raises(InputError, match='num_steps is 9 and was 4'):
    calling.run(train, *options, f'--workdir={at}', '--num_steps=9')
  calling.run(train, *options, f'--workdir={at}')
  assert f'weights: {at}/weights' in capsys.readouterr().out

  shutil.rmtree(cache)
  copy = fetched(at).folder
  assert {path.name for path in copy.iterdir()} == {
    path.name for path in (tmp_path / 'here').iterdir()
  }
  assert not list(copy.glob('*/checkpoints'))
  lines = [
    [{k: v for k, v in json.loads(line).items() if k not in ('steps_per_second', 'waiting')}
     for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    for folder in (copy, tmp_path / 'here')
  ]  # fmt: skip
  assert lines[0] == lines[1]
  for name in ('weights', 'weights_last'):
    one, other = (weights_folder.load_weights(f / name)[1] for f in (copy, tmp_path / 'here'))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_files_that_change_and_go_are_carried_back(storage, cache):
  copy = fetched('gs://bucket/files')
  for name in ('a.txt', 'weights/model.json', 'weights/d/array', '.half', 'context/features/map'):
    (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (copy.folder / name).write_text(name)
  copy.carry_back()
  (copy.folder / 'a.txt').unlink()
  (copy.folder / 'weights/d/array').write_bytes(b'other\r')
  copy.carry_back()
  other = fetched('gs://bucket/files/', 1).folder
  found = {
    p.relative_to(other).as_posix(): p.read_bytes().decode()
    for p in other.rglob('*')
    if p.is_file()
  }
  assert found == {'weights/model.json': 'weights/model.json', 'weights/d/array': 'other\r'}


@pytest.mark.parametrize('address, words', [
  ('s3://bucket/run', r'--workdir=s3://bucket/run: give a folder, or gs://BUCKET/FOLDER'),
  ('gs://bucket', 'give a folder, or gs://BUCKET/FOLDER'),
])  # fmt: skip
def test_addresses_that_are_no_folder_of_a_bucket(address, words):
  with pytest.raises(InputError, match=words):
    bucket.is_in_bucket(address)


def test_a_bucket_that_there_is_not(storage, cache):
  with pytest.raises(InputError, match=r'--workdir=gs://other/run: can not be read: .*other'):
    fetched('gs://other/run')


def test_without_the_package(monkeypatch):
  monkeypatch.setattr(bucket.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(InputError, match=r"read by gcsfs: pip install 'dilated_jax\[gcs\]'"):
    bucket.is_in_bucket('gs://bucket/run')
