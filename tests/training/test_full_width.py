"""The published width: 134 million weights, and one training step of them on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.nn import costs
from dilated_jax.training import loop, optimizers, stages, step as train_step
from dilated_jax.training.config import OptimizerOptions


@pytest.mark.slow
def test_dilation8_of_full_width(compile_fully):
  model = models.create('dilation8', 11)
  variables = loop.init_variables(model, seed=0)
  count = sum(x.size for x in jax.tree.leaves(variables['params']))
  assert count == costs.num_parameters(model.table) == 134_305_611 + 7_744 + 88

  rng = np.random.default_rng(0)
  side = 4 * model.stride + 2 * model.margin
  batch = {
    'image': rng.integers(0, 256, (1, side, side, 3)).astype(np.uint8),
    'label': rng.integers(0, 11, (1, 32, 32)).astype(np.uint8),
  }
  mean = (105.4, 108.8, 110.7)
  images = jax.ShapeDtypeStruct(batch['image'].shape, 'float32')
  logits = jax.eval_shape(model.apply, variables, images)
  assert logits.shape == (1, 4, 4, 11) and logits.dtype == jnp.float32

  options = OptimizerOptions('caffe', 1e-5, momentum=0.9)
  optimizer = optimizers.create(options, 10)
  stage = stages.STAGES['joint']
  state = train_step.create_state(variables, stage, optimizer, jax.random.key(0))
  step = jax.jit(train_step.make_step(model, stage, optimizer, mean), donate_argnums=0)
  state, metrics = step(state, batch)
  # Class scores start at almost nothing, so the first loss is that of guessing.
  assert float(metrics['loss']) == pytest.approx(np.log(11), abs=0.3)
  assert int(state.step) == 1
  before, after = (
    tree['context']['ctx_final']['bias'] for tree in (variables['params'], state.params)
  )
  assert np.isfinite(after).all() and (np.asarray(before) != np.asarray(after)).any()
