"""Training a WaveNet on sounds, scoring it, and generating with it: what `wavenet` measures."""

import functools
import time

from absl import logging
import jax
import numpy as np
import optax

from dilated_jax import progress
from dilated_jax.errors import InputError
from dilated_jax.signal import wavenet

from .sounds import CODES


def learn(model, batch, values):
  """Trains, and returns the variables."""
  variables = jax.jit(model.init)(jax.random.key(values.seed), batch(0)[:, :2])
  optimizer = optax.adam(optax.cosine_decay_schedule(values.learning_rate, values.num_steps))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(variables, state, codes):
    loss, gradient = jax.value_and_grad(functools.partial(loss_of, model))(variables, codes)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(variables, updates), state, loss

  state, losses = optimizer.init(variables), []
  for number in progress.track(range(values.num_steps), unit='steps', every=15):
    variables, state, loss = step(variables, state, batch(number))
    losses.append(loss)
    if (number + 1) % max(1, values.num_steps // 20) == 0 or number + 1 == values.num_steps:
      mean, losses = np.mean(jax.device_get(losses)), []
      logging.info('step %d: %.3f bits per sample', number + 1, mean)
      if not np.isfinite(mean):
        raise InputError(
          f'training diverged by step {number + 1}: take a --learning_rate below '
          f'{values.learning_rate:g}'
        )
  return variables


def loss_of(model, variables, codes):
  """Mean bits per sample of (N, T) codes, each told from those before it."""
  logits = model.apply(variables, codes[:, :-1])
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, codes[:, 1:])
  return nats.mean() / float(np.log(2))


def bits(model, variables, codes) -> float:
  """Bits per sample of a sound, each sample told from all before it."""
  return float(jax.jit(functools.partial(loss_of, model))(variables, codes[None]))


def bits_by_histogram(train, codes) -> float:
  """The same for whoever knows how often each code occurs, and hears nothing."""
  counts = np.bincount(train, minlength=CODES) + 1
  return float(-np.log2(counts / counts.sum())[codes].mean())


def go_on(model, variables, prompt, length: int, values):
  """Generates after a prompt, and measures how fast, by queues and without.

  Returns:
    ((length,) codes, the speeds by name).
  """

  def run(function, length):
    arguments = (variables, prompt[None])
    options = dict(key=jax.random.key(values.seed), temperature=values.temperature)
    compiled = jax.jit(lambda *a, **k: function(model, *a, length, **k)).lower(
      *arguments, **options
    ).compile()  # fmt: skip
    start = time.monotonic()
    codes = np.asarray(compiled(*arguments, **options))[0]
    return codes[len(prompt) :], time.monotonic() - start

  generated, seconds = run(wavenet.generate, length)
  few = min(length, 200)
  again, slow_seconds = run(wavenet.generate_naive, few)
  equal = np.array_equal(again, generated[:few])
  logging.info('the first %d samples are %sequal both ways', few, '' if equal else 'not ')
  return generated, {
    'samples_per_second_queues': (len(prompt) + length - 1) / seconds,
    'samples_per_second_by_rerunning': few / slow_seconds,
  }
