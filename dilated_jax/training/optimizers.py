"""Optimizers of the paper's time and of ours, as chains of optax transformations."""

import dataclasses
from typing import Literal

import jax
import optax

from dilated_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
  """How the weights follow the gradient.

  Attributes:
    name: 'caffe' has the learning rate inside the velocity, v <- m v + r g, w <- w - v; 'sgd'
      outside, v <- m v + g, w <- w - r v, as optax. They differ only where the rate changes.
      'adamw' has decoupled weight decay.
    learning_rate: highest learning rate.
    schedule: 'constant'; 'step', times `gamma` every `step_size` steps; 'poly', times
      (1 - k / steps)^power; 'cosine', down to 0 in half a period.
    warmup_steps: steps in which the rate rises from 0.
    momentum: of 'sgd' and 'caffe'.
    weight_decay: L2 on kernels (not on biases and normalization); the authors take 5e-4.
    bias_lr_multiplier: factor on the rate of biases; the authors take 2.
    gamma, step_size: of the schedule 'step'.
    power: of the schedule 'poly'.
    grad_clip_norm: largest norm of the whole gradient; 0 leaves it alone.
  """

  name: Literal['caffe', 'sgd', 'adamw'] = 'caffe'
  learning_rate: float = 1e-3
  schedule: Literal['constant', 'step', 'poly', 'cosine'] = 'constant'
  warmup_steps: int = 0
  momentum: float = 0.9
  weight_decay: float = 5e-4
  bias_lr_multiplier: float = 2.0
  gamma: float = 0.1
  step_size: int = 100_000
  power: float = 0.9
  grad_clip_norm: float = 0.0


def schedule(options: Options, num_steps: int) -> optax.Schedule:
  """The learning rate as a function of the step.

  Args:
    options: see `Options`.
    num_steps: steps of the whole run, warm-up included.

  Returns:
    A function step -> rate.

  Raises:
    InputError: no schedule of this name.
  """
  rate, steps = options.learning_rate, max(num_steps - options.warmup_steps, 1)
  if options.schedule == 'constant':
    after = optax.constant_schedule(rate)
  elif options.schedule == 'step':
    after = optax.exponential_decay(rate, options.step_size, options.gamma, staircase=True)
  elif options.schedule == 'poly':
    after = optax.polynomial_schedule(rate, 0.0, options.power, steps)
  elif options.schedule == 'cosine':
    after = optax.cosine_decay_schedule(rate, steps)
  else:
    raise InputError(f'schedule is {options.schedule!r}; choose constant, step, poly or cosine')
  if not options.warmup_steps:
    return after
  return optax.join_schedules(
    [optax.linear_schedule(0.0, rate, options.warmup_steps), after], [options.warmup_steps]
  )


def create(options: Options, num_steps: int) -> optax.GradientTransformation:
  """Makes the optimizer.

  Args:
    options: see `Options`.
    num_steps: steps of the whole run, for the schedule.

  Returns:
    An optax transformation whose updates are added to the weights.

  Raises:
    InputError: no optimizer or schedule of this name.
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
  if options.name not in chains:
    raise InputError(f'optimizer is {options.name!r}; choose {", ".join(chains)}')
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
