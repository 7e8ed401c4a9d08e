"""What the explorer's page shows, as JSON: one entry for each view that needs data."""

from __future__ import annotations

import os
from typing import Any

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.images.files import read_image

from . import fields, lesson, live, network_data


def contents(
  segmenter: models.Segmenter | None = None,
  own: network_data.Network | None = None,
  image: str | None = None,
) -> dict[str, Any]:
  """Collects the data of all views, by the names under which they ask for it.

  Args:
    segmenter: the network that runs in the page, and whose fields are measured on a photograph.
      Without one the page has the measurement that comes with the package.
    own: a network that stands before all others, such as that of --weights.
    image: path of the photograph; None for the one that comes with the package.
  """
  networks = [*([own] if own else []), *network_data.all_networks()]
  result: dict[str, Any] = {
    'networks': [network_data.entry(network) for network in networks],
    'image': on_image(own.title if own else 'The network', segmenter, image),
    'lesson': lesson.contents(),
  }
  if segmenter:
    result['live'] = live.contents(segmenter)
  return result


def on_image(title: str, segmenter: models.Segmenter | None, image: str | None) -> dict[str, Any]:
  """The fields of a network on a photograph."""
  if segmenter is None:
    return fields.shipped()
  credit = fields.PHOTO_CREDIT if image is None else os.path.basename(image)
  pixels = read_image(image or str(fields.PHOTO))
  try:
    return fields.measure(segmenter, pixels, title, credit)
  except InputError as error:
    raise InputError(f'{image or fields.PHOTO}: {error}') from None
