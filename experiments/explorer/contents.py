"""What the explorer's page shows, as JSON: one entry for each view that needs data."""

from typing import Any


def contents() -> dict[str, Any]:
  """Collects the data of all views, by the names under which they ask for it."""
  return {}
