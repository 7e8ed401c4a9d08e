"""Images on a page, in the page itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
import io

import numpy as np
import PIL.Image

from dilated_jax.evaluation.extremes import Labeled
from dilated_jax.images import visualization
from dilated_jax.images.files import encode_png

from . import page
from .markup import Markup, element
from .source import Images

_SHARP = 320 * 320  # Pixels, up to which an image is kept as it is and enlarged by whole pixels.


def best_and_worst(images: Images, palette: Sequence[Sequence[int]]) -> list[Markup | None]:
  """The images that were labeled best and worst.

  Args:
    images: both.
    palette: RGB colors by class id.
  """
  best, worst = images
  result: list[Markup | None] = []
  for title, several in (('Worst', worst), ('Best', best)):
    if several:
      result += [element('h3', title), [_example(one, palette) for one in several]]
  return result


def whole(array: np.ndarray, description: str) -> Markup:
  """One image as wide as the page, or less."""
  height, width = array.shape[:2]
  return element(
    'img', src=_data('png', encode_png(array)), alt=description, width=width, height=height,
    class_='whole',
  )  # fmt: skip


def _example(one: Labeled, palette) -> Markup:
  views = [
    (title, array)
    for title, array in (
      ('image', one.image),
      ('truth', visualization.colorize(one.labels, palette)),
      ('prediction', visualization.colorize(one.predictions, palette)),
      ('difference', visualization.difference(one.labels, one.predictions, one.image)),
    )
    if array is not None
  ]
  scores = f'mean IoU {page.percent(one.mean_iou)} %, accuracy {page.percent(one.pixel_accuracy)} %'
  return element(
    'figure',
    element('figcaption', f'{one.name}: {scores}'),
    element('div', [_view(title, array, one.name) for title, array in views], class_='views'),
    class_='example',
  )


def _view(title: str, array: np.ndarray, name: str) -> Markup:
  height, width = array.shape[:2]
  small, flat = height * width <= _SHARP, title in ('truth', 'prediction')
  source = _data('png', encode_png(array)) if small or flat else _data('jpeg', _jpeg(array))
  image = element(
    'img', src=source, alt=f'{title} of {name}', width=width, height=height,
    class_='sharp' if small or flat else None,
  )  # fmt: skip
  return element('div', image, title)


def _jpeg(array: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  PIL.Image.fromarray(array).save(buffer, 'jpeg', quality=85, subsampling=0)
  return buffer.getvalue()


def _data(kind: str, content: bytes) -> str:
  return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'
