"""Damaged files: what a reader of untrusted bytes must bear."""

from collections.abc import Iterator
import random

# Lengths, counts and offsets at which arithmetic goes wrong.
_ABSURD = [
  *(0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40),
  *(2**62, 2**63 - 1, 2**63, 2**64 - 1),
]

# Openers of groups, lists, objects and marks in protobuf, JSON and pickle.
_OPENERS = [b'\x0b', b'\x13', b'[', b'{"a":', b'(', b']', b'\x12\x7f']


def mutations(original: bytes, count: int, seed: int) -> Iterator[bytes]:
  """Yields damaged copies of a file, the same ones for the same seed.

  A copy has one to three damages: bits turned, cut off, a piece left out, doubled, moved, replaced
  by noise or repeated thousands of times, an absurd number written in one of the usual codings, or
  deep nesting. Few copies grow by more than some ten thousand bytes.

  Args:
    original: a valid file; a small one (some kB), so that headers are hit often.
    count: number of copies.
    seed: of the choices.
  """
  rng = random.Random(seed)
  for _ in range(count):
    data = original
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
      data = rng.choice(_DAMAGES)(data, rng)
    yield data


def _piece(data, rng):
  """Start and end of a piece, more often a short one."""
  start = rng.randrange(len(data) + 1)
  return start, min(len(data), start + int(2 ** rng.uniform(0, 12)))


def _flip(data, rng):
  result = bytearray(data)
  for _ in range(rng.choice([1, 1, 2, 8]) if data else 0):
    result[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  return bytes(result)


def _replace(data, rng):
  """One byte, by a value at which something changes."""
  at = rng.randrange(len(data) + 1)
  return data[:at] + rng.choice([b'\0', b'\x01', b'\x7f', b'\x80', b'\xff']) + data[at + 1 :]


def _truncate(data, rng):
  return data[: rng.randrange(len(data) + 1)]


def _drop(data, rng):
  start, end = _piece(data, rng)
  return data[:start] + data[end:]


def _double(data, rng):
  start, end = _piece(data, rng)
  return data[:end] + data[start:end] * rng.choice([1, 1, 2, 10]) + data[end:]


def _move(data, rng):
  start, end = _piece(data, rng)
  rest = data[:start] + data[end:]
  at = rng.randrange(len(rest) + 1)
  return rest[:at] + data[start:end] + rest[at:]


def _noise(data, rng):
  start, end = _piece(data, rng)
  end = min(end, start + 64)
  return data[:start] + rng.randbytes(end - start) + data[end:]


def _repeat(data, rng):
  start, end = _piece(data, rng)
  piece = data[start : min(end, start + 8)]
  return data[:start] + piece * rng.choice([100, 1000, 5000]) + data[start:]


def _number(data, rng):
  """Written over what stands there, or between."""
  value = rng.choice(_ABSURD)
  size = rng.choice([4, 8])
  coding = rng.choice(
    [
      _varint(value),
      (value % 2 ** (8 * size)).to_bytes(size, 'little'),
      (value % 2 ** (8 * size)).to_bytes(size, 'big'),
      str(rng.choice([value, -value])).encode(),
    ]
  )
  at = rng.randrange(len(data) + 1)
  return data[:at] + coding + data[at + rng.choice([0, 1, len(coding)]) :]


def _nest(data, rng):
  if rng.random() < 0.5:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_OPENERS) * rng.choice([100, 2000, 20000]) + data[at:]
  # The whole file as a field of a message, again and again: fields 1, 2 and 7 of protobuf.
  tag = rng.choice([b'\x0a', b'\x12', b'\x3a'])
  for _ in range(rng.choice([1, 10, 300])):
    data = tag + _varint(len(data)) + data
  return data


def _varint(value):
  result = bytearray()
  while value > 127:
    result.append(value & 127 | 128)
    value >>= 7
  return bytes([*result, value])


_DAMAGES = [
  *(_flip, _replace, _truncate, _drop, _double, _move, _noise, _repeat, _number, _number, _nest)
]
