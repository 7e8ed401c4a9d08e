"""Canvases: sizes that images of many sizes share, so that few programs are compiled.

A program is compiled for one size. A folder of photographs cut by hand has as many sizes as files,
and compiling takes longer than labeling. An image is therefore put at the top left of a canvas that
is a little larger, and the program is told its size as a number: it takes what lies beyond for what
lies beyond the border, in every layer, so that the answer is that of the image alone.
"""

import numpy as np

WASTE = 1.25  # Pixels that are fed to the network for each that would be without canvases, at most.
_FEW = 4  # Canvases that are made to measure, before others are rounded up.


class Canvases:
  """Which canvas an image is put on; it depends on the sizes that were asked for before.

  The first few sizes that fit on no canvas get one of exactly their size: in a folder of one
  camera, or a video, nothing is wasted. From then on sizes are rounded up to those of a geometric
  grid. A canvas that exists and is not much too large is taken before another is made.

  Pass one object to all calls of `inference.predict` or `inference.label_maps` that are to share
  their programs; they are of one network.
  """

  def __init__(self):
    """Begins without any."""
    self._made: list[tuple[int, int]] = []

  def __len__(self) -> int:
    """Number of canvases so far."""
    return len(self._made)

  def of(self, size: tuple[int, int], stride: int = 1, margin: int = 0) -> tuple[int, int]:
    """The canvas of an image.

    Args:
      size: its height and width.
      stride: height and width of a canvas are multiples of it.
      margin: pixels on each side that the network is fed besides; they count as used.

    Returns:
      Height and width of the canvas, without the margins: at least those of the image. With the
      margins it has at most `WASTE` times the area of the image rounded up to the stride.

    >>> canvases = Canvases()
    >>> canvases.of((360, 480), 8), canvases.of((355, 470), 8), canvases.of((480, 360), 8)
    ((360, 480), (360, 480), (480, 360))
    """
    height, width = (-(-side // stride) * stride for side in size)

    def area(canvas):
      return (canvas[0] + 2 * margin) * (canvas[1] + 2 * margin)

    most = WASTE * area((height, width))
    holding = [c for c in self._made if c[0] >= height and c[1] >= width and area(c) <= most]
    if holding:
      return min(holding, key=area)
    made = height, width
    if len(self._made) >= _FEW:
      made = _rounded_up(height, stride, margin), _rounded_up(width, stride, margin)
    self._made.append(made)
    return made


def _rounded_up(side: int, stride: int, margin: int) -> int:
  """The next side of the geometric grid, whose ratio is the root of `WASTE`, margins included."""
  found = stride
  while found < side:
    longest = int((found + stride + 2 * margin) * np.sqrt(WASTE)) - 2 * margin
    found = max(found + stride, longest // stride * stride)
  return found
