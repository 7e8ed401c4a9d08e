"""Finds images that occur twice, nearly twice, or as frames of one video."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from dilated_jax.data.folder.pairing import split_frame_number

# Two images are near duplicates if their signatures correlate by more. On CamVid, images of
# different sequences reach 0.49 (0.57 flipped). The same image as JPEG of quality 20, at half size,
# with noise, 1.3 times as bright, in gray, or without 1 % at each border stays above 0.95 (drawn
# scenes: 0.87).
NEAR = 0.85
# If random images correlate by as much, as X-rays do, near duplicates mean nothing.
ALL_SIMILAR = 0.5
# Successive frames of a video correlate by this much more than random images: 0.3 to 0.9 on CamVid.
VIDEO_MARGIN = 0.1
_MIN_FRAMES = 4  # Fewer frames are not recognized as a video.
_BLOCK = 1024  # Images that are compared at once.


def equal_groups(hashes: Sequence[bytes]) -> list[list[int]]:
  """Returns the indices of equal hashes, for each hash that occurs twice; skips empty hashes."""
  groups = {}
  for index, digest in enumerate(hashes):
    if digest:
      groups.setdefault(digest, []).append(index)
  return [group for group in groups.values() if len(group) > 1]


def signatures(thumbnails: np.ndarray) -> np.ndarray:
  """Computes vectors that describe thumbnails without brightness, contrast and large gradients.

  Args:
    thumbnails: (N, 32, 32) uint8.

  Returns:
    (N, 1024) float32 of norm 1, so that scalar products are correlations; 0 for blank images.
  """
  thumbnails = thumbnails.astype(np.float32)
  coarse = ndimage.uniform_filter(thumbnails, 9, axes=(1, 2), mode='nearest')
  fine = (thumbnails - coarse).reshape(len(thumbnails), -1)
  fine -= fine.mean(1, keepdims=True)
  norms = np.linalg.norm(fine, axis=1, keepdims=True)
  return np.where(norms > 1, fine / np.maximum(norms, 1e-6), 0).astype(np.float32)


def near_duplicates(thumbnails: np.ndarray) -> Iterator[tuple[int, int, float, bool]]:
  """Finds pairs of images that look the same, also if one is flipped left to right.

  Args:
    thumbnails: (N, 32, 32) uint8.

  Yields:
    the indices of both images, the smaller first; their correlation; whether one is flipped.
  """
  plain, flipped = signatures(thumbnails), signatures(thumbnails[:, :, ::-1])
  for start in range(0, len(plain), _BLOCK):
    block = plain[start : start + _BLOCK]
    for others, is_flipped in ((plain, False), (flipped, True)):
      correlation = block @ others[start:].T
      for row, column in np.argwhere(np.triu(correlation > NEAR, 1)).tolist():
        yield start + row, start + column, float(correlation[row, column]), is_flipped


def typical_correlation(thumbnails: np.ndarray) -> float:
  """Returns the median correlation of random pairs of images."""
  if len(thumbnails) < 2:
    return 0.0
  vectors = signatures(thumbnails)
  order = np.random.default_rng(0).permutation(len(vectors))[:2000]
  return float(np.median((vectors[order] * np.roll(vectors[order], 1, axis=0)).sum(1)))


def split_sequences(
  names: Sequence[str], splits: Sequence[str | None], thumbnails: np.ndarray
) -> Iterator[tuple[str, list[int], bool]]:
  """Finds numbered sequences of images that are in more than one split.

  Args:
    names: names of the images; '0016E5_07959' is frame 7959 of 0016E5.
    splits: splits of the images.
    thumbnails: (N, 32, 32) uint8.

  Yields:
    the name of the sequence; the indices of its frames in order; whether it is a video, in which
    successive images are much more similar than others, and not just a way of naming files.
  """
  sequences = {}
  for index, name in enumerate(names):
    if numbered := split_frame_number(name):
      sequences.setdefault(numbered[0], []).append((numbered[1], index))
  vectors, typical = signatures(thumbnails), typical_correlation(thumbnails)
  for sequence, frames in sorted(sequences.items()):
    indices = [index for _, index in sorted(frames)]
    if len({splits[index] for index in indices}) < 2:
      continue
    successive = (vectors[indices[:-1]] * vectors[indices[1:]]).sum(1)
    is_video = len(indices) >= _MIN_FRAMES and float(np.median(successive)) > typical + VIDEO_MARGIN
    if is_video or 1 < len(sequences) < len(names) / 2:
      yield sequence, indices, is_video
