"""Protobuf's wire format as far as reading needs it: a message is a stretch of a mapped file.

A message is a row of fields: a tag (field number and wire type), then a number or a length and that
many bytes. What a field means is up to the reader; fields that it does not know cost next to
nothing, however long they are. Groups, which no known format for weights uses, count as damage.

Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
import itertools
from typing import NamedTuple

import numpy as np

from dilated_jax.weights.mapped import MappedFile

# Wire types.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}

# Networks of a thousand layers have some ten thousand fields. The limit keeps the time and memory
# that a file of very many tiny fields can ask for small.
_MOST_FIELDS = 100_000

# Longest list of integers; shapes have at most 32 sides in Caffe. Longest name.
_MOST_INTEGERS, _MOST_TEXT = 32, 1000


class Run(NamedTuple):
  """Numbers of one fixed size that lie `step` bytes apart: `count` of them from `start` on."""

  start: int
  count: int
  step: int


class Message(NamedTuple):
  """A stretch of a file.

  Attributes:
    file: the file.
    start: first byte.
    end: byte after the last.
    what: name for error messages.
    count: counts the fields and listed integers of all messages of a file that are looked at.
  """

  file: MappedFile
  start: int
  end: int
  what: str
  count: Iterator[int]

  def fail(self, message: str):
    """The error that names file and message, to be raised."""
    return self.file.fail(f'{self.what} {message}')

  def fields(self) -> Iterator[tuple[tuple[int, int], 'int | Message | Run']]:
    """Yields field number, wire type and value of each field.

    The value of a varint is an int (signed, 64 bits), of a stretch of bytes a Message. Successive
    numbers of fixed size under the same tag, a list that is not packed, are yielded as one Run.

    Raises:
      InputError: the message is cut short or damaged, or the file has too many fields.
    """
    at = self.start
    while at < self.end:
      self._count()
      first = at
      tag, at = self.varint(at)
      number, wire = tag >> 3, tag & 7
      if wire == VARINT:
        value, at = self.varint(at)
        value = _signed(value)
      elif wire == BYTES:
        length, at = self.varint(at)
        value = Message(self.file, at, at + length, self.what, self.count)
        at += length
      elif wire in _SIZES:
        step = at - first + _SIZES[wire]
        value = Run(at, self._repeats(first, step) if at - first == 1 else 1, step)
        at = first + step * value.count
      else:
        number = 0
      if at > self.file.size:
        raise self.fail(
          f'should reach to byte {at} or beyond, and the file has {self.file.size}: it is cut '
          'short or damaged; fetch it again'
        )
      if not 0 < number < 2**29 or at > self.end:
        raise self._damaged(first)
      yield (number, wire), value

  def text(self) -> str:
    """The stretch as text; what is not UTF-8 is replaced.

    Raises:
      InputError: it is longer than any name.
    """
    length = self.end - self.start
    if length > _MOST_TEXT:
      raise self.fail(f'has a name of {length} bytes: the file is damaged; fetch it again')
    return self.file.data[self.start : self.end].tobytes().decode(errors='replace')

  def packed(self, size: int) -> Run:
    """The stretch as numbers of `size` bytes.

    Raises:
      InputError: its length is no multiple of it.
    """
    length = self.end - self.start
    if length % size:
      raise self.fail(
        f'has {length} bytes of numbers of {size} bytes: the file is damaged; fetch it again'
      )
    return Run(self.start, length // size, size)

  def varint(self, at: int) -> tuple[int, int]:
    """The unsigned integer that starts at a byte, seven bits a byte, and the byte after it.

    Raises:
      InputError: it does not end within the message, or within ten bytes.
    """
    data, value = self.file.data.data, 0
    for shift, byte in enumerate(data[at : min(at + 10, self.end)]):
      value |= (byte & 127) << 7 * shift
      if byte < 128:
        return value & (2**64 - 1), at + shift + 1
    raise self._damaged(at)

  def _integers(self) -> list[int]:
    result, at = [], self.start
    while at < self.end:
      self._count()
      value, at = self.varint(at)
      result.append(_signed(value))
      if len(result) > _MOST_INTEGERS:
        raise self.fail(
          f'has a list of more than {_MOST_INTEGERS} integers: the file is damaged; fetch it again'
        )
    return result

  def _count(self):
    if next(self.count) >= _MOST_FIELDS:
      raise self.fail(f'brings the fields to more than {_MOST_FIELDS}, and no network has so many')

  def _repeats(self, first, step):
    """How many fields of `step` bytes with one tag, of one byte, follow one another."""
    tags = self.file.data[first : max(first, self.end - step + 1) : step]
    count, block = 0, 64
    while count < len(tags):
      same = tags[count : count + block] == tags[0]
      if not same.all():
        return count + int(same.argmin())
      count += len(same)
      # Short runs cost little, long ones no Python and no memory.
      block = min(2 * block, 2**20)
    return max(count, 1)

  def _damaged(self, at):
    return self.fail(f'is damaged at byte {at} of the file; fetch it again')


def whole(file: MappedFile, what: str) -> Message:
  """A file as one message.

  Args:
    file: the file.
    what: name for error messages.
  """
  return Message(file, 0, file.size, what, itertools.count())


def integers(value: int | Message | Run) -> list[int]:
  """The integers in one field of a list of integers: one, or a packed list; none if it's no such.

  Args:
    value: of the field.

  Raises:
    InputError: the list is damaged or longer than any shape.
  """
  if isinstance(value, int):
    return [value]
  return value._integers() if isinstance(value, Message) else []


def array(file: MappedFile, runs: list[Run], dtype) -> np.ndarray:
  """The numbers of a list, a view of the file if they're in one run.

  Args:
    file: the file.
    runs: at least one, of numbers of the dtype.
    dtype: with its byte order.
  """
  views = [np.ndarray((r.count,), dtype, file.data.data, r.start, (r.step,)) for r in runs]
  return views[0] if len(views) == 1 else np.concatenate(views)


def _signed(value):
  return value - 2**64 if value >> 63 else value
