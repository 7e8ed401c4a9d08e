"""Whether what a CRF is given has the shapes, units and scales that it is meant to have.

A CRF of wrong units computes something all the same, so that they are told apart here as far as
the numbers allow.
"""

from collections.abc import Sequence
import math

import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.typing import AnyArray


def check_shapes(unary, image) -> None:
  """Raises InputError unless these are energies (H, W, C) and an image (H, W, F)."""
  if unary.ndim != 3 or unary.shape[2] < 2 or not unary.size:
    raise InputError(
      f'unary energies have shape {unary.shape}; they are (H, W, classes), of 2 classes or more'
    )
  if image.ndim == 2:
    raise InputError(f'the image has shape {image.shape}, without an axis of colors')
  if image.ndim != 3 or image.shape[:2] != unary.shape[:2]:
    raise InputError(
      f'the image has shape {image.shape} and the unary energies {unary.shape}: height and width '
      'must be equal, (H, W, 3) and (H, W, classes)'
    )


def check_energies(unary: AnyArray) -> None:
  """Raises InputError if unary energies (..., classes) are not finite, or are probabilities.

  Energies -log p of C classes add up to C log C or more: those that add up to 1 everywhere are
  probabilities, and would turn the labels around.
  """
  unary = np.asarray(unary)
  check_numbers('unary energies', unary)
  if _add_up_to_1(unary):
    raise InputError(
      'unary energies add up to 1 at every pixel, as probabilities do: give -log p, see '
      '`crf.dense.unary_energies` (if they are energies all the same, add 1 to each)'
    )
  if (unary <= 0).all() and _add_up_to_1(np.exp(unary, dtype=np.float64)):
    raise InputError('unary energies are log p, and would turn the labels around: give -log p')


def check_probabilities(probabilities: np.ndarray) -> None:
  """Raises InputError unless all lie in 0..1, up to rounding."""
  check_numbers('probabilities', probabilities)
  low, high = probabilities.min(initial=0), probabilities.max(initial=0)
  if low < -1e-3 or high > 1 + 1e-3:
    raise InputError(
      f'probabilities go from {low:g} to {high:g}: they lie in 0..1; of scores take the softmax'
    )


def check_color_scale(image: AnyArray, deviations) -> None:
  """Raises InputError if an image is on another scale than the deviations of its colors.

  Colors of 0..1, or normalized to about -2..3, are all alike beside a standard deviation of 13.
  Whole numbers are left alone (a dark image), and so are images without contrast.

  Args:
    image: (..., channels), colors or other values.
    deviations: standard deviations of the values, one or one per channel.
  """
  image = np.asarray(image)
  check_numbers('pixels of the image', image)
  if image.dtype == np.uint16 and image.shape[-1] == 3 and image.max(initial=0) > 255:
    raise InputError(
      f'the image has colors of up to {image.max()}: give those of 0..255, image // 257 if they go '
      'up to 65535'
    )
  if image.dtype.kind != 'f' or not image.size:
    return
  values = image.reshape(-1, image.shape[-1])
  low, high = values.min(), values.max()
  peak, contrast = max(-low, high), np.ptp(values, axis=0).max()
  small = peak <= 1 or (peak <= 4 and (values % 1).any())
  deviation = np.min(deviations)
  if small and contrast > 0 and deviation >= max(1, contrast / 2):
    raise InputError(
      f'the image has values of {low:g} to {high:g}, which a standard deviation of {deviation:g} '
      'does not tell apart: give colors on the scale of 0..255, as uint8 images have them, or a '
      "deviation on the image's own scale"
    )


def check_scores(logits: np.ndarray) -> None:
  """Raises InputError if class scores (..., classes), before the softmax, are probabilities."""
  if _add_up_to_1(logits):
    raise InputError(
      'the class scores add up to 1 everywhere, as probabilities do: give them before the softmax, '
      'or log p'
    )


def check_term(name: str, term, form: str) -> None:
  """Raises InputError unless a term of the energy has the form and usable deviations."""
  try:
    # Not infinite, and not so small that float32 can't tell colors of 255 apart.
    fits = len(term) == form.count(',') + 1 and all(1e-4 <= s < math.inf for s in term[:-1])
  except (TypeError, ValueError):
    fits = False
  if not fits:
    raise InputError(
      f'{name} is {term}; it is {form} with standard deviations above 0 (1e-4 or more)'
    )


def check_numbers(name: str, array: AnyArray) -> None:
  """Raises InputError unless all are finite real numbers."""
  real = array.dtype.kind in 'fiub' or array.dtype.name == 'bfloat16'
  if not real or not np.isfinite(array).all():
    raise InputError(
      f'{name} hold NaN, infinity or what is no real number ({array.dtype}); clip probabilities '
      'before the logarithm'
    )


def check_choice(name: str, value, choices: Sequence[str]) -> None:
  """Raises InputError unless the value is one of the choices."""
  if value not in choices:
    raise InputError(f'{name} is {value!r}; choose {", ".join(choices)}')


def _add_up_to_1(values: np.ndarray) -> bool:
  if not values.size or values.min() < 0 or values.max() > 1:
    return False
  tolerance = 1e-3 if values.dtype.itemsize > 2 else 2e-2
  return bool((abs(values.sum(-1, dtype=np.float64) - 1) <= tolerance).all())
