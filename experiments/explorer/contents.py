"""What the explorer's page shows, as JSON: one entry for each view that needs data."""

from typing import Any

from dilated_jax import models

from . import lesson, live


def contents(weights: str | None = None) -> dict[str, Any]:
  """Collects the data of all views, by the names under which they ask for it.

  Args:
    weights: a weights folder, whose network runs in the page.
  """
  result: dict[str, Any] = {'lesson': lesson.contents()}
  if weights:
    result['live'] = live.contents(models.load_weights(weights))
  return result
