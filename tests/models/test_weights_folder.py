"""checkpoints.py: what is saved comes back, and what is damaged is named in one line."""

import dataclasses
import gc
import json
import pathlib
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dilated_jax
from dilated_jax.errors import InputError
from dilated_jax.models import stored_arrays, weights_folder
from dilated_jax.models.spec import ModelSpec
from dilated_jax.training import checkpoints, optimizers, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions

# Where one of Orbax's reads fails, the others are never awaited, or find their event loop closed.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')

OPTIONS = {
  'blocks': [1],
  'width': 1 / 16,
  'stride': 2,
  'fc_kernel': 3,
  'fc_channels': 4,
  'dilations': [1, 2, 1],
}
SPEC = ModelSpec(
  'dilation8', OPTIONS, ('a', 'b', 'c'), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), (10.0, 20.0, 30.5),
  image_scale=0.5, upsampling='deconvolution', dataset='toys',
)  # fmt: skip


def started(spec=SPEC, seed=0):
  model, rng = spec.create(), np.random.default_rng(seed)
  shapes = weights_folder.abstract_variables(model)
  return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape, np.float32)), shapes)


def assert_equal(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def state_of(step):
  optimizer = optimizers.create(OptimizerOptions(), 10)
  variables = started(seed=step)
  state = train_step.create_state(variables, stages.STAGES['joint'], optimizer, jax.random.key(3))
  return state.replace(step=jnp.int32(step))


@pytest.fixture(autouse=True, scope='module')
def leave_nothing_behind():
  yield
  time.sleep(0.3)
  gc.collect()


def as_numbers(state):
  return state.replace(key=jax.random.key_data(state.key))


def test_latest_and_best_are_kept(tmp_path):
  scores = [0.2, 0.7, 0.4, 0.1]
  with checkpoints.manager(tmp_path / 'run') as manager:
    for step, score in enumerate(scores, 1):
      checkpoints.save(manager, step, state_of(step), score)
      checkpoints.save(manager, step, state_of(step), score)  # A second time is no error.
    manager.wait_until_finished()
  with checkpoints.manager(tmp_path / 'run') as manager:
    assert (manager.latest_step(), manager.best_step()) == (4, 2)
    assert sorted(manager.all_steps()) == [2, 4]
    for step in (2, 4):
      found = checkpoints.restore(manager, step, state_of(0))
      assert found.key.dtype == state_of(0).key.dtype
      assert_equal(as_numbers(found), as_numbers(state_of(step)))


def test_what_is_half_removed_is_no_checkpoint(tmp_path, monkeypatch):
  with monkeypatch.context() as killed, checkpoints.manager(tmp_path) as manager:
    killed.setattr(checkpoints.temporary, 'remove', lambda path: None)
    for step, score in ((1, 0.1), (2, 0.2)):
      checkpoints.save(manager, step, state_of(step), score)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['.removed', '2']
  assert [path.name for path in (tmp_path / '.removed').iterdir()] == ['1']
  with checkpoints.manager(tmp_path) as manager:
    assert manager.all_steps() == [2]
  assert [path.name for path in tmp_path.iterdir()] == ['2']


def test_whose_turn_to_be_removed_had_come_is_removed(tmp_path, monkeypatch):
  with monkeypatch.context() as killed, checkpoints.manager(tmp_path) as manager:
    killed.setattr(manager._checkpoint_deleter, 'delete_steps', lambda steps: None)
    for step, score in ((1, 0.1), (2, 0.3), (3, 0.2), (4, 0.2)):
      checkpoints.save(manager, step, state_of(step), score)
  assert {path.name for path in tmp_path.iterdir()} == {'1', '2', '3', '4'}
  with checkpoints.manager(tmp_path) as manager:
    assert sorted(manager.all_steps()) == [2, 4]
  assert {path.name for path in tmp_path.iterdir()} == {'2', '4'}


def test_checkpoint_of_another_network(tmp_path):
  with checkpoints.manager(tmp_path) as manager:
    checkpoints.save(manager, 1, state_of(1), 0.5)
    manager.wait_until_finished()
    like = state_of(0)
    like = like.replace(params=jax.tree.map(lambda x: jnp.zeros((*x.shape, 2)), like.params))
    with pytest.raises(InputError, match='/1: this checkpoint is damaged or of another') as raised:
      checkpoints.restore(manager, 1, like)
    assert '\n' not in str(raised.value)
    shutil.rmtree(tmp_path / '1')
    with pytest.raises(FileNotFoundError, match=f"No such file .*'{tmp_path}/1'"):
      checkpoints.restore(manager, 1, state_of(1))


def test_weights_come_back(tmp_path):
  variables = started()
  weights_folder.save_weights(tmp_path / 'deep/weights', SPEC, variables)
  _, found, spec = weights_folder.load_weights(str(tmp_path / 'deep/weights'))
  assert spec == SPEC
  assert_equal(found, variables)
  model, found, _ = dilated_jax.load(tmp_path / 'deep/weights')
  assert model == SPEC.create()
  assert_equal(found, variables)
  written = json.loads((tmp_path / 'deep/weights/model.json').read_text())
  assert set(written) == {field.name for field in dataclasses.fields(ModelSpec)}
  assert (written['model'], written['channel_order'], written['classes']) == (
    'dilation8',
    'RGB',
    ['a', 'b', 'c'],
  )
  assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['weights']


def test_weights_are_written_in_pieces(tmp_path, monkeypatch):
  monkeypatch.setattr(stored_arrays, '_PIECE', 300)
  variables, released = started(), []
  folder = tmp_path / 'my #1 at 100% ü'
  weights_folder.save_weights(folder, SPEC, variables, lambda: released.append(1))
  assert len(released) > 3
  found = weights_folder.load_weights(folder).variables
  jax.tree.map(
    lambda one, other: np.testing.assert_array_equal(
      one, other, 'Orbax no longer lays checkpoints out as stored_arrays.write fills them in'
    ),
    found,
    variables,
  )


def test_weights_are_replaced_whole(tmp_path, monkeypatch):
  folder = tmp_path / 'weights'
  old, new = started(seed=1), started(seed=2)
  weights_folder.save_weights(folder, SPEC, old)

  def full_disk(path, content):
    raise OSError(28, 'No space left on device', str(path))

  with monkeypatch.context() as patch:
    patch.setattr(weights_folder, 'write_atomic', full_disk)
    with pytest.raises(OSError, match='No space'):
      weights_folder.save_weights(folder, dataclasses.replace(SPEC, dataset='new'), new)
  _, found, spec = weights_folder.load_weights(folder)
  assert spec == SPEC
  assert_equal(found, old)

  weights_folder.save_weights(folder, dataclasses.replace(SPEC, dataset='new'), new)
  _, found, spec = weights_folder.load_weights(folder)
  assert spec.dataset == 'new'
  assert_equal(found, new)
  assert [path.name for path in tmp_path.iterdir()] == ['weights']


def test_a_folder_of_something_else_is_left_alone(tmp_path):
  (tmp_path / 'thesis.tex').write_text('all of it')
  with pytest.raises(InputError, match='holds other files than weights'):
    weights_folder.save_weights(tmp_path, SPEC, started())
  assert (tmp_path / 'thesis.tex').read_text() == 'all of it'


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights') / 'weights'
  weights_folder.save_weights(folder, SPEC, started())
  return folder


def copied(written, folder):
  for path in written.rglob('*'):
    if path.is_file():
      target = folder / path.relative_to(written)
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(path.read_bytes())
  return folder


def edited(folder, **changes):
  content = json.loads((folder / 'model.json').read_text())
  (folder / 'model.json').write_text(json.dumps({**content, **changes}))


def no_card(folder):
  (folder / 'model.json').unlink()


def garbage(folder):
  (folder / 'model.json').write_bytes(b'\x89PNG\xff\xfe')


def no_checkpoint(folder):
  (folder / 'checkpoint').rename(folder / 'elsewhere')


def largest_file(folder):
  files = (folder / 'checkpoint/d').iterdir()
  return max(files, key=lambda path: path.stat().st_size)


def truncated(folder):
  path = largest_file(folder)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(folder):
  path = largest_file(folder)
  path.write_bytes(bytes(path.stat().st_size))


def emptied(folder):
  for path in (folder / 'checkpoint').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')


@pytest.mark.parametrize(
  'harm, words',
  [
    (no_card, 'is not a weights folder .it has no model.json.'),
    (garbage, 'model.json: not a description of weights'),
    (lambda f: (f / 'model.json').write_text('[1, 2]'), 'model.json: not a description'),
    (lambda f: (f / 'model.json').write_text('{"model": "x"}'), 'model.json: not a description'),
    (lambda f: edited(f, taste='sweet'), 'model.json: not a description'),
    (lambda f: edited(f, options={'wings': 2}), 'wings'),
    (lambda f: edited(f, options=None), 'model.json'),
    (lambda f: edited(f, options={'blocks': 'many'}), 'model.json'),
    (lambda f: edited(f, options={'width': 'wide'}), 'model.json'),
    (lambda f: edited(f, model='resnet'), 'resnet'),
    (lambda f: edited(f, options={**OPTIONS, 'width': 1 / 8}), '/checkpoint: these weights are'),
    (lambda f: edited(f, classes=['a', 'b']), '2 classes and 3 colors'),
    (lambda f: edited(f, channel_order='BGR'), "is 'BGR', not RGB"),
    (lambda f: edited(f, upsampling='cubic'), "is 'cubic', none of corner"),
    (lambda f: edited(f, image_scale=0), 'image_scale is 0'),
    (lambda f: edited(f, options={**OPTIONS, 'dilations': [1, 2, 1, 1]}), '/checkpoint: these'),
    (no_checkpoint, '/checkpoint: these weights are damaged'),
    (truncated, '/checkpoint: these weights are damaged'),
    (overwritten, '/checkpoint: these weights are damaged'),
    (emptied, '/checkpoint: these weights are damaged'),
  ],
)  # fmt: skip
def test_damaged_weights_are_named_in_one_line(written, tmp_path, harm, words):
  folder = copied(written, tmp_path / 'weights')
  (folder / 'checksums.json').unlink()  # As in folders of older versions.
  harm(folder)
  with pytest.raises(InputError, match=words) as raised:
    weights_folder.load_weights(folder)
  assert '\n' not in str(raised.value) and str(folder) in str(raised.value)


@pytest.mark.parametrize('harm', [garbage, truncated, overwritten, emptied, no_checkpoint])
def test_checksums_name_the_damaged_file(written, tmp_path, harm):
  folder = copied(written, tmp_path / 'weights')
  harm(folder)
  with pytest.raises(InputError, match=r'(is damaged: not as it was written|is missing); copy'):
    weights_folder.load_weights(folder)


def test_a_folder_whose_replacement_was_killed_is_read(written, tmp_path):
  copied(written, tmp_path / '.weights.dilated_jax-complete')
  assert weights_folder.load_weights(tmp_path / 'weights').spec


def test_no_folder():
  with pytest.raises(InputError, match='/nowhere: is not a weights folder'):
    weights_folder.load_weights(pathlib.Path('/nowhere'))
