"""Optimizers of the paper's time and of ours, as chains of optax transformations."""

import jax
import optax

from dilated_jax.training.config import OptimizerOptions


def schedule(options: OptimizerOptions, num_steps: int) -> optax.Schedule:
  """The learning rate as a function of the step.

  Args:
    options: see `OptimizerOptions`.
    num_steps: steps of the whole run, warm-up included.

  Returns:
    A function step -> rate.
  """
  rate, steps = options.learning_rate, max(num_steps - options.warmup_steps, 1)
  if options.schedule == 'constant':
    after = optax.constant_schedule(rate)
  elif options.schedule == 'step':
    after = optax.exponential_decay(rate, options.step_size, options.gamma, staircase=True)
  elif options.schedule == 'poly':
    after = optax.polynomial_schedule(rate, 0.0, options.power, steps)
  else:
    after = optax.cosine_decay_schedule(rate, steps)
  if not options.warmup_steps:
    return after
  return optax.join_schedules(
    [optax.linear_schedule(0.0, rate, options.warmup_steps), after], [options.warmup_steps]
  )


def create(options: OptimizerOptions, num_steps: int) -> optax.GradientTransformation:
  """Makes the optimizer.

  Args:
    options: see `OptimizerOptions`.
    num_steps: steps of the whole run, for the schedule.

  Returns:
    An optax transformation whose updates are added to the weights.
  """
  rate = schedule(options, num_steps)
  decay = optax.add_decayed_weights(options.weight_decay, mask=_named('kernel'))
  bias = optax.masked(optax.scale(options.bias_lr_multiplier), _named('bias'))
  scale = optax.scale_by_schedule(rate)
  momentum = optax.trace(options.momentum)
  chains = {
    # Caffe, sgd_solver.cpp: v <- m v + local_rate (g + decay w); w <- w - v.
    'caffe': (decay, bias, scale, momentum),
    'sgd': (decay, bias, momentum, scale),
    'adamw': (optax.scale_by_adam(), decay, bias, scale),
  }
  grad_clip_norm = (
    (optax.clip_by_global_norm(options.grad_clip_norm),) if options.grad_clip_norm else ()
  )
  return optax.chain(*grad_clip_norm, *chains[options.name], optax.scale(-1.0))


def _named(name):
  """A mask function: True at leaves of that name."""

  def mask(params):
    return jax.tree_util.tree_map_with_path(
      lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) == name, params
    )

  return mask
