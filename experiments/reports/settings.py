"""What made a run: its flags, versions and machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import page
from .markup import Markup, element
from .source import Source


def of_one(source: Source) -> list[Markup | None]:
  """All of one run."""
  made = _made(source)
  return [
    page.details(
      f'{len(source.flags)} flags', _table('Flags', ['flag', 'value'], source.flags.items())
    )
    if source.flags
    else None,
    _table('What made this', ['', ''], made.items()) if made else None,
  ]


def differences(sources: Sequence[tuple[str, Source]]) -> list[Markup | None]:
  """What is not the same in several runs."""
  heads = [letter for letter, _ in sources]
  flags = _differing([source.flags for _, source in sources])
  made = [row for row in _differing([_made(source) for _, source in sources]) if None not in row]
  return [
    _table('Flags that differ', ['flag', *heads], flags)
    if flags
    else page.note('All flags are the same.'),
    element('h3', 'Versions and machine'),
    _table('Versions that differ', ['', *heads], made)
    if made
    else page.note('What all runs tell is the same.'),
  ]


def _differing(settings: Sequence[dict[str, Any]]) -> list[tuple]:
  names = dict.fromkeys(name for each in settings for name in each)
  rows = [(name, *(each.get(name) for each in settings)) for name in names]
  return [row for row in rows if len(set(row[1:])) > 1]


def _made(source: Source) -> dict[str, str]:
  about = source.about
  plain = {
    title: about[key]
    for title, key in (('date', 'date'), ('machine', 'machine'), ('devices', 'devices'))
    if about.get(key)
  }
  return plain | about.get('versions', {})


def _table(caption: str, head: Sequence[str], rows) -> Markup:
  return page.table(
    head,
    [[str(name), *('–' if value is None else str(value) for value in row)] for name, *row in rows],
    caption=caption,
    words=len(head),
  )
