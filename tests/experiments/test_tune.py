"""tune: from flags to the flags of the best trial, and what it refuses."""

import jax
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import ModelSpec
from experiments import evaluate, tune
from tests import calling


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A data set of few pictures, and a network that was drawn, not trained."""
  folder = tmp_path_factory.mktemp('tune')
  data.prepare('scenes', folder / 'data', counts={'train': 1, 'val': 2, 'test': 1})
  classes = data.classes('scenes')
  options = {'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}
  spec = ModelSpec(
    'front_end', options, classes.names, classes.palette, classes.mean, dataset='scenes'
  )
  rng, model = np.random.default_rng(0), spec.create()
  side = 2 * model.margin + 2
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  )
  drawn = jax.tree.map(lambda x: 0.1 * rng.standard_normal(x.shape, np.float32), shapes)
  weights_folder.save_weights(folder / 'weights', spec, drawn)
  return folder


@pytest.mark.parametrize(
  'passes, smoothness', [((), '3'), (('--scales=1,0.5', '--flip'), '0,1')], ids=['one', 'four']
)
def test_from_flags_to_flags(trained, passes, smoothness, capsys, tmp_path):
  common = [f'--weights={trained}/weights', f'--data_dir={trained}/data']
  grid = ['--sxy=20', '--srgb=5,20', '--compat=2', '--iterations=1,2']
  grid.append(f'--gaussian_compat={smoothness}')
  calling.run(tune, *common, f'--output={tmp_path}/tuned', *passes, *grid)
  out = capsys.readouterr().out
  table = (tmp_path / 'tuned/table.md').read_text()
  assert 'network alone' in table and ('none' in table) == ('0' in smoothness)
  assert 'the best dense CRF changes mean IoU by' in out and 'scenes val, 2 pictures' in out
  found = tmp_path / 'tuned/best.flags'
  # What it found out is what evaluate makes of it.
  values = calling.parsed(evaluate, *common, '--split=val', f'--flagfile={found}')
  assert values.crf == 'dense' and values.flip == bool(passes)
  scores, *_ = evaluate.from_weights(values)
  best = next(line for line in table.splitlines() if '20,' in line)
  assert f'{100 * scores["mean_iou"]:.2f}' in best


@pytest.mark.parametrize(
  'arguments, words',
  [
    (['--split=test'], '--split=test: choose by val'),
    (['--sxy=0'], '--sxy=0: must be above 0'),
    (['--iterations=0'], '--iterations=0: must be 1 or more'),
    (['--compat='], '--compat names no value'),
    (['--compat=-1'], '--compat=-1: must be 0 or more'),
    (['--gaussian_compat=0', '--compat=0'], 'leaves no CRF to try'),
    (['--weights=/nowhere'], 'is not a weights folder'),
  ],
)
def test_wrong_flags(tmp_path, arguments, words):
  with pytest.raises(InputError, match=words):
    calling.run(tune, '--weights=w', f'--output={tmp_path}/out', *arguments)
  assert not (tmp_path / 'out').exists()
