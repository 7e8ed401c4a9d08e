"""Batches depend on the step alone, show every example once an epoch, and end their threads."""

import itertools
import threading
import time

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from dilated_jax.data import pipeline
from dilated_jax.errors import InputError


def jitter(example, rng):
  return {'x': example['x'] + rng.random()}


def numbers(count):
  return [{'x': np.full(3, i, np.float64)} for i in range(count)]


def take(count, *arguments, **options):
  stream = pipeline.batches(*arguments, **options)
  try:
    return [batch['x'] for batch in itertools.islice(stream, count)]
  finally:
    stream.close()


@settings(max_examples=25)
@given(
  length=st.integers(1, 20),
  share=st.integers(1, 3),
  seed=st.integers(0, 2**40),
  first=st.integers(0, 30),
  process_count=st.sampled_from([1, 2, 4]),
  threads=st.sampled_from([1, 3]),
  prefetch=st.integers(0, 3),
)
def test_batch_is_a_function_of_seed_step_and_process(
  length, share, seed, first, process_count, threads, prefetch
):
  source, size = numbers(length), 4 * share
  whole = take(first + 2, source, jitter, batch_size=size, seed=seed)
  shares = [
    take(
      2, source, jitter, batch_size=size, seed=seed, first=first,
      process_index=p, process_count=process_count, threads=threads, prefetch=prefetch,
    )
    for p in range(process_count)
  ]  # fmt: skip
  for step in range(2):
    np.testing.assert_array_equal(np.concatenate([s[step] for s in shares]), whole[first + step])


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=20)
def test_every_epoch_shows_every_example_once(length, size, seed):
  stream = np.concatenate(
    take(3 * length, numbers(length), lambda e, rng: e, batch_size=size, seed=seed)
  )[:, 0]
  for epoch in range(3):
    assert sorted(stream[epoch * length : (epoch + 1) * length]) == list(range(length))


def test_epochs_and_seeds_differ():
  stream = take(8, numbers(40), lambda e, rng: e, batch_size=10, seed=1)
  assert (np.concatenate(stream[:4]) != np.concatenate(stream[4:])).any()
  other = take(4, numbers(40), lambda e, rng: e, batch_size=10, seed=2)
  assert (np.concatenate(stream[:4]) != np.concatenate(other)).any()


def test_uneven_shares_and_empty_sources_are_refused_at_the_call():
  with pytest.raises(InputError, match=r'4 processes .* 6 examples'):
    pipeline.batches(numbers(3), jitter, batch_size=6, seed=0, process_count=4)
  with pytest.raises(InputError, match='no examples'):
    pipeline.batches([], jitter, batch_size=1, seed=0)


def broken(error):
  def transform(example, rng):
    if example['x'][0] == 3:
      raise error
    return example

  return transform


def test_an_unreadable_example_is_named():
  with pytest.raises(InputError, match=r'^example 3 of the data set: a\.png is damaged$'):
    take(9, numbers(5), broken(InputError('a.png is damaged')), batch_size=2, seed=0)


def test_a_defect_keeps_its_type_and_names_the_example():
  with pytest.raises(ZeroDivisionError) as error:
    take(9, numbers(5), broken(ZeroDivisionError()), batch_size=2, seed=0)
  assert 'example 3 ' in error.value.__notes__[0]


def input_threads():
  return [thread for thread in threading.enumerate() if thread.name.startswith('input')]


def test_closing_ends_the_threads_and_drops_what_waits():
  calls = []

  def slow(example, rng):
    calls.append(1)
    time.sleep(0.01)
    return example

  stream = pipeline.batches(numbers(50), slow, batch_size=40, seed=0, threads=2, prefetch=3)
  next(stream)
  assert input_threads()
  stream.close()
  assert not input_threads()
  assert len(calls) < 150


def test_an_error_ends_the_threads():
  stream = pipeline.batches(numbers(5), broken(InputError('bad')), batch_size=5, seed=0)
  with pytest.raises(InputError):
    next(stream)
  assert not input_threads()
