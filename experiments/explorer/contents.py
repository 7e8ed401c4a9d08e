"""What the explorer's page shows, as JSON: one entry for each view that needs data."""

from typing import Any

from dilated_jax.models.segmenter import Segmenter

from . import lesson, live


def contents(segmenter: Segmenter | None = None) -> dict[str, Any]:
  """Collects the data of all views, by the names under which they ask for it.

  Args:
    segmenter: the network that runs in the page.
  """
  result: dict[str, Any] = {'lesson': lesson.contents()}
  if segmenter:
    result['live'] = live.contents(segmenter)
  return result
