"""Where the cells of a network lie in the image, and how their logits reach its pixels.

Cell j of a network's grid lies at pixel `stride * j + offset`, in both directions. Training,
prediction and whatever mirrors maps of cells have to agree on the offset, so it is stated once.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, TypeAlias

from dilated_jax.errors import InputError
from dilated_jax.models.protocol import SegmentationModel
from dilated_jax.nn import geometry

METHODS = ('corner', 'corner_logits', 'deconvolution')
LossResolution: TypeAlias = Literal['grid', 'full']


def of_training(model: SegmentationModel, loss_resolution: LossResolution) -> str:
  """The upsampling that fits how a network is trained.

  Args:
    model: from `models.create`.
    loss_resolution: 'grid' compares cell j with the label at pixel stride * j; 'full' upsamples the
      logits and compares all pixels.

  Returns:
    One of `METHODS`. Networks that pad inside, such as DeepLab and those on ResNet, have their
    first cell at the first pixel: 'corner_logits', whichever labels they see. The paper's networks
    pad nothing, and the middle of what their first cell sees is that of the first `stride` pixels:
    'deconvolution' for labels of full size; for those of the grid 'corner', by which the authors
    interpolate what they train.
  """
  network = model.without_crf()
  first = geometry.offset(network.table) - network.margin
  if first == 0 and network.stride > 1:
    return 'corner_logits'
  return 'deconvolution' if loss_resolution == 'full' else 'corner'


def cell_offset(model: SegmentationModel, method: str) -> Fraction:
  """The pixel at which cell 0 lies, on the grid before any upsampling.

  Args:
    model: from `models.create`.
    method: one of `METHODS`, as the network was trained. It makes no difference where the network
      ends in an upsampling of its own, which states the offset.

  Returns:
    A multiple of 1/2; below 0 where the network has a cell before the image.

  Raises:
    InputError: there is no such method.
  """
  network = model.without_crf()
  if network.full_size:
    return geometry.offset(network.table) - network.margin
  _check(method)
  return Fraction(network.stride - 1, 2) if method == 'deconvolution' else Fraction(0)


def upsample(values, stride: int, method: str, own=None):
  """Bilinear interpolation between cells (N, h, w, C), to (N, h * stride, w * stride, C).

  Args:
    values: of the cells.
    stride: pixels from cell to cell.
    method: one of `METHODS`; see `ops.resize_corner` and `ops.deconvolution`.
    own: (2,) integers, how many rows and columns of cells, from the top left, there are; None: all.

  Raises:
    InputError: there is no such method.
  """
  from dilated_jax.nn import ops  # Here, because a spec is read without JAX.

  _check(method)
  if method == 'deconvolution':
    return ops.deconvolution(values, stride, own=own)
  return ops.resize_corner(values, stride, own)


def _check(method: str) -> None:
  if method not in METHODS:
    raise InputError(f'upsampling is {method!r}; choose {", ".join(METHODS[:-1])} or {METHODS[-1]}')
