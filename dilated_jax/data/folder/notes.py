"""Notes for people on what was found in a folder, in plain sentences."""

from collections.abc import Iterable, Sequence
import pathlib

import numpy as np

_LARGE = 1000  # Longest side in pixels from which on scaling down is advised.
_MODERATE = 480  # Longest side in pixels that is advised then.


def excluded_notes(unlabeled: Sequence[pathlib.Path], unlisted: Sequence[str]) -> list[str]:
  """Says which images are not used: those without a label, and those in no list."""
  notes = []
  if unlabeled:
    names = shorten([path.name for path in unlabeled])
    notes.append(f'{count_images(len(unlabeled))} without a label, not used: {names}')
  if unlisted:
    notes.append(f'{count_images(len(unlisted))} in no list, not used: {shorten(unlisted)}')
  return notes


def size_notes(shapes: Iterable[tuple[int, int]]) -> list[str]:
  """Says how large the images are, given (height, width) of each."""
  shapes = sorted(set(shapes))
  sizes = [f'{width}x{height}' for height, width in shapes]
  text = sizes[0] if len(sizes) == 1 else f'{len(sizes)}, from {sizes[0]} to {sizes[-1]}'
  notes = [f'size (width x height): {text}']
  longest = int(np.median([max(shape) for shape in shapes]))
  if longest > _LARGE:
    notes.append(
      f'these images are large: with `image_scale={_MODERATE / longest:.2f}` the network sees a '
      f'longer side of {_MODERATE} pixels; predictions still have full size'
    )
  return notes


def count_images(number: int) -> str:
  """Formats a number of images: '1 image', '2 images'."""
  return f'{number} image{"s" * (number != 1)}'


def shorten(names) -> str:
  """Lists the first dozen names, and the number of all if there are more."""
  names = list(names)
  return ', '.join(map(str, names[:12])) + (f', ... ({len(names)})' if len(names) > 12 else '')
