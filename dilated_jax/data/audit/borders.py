"""Measures of the borders in label images, which show smoothing, compression and misalignment."""

import numpy as np


def edge_alignment(gray: np.ndarray, values: np.ndarray) -> float:
  """Measures how well the borders of a label follow the edges of its image.

  Args:
    gray: (H, W) uint8 image.
    values: (H, W) values of its label.

  Returns:
    the mean gradient of the image at the borders of the label, divided by its mean gradient
    everywhere: 1 if image and label have nothing in common, more if they are aligned.
  """
  gray = gray.astype(np.float32)
  down, right = np.abs(np.diff(gray, axis=0))[:, :-1], np.abs(np.diff(gray, axis=1))[:-1]
  border = _border(values)
  gradient = down + right
  return float(gradient[border].mean() / max(gradient.mean(), 1e-6)) if border.any() else 0.0


def roughness(values: np.ndarray) -> float:
  """Measures how ragged the borders of a label are, which shows smoothing and lossy compression.

  Counts stray pixels, which interpolation and JPEG leave between two classes: at most one neighbor
  has the same value, and no pixel of that value within a distance of two has more such neighbors.

  Args:
    values: (H, W) integers, values of a label.

  Returns:
    the number of stray pixels divided by that of border pixels. On CamVid, the median is 0.014 and
    the maximum 0.05; after JPEG compression of quality 75, the median is 0.125 and the minimum
    0.06.
  """
  if min(values.shape) < 3:
    return 0.0
  padded = np.pad(values.astype(np.int32), 2, mode='edge')
  inner = padded[1:-1, 1:-1]
  below, right = inner[:-1] != inner[1:], inner[:, :-1] != inner[:, 1:]
  border = np.zeros(inner.shape, bool)
  border[:-1] |= below
  border[1:] |= below
  border[:, :-1] |= right
  border[:, 1:] |= right
  rows, columns = np.nonzero(border[1:-1, 1:-1])
  if not len(rows):
    return 0.0

  # Pixels at borders that have at most one neighbor of their value.
  border_values = values[rows, columns]
  equal = np.zeros(len(rows), np.int8)
  for row_offset in (1, 2, 3):
    for column_offset in (1, 2, 3):
      equal += padded[rows + row_offset, columns + column_offset] == border_values
  loose = equal <= 2  # The pixel itself, and one more.
  is_loose = np.zeros(padded.shape, bool)
  is_loose[rows[loose] + 2, columns[loose] + 2] = True

  # Of these, pixels without any other kind of pixel of their value within a distance of two.
  rows, columns, loose_values = rows[loose], columns[loose], border_values[loose]
  stray = np.ones(len(rows), bool)
  for row_offset in range(5):
    for column_offset in range(5):
      near = rows + row_offset, columns + column_offset
      stray &= (padded[near] != loose_values) | is_loose[near]
  return float(stray.sum() / max(_border(values).sum(), 1))


def _border(values) -> np.ndarray:
  """Marks pixels that differ from the pixel below or to the right: bool (H - 1, W - 1)."""
  corner = values[:-1, :-1]
  return (values[1:, :-1] != corner) | (values[:-1, 1:] != corner)
