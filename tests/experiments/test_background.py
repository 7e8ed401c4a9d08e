"""Reading ahead and writing behind."""

import itertools
import threading
import time

import pytest

from experiments import background


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_items_come_in_order_with_their_errors(workers):
  def inverse(number):
    time.sleep(0.002 * (number % 3))
    return 12 // (number - 4)

  found = []
  for number, result in background.ahead(inverse, range(20), workers):
    try:
      found.append((number, result()))
    except ZeroDivisionError:
      found.append((number, None))
  assert found == [(n, 12 // (n - 4) if n != 4 else None) for n in range(20)]


def test_no_further_ahead_than_said():
  begun = []
  items = background.ahead(begun.append, itertools.count(), 2)
  for number, result in itertools.islice(items, 10):
    result()
    assert len(begun) <= number + 5
  items.close()
  assert threading.active_count() == 1 or not [
    thread for thread in threading.enumerate() if thread.name.startswith('reading')
  ]


def test_one_thread_keeps_the_order():
  done = []

  def add(number):
    time.sleep(0.003 * (number % 2))
    done.append(number)

  with background.Behind(1) as behind:
    for number in range(10):
      behind.submit(add, number)
      assert len(done) >= number - 2
  assert done == list(range(10))


@pytest.mark.parametrize('workers', [0, 2])
def test_errors_are_raised_and_what_waits_is_left(workers):
  done = []

  def fail(number):
    time.sleep(0.01)
    if number == 1:
      raise OSError('full')
    done.append(number)

  with pytest.raises(OSError, match='full'), background.Behind(workers) as behind:
    for number in range(20):
      behind.submit(fail, number)
  assert len(done) < 10


def test_what_was_made_is_written_after_an_interruption():
  done = []
  with pytest.raises(KeyboardInterrupt), background.Behind(2) as behind:
    for number in range(4):
      behind.submit(lambda number: (time.sleep(0.01), done.append(number)), number)
    raise KeyboardInterrupt
  assert sorted(done) == [0, 1, 2, 3]
