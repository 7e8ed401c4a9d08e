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
  # As groups of parameters with rates of their own: behind the decay, whose rate they are too.
  local = optax.stateless(lambda updates, _: _scale_locally(options, updates))
  scale = optax.scale_by_schedule(rate)
  momentum = optax.trace(options.momentum)
  chains = {
    # Caffe, sgd_solver.cpp: v <- m v + local_rate (g + decay w); w <- w - v.
    'caffe': (decay, local, scale, momentum),
    'sgd': (decay, local, momentum, scale),
    'adamw': (optax.scale_by_adam(), decay, local, scale),
  }
  grad_clip_norm = (
    (optax.clip_by_global_norm(options.grad_clip_norm),) if options.grad_clip_norm else ()
  )
  return optax.chain(*grad_clip_norm, *chains[options.name], optax.scale(-1.0))


def layer_names(params) -> list[str]:
  """The layers that parameters belong to, as 'front_end/fc8' or 'crf/compatibility', in order.

  The normalization of a layer belongs to it.
  """
  paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  return list(dict.fromkeys(map(layer_of, paths)))


def layer_of(path) -> str:
  """The layer of a parameter, as in `layer_names`, from its path in the tree."""
  return jax.tree_util.keystr(path[:2], simple=True, separator='/').removesuffix('_norm')


def _scale_locally(options: OptimizerOptions, updates):
  """Updates times the factors on the rates of their layers, and of biases."""

  def scaled(path, update):
    factor = options.multiplier_of(layer_of(path))
    *_, module, name = (jax.tree_util.keystr([key], simple=True) for key in (path[0], *path))
    if name == 'bias' and not module.endswith('_norm'):
      factor *= options.bias_lr_multiplier
    return update * factor

  return jax.tree_util.tree_map_with_path(scaled, updates)


def _named(name):
  """A mask function: True at leaves of that name."""

  def mask(params):
    return jax.tree_util.tree_map_with_path(
      lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) == name, params
    )

  return mask
