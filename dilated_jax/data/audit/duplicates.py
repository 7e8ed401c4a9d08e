"""Pictures that are there twice, nearly twice, or as frames of one film."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from dilated_jax.data.folder import pairing

# Correlation of the high-passed 32x32 pictures from which on two are called near duplicates. On
# CamVid, pictures of different sequences reach 0.49 (0.57 mirrored). The same picture as JPEG of
# quality 20, at half size, with noise, 1.3 times as bright, in gray or without 1 % at each border
# stays above 0.95 (drawn scenes: 0.87).
NEAR = 0.85
ALL_ALIKE = 0.5  # Where two pictures at random correlate so far, as X-rays do, nothing is told.
# Frames next to each other correlate by as much more than pictures at random: 0.3 to 0.9 on CamVid.
FILM = 0.1
_FEWEST = 4  # Frames from which on a film is told by looks.
_BLOCK = 1024


def exact(digests: Sequence[bytes]) -> list[list[int]]:
  """The places of each digest that is there more than once; empty ones don't count."""
  groups = {}
  for index, digest in enumerate(digests):
    if digest:
      groups.setdefault(digest, []).append(index)
  return [group for group in groups.values() if len(group) > 1]


def signatures(thumbs: np.ndarray) -> np.ndarray:
  """What small gray pictures look like apart from brightness, contrast and large gradients.

  Args:
    thumbs: (N, 32, 32) uint8.

  Returns:
    (N, 1024) float32 of norm 1, so that products are correlations; 0 for a picture of one color.
  """
  thumbs = thumbs.astype(np.float32)
  coarse = ndimage.uniform_filter(thumbs, (0, 9, 9), mode='nearest')
  fine = (thumbs - coarse).reshape(len(thumbs), -1)
  fine -= fine.mean(1, keepdims=True)
  norms = np.linalg.norm(fine, axis=1, keepdims=True)
  return np.where(norms > 1, fine / np.maximum(norms, 1e-6), 0).astype(np.float32)


def near(thumbs: np.ndarray) -> Iterator[tuple[int, int, float, bool]]:
  """Finds pairs of pictures that look the same, also mirrored.

  Args:
    thumbs: (N, 32, 32) uint8.

  Yields:
    the places of both, the smaller first, their correlation, and whether one is mirrored.
  """
  plain, mirrored = signatures(thumbs), signatures(thumbs[:, :, ::-1])
  for start in range(0, len(plain), _BLOCK):
    block = plain[start : start + _BLOCK]
    for others, turned in ((plain, False), (mirrored, True)):
      alike = block @ others[start:].T
      for row, column in np.argwhere(np.triu(alike > NEAR, 1)).tolist():
        yield start + row, start + column, float(alike[row, column]), turned


def at_random(thumbs: np.ndarray) -> float:
  """The median correlation of pictures that have nothing to do with each other but the data set."""
  if len(thumbs) < 2:
    return 0.0
  found = signatures(thumbs)
  order = np.random.default_rng(0).permutation(len(found))[:2000]
  return float(np.median((found[order] * np.roll(found[order], 1, axis=0)).sum(1)))


def films(
  names: Sequence[str], splits: Sequence[str | None], thumbs: np.ndarray
) -> Iterator[tuple[str, list[int], bool]]:
  """Finds sequences of frames, by their names, that are in more than one split.

  Args:
    names: of the pictures; '0016E5_07959' is frame 7959 of 0016E5.
    splits: of the pictures.
    thumbs: (N, 32, 32) uint8.

  Yields:
    the name of the sequence, the places of its frames in order, and whether neighbors look so much
    more alike than other pictures that this is a film indeed, and not just a way of naming.
  """
  groups = {}
  for index, name in enumerate(names):
    if numbered_classes := pairing.sequence(name):
      groups.setdefault(numbered_classes[0], []).append((numbered_classes[1], index))
  found, random = signatures(thumbs), at_random(thumbs)
  for prefix, frames in sorted(groups.items()):
    places = [index for _, index in sorted(frames)]
    if len({splits[index] for index in places}) < 2:
      continue
    alike = (found[places[:-1]] * found[places[1:]]).sum(1)
    film = len(places) >= _FEWEST and float(np.median(alike)) > random + FILM
    if film or 1 < len(groups) < len(names) / 2:
      yield prefix, places, film
