"""What all pages share: their head, their look, and the pieces that they are put together from."""

import base64
from collections.abc import Iterable, Mapping, Sequence
import functools
import hashlib
import pathlib
import re

from .markup import Content, Markup, element, join


def page(title: str, lead: Content, sections: Sequence[Markup]) -> bytes:
  """A whole page, which asks for nothing outside and can run no script.

  Args:
    title: of the page.
    lead: what stands below the title.
    sections: from `section`.

  Returns:
    HTML in UTF-8.
  """
  style = _style()
  digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
  policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
  head = element(
    'head',
    element('meta', charset='utf-8'),
    element(
      'meta', http_equiv='Content-Security-Policy', content=f"{policy}form-action 'none'"
    ),
    element('meta', name='viewport', content='width=device-width, initial-scale=1'),
    element('meta', name='color-scheme', content='light dark'),
    element('title', title),
    element('style', Markup(style)),
  )  # fmt: skip
  links = [
    element('li', element('a', Markup(found[2]), href=f'#{found[1]}'))
    for found in (re.match('<section id="([^"]+)"><h2>(.*?)</h2>', each) for each in sections)
    if found
  ]
  body = element(
    'body',
    element('header', element('h1', title), lead),
    element('nav', element('ul', links), aria_label='Sections') if len(links) > 1 else None,
    element('main', sections),
  )
  return f'<!doctype html>\n{element("html", head, body, lang="en")}\n'.encode()


def section(title: str, *content: Content) -> Markup:
  """A section with a heading that the list at the top of the page leads to."""
  identity = re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-') or 'section'
  return element('section', element('h2', title), content, id=identity)


def tiles(values: Iterable[tuple[str, str, str]]) -> Markup:
  """The few numbers that matter most: (what, number, remark) each."""
  return element(
    'dl',
    [
      element('div', element('dt', what), element('dd', element('b', number), ' ', remark))
      for what, number, remark in values
    ],
    class_='tiles',
  )


def table(
  head: Sequence[Content], rows: Iterable[Sequence[Content]], *, caption: str, words: int = 1
) -> Markup:
  """A table whose first column names the rows.

  Args:
    head: titles of the columns.
    rows: cells; a row's first is its name.
    caption: what it is, for who can't see it.
    words: columns at the left that hold words, not numbers.
  """
  kinds = [None if column < words else 'number' for column in range(len(head))]
  columns = [
    element('th', cell, scope='col', class_=kind) for cell, kind in zip(head, kinds, strict=True)
  ]
  lines = [
    element(
      'tr',
      element('th', first, scope='row'),
      [element('td', cell, class_=kind) for cell, kind in zip(rest, kinds[1:], strict=True)],
    )
    for first, *rest in rows
  ]
  content = element(
    'table',
    element('caption', caption, class_='unseen'),
    element('thead', element('tr', columns)),
    element('tbody', lines),
  )
  return scrolling(content, caption)


def scrolling(content: Content, label: str) -> Markup:
  """What may be wider than a phone: it is moved by itself, with the keyboard too."""
  return element('div', content, class_='scroll', tabindex='0', role='region', aria_label=label)


def details(summary: str, *content: Content, open_: bool = False) -> Markup:
  """What is shown when it is asked for."""
  return element('details', element('summary', summary), content, open_=open_)


def grid(*content: Content) -> Markup:
  """Figures beside each other where there is room."""
  return element('div', content, class_='grid')


def note(*content: Content) -> Markup:
  """A remark."""
  return element('p', content, class_='note')


def class_name(name: str, palette: Mapping[str, Sequence[int]]) -> Markup:
  """The name of a class behind a patch of its color, if it has one."""
  if name not in palette:
    return join(name)
  red, green, blue = map(int, palette[name])
  patch = element('rect', width=12, height=12, rx=2, fill=f'rgb({red},{green},{blue})')
  drawn = element('svg', patch, viewBox='0 0 12 12', class_='swatch', aria_hidden='true')
  return join([drawn, f'\u00a0{name}'])  # No line ends between the two.


def bar(value: float | None, kind: str = 'amount') -> Markup | None:
  """A bar as long as a value of 0 to 1; a difference of -1 to 1 starts in the middle."""
  if value is None:
    return None
  if kind == 'amount':
    left, width, name = 0.0, 100 * value, 'amount'
  else:
    left, width = min(50.0, 50 + 50 * value), abs(50 * value)
    name = 'more' if value > 0 else 'less'
  rect = element('rect', x=round(left, 2), width=round(width, 2), height=10, class_=name)
  return element(
    'svg', rect, viewBox='0 0 100 10', preserveAspectRatio='none', class_=f'bar {kind}',
    aria_hidden='true',
  )  # fmt: skip


def percent(value: float | None, digits: int = 1) -> str:
  """A share in percent."""
  return '–' if value is None else f'{100 * value:.{digits}f}'


def number(value: object) -> str:
  """A number with four digits that count, and integers whole."""
  if value is None:
    return '–'
  if isinstance(value, float):
    return f'{value:.4g}'
  return f'{value:,}' if isinstance(value, int) and not isinstance(value, bool) else f'{value}'


@functools.cache
def _style() -> str:
  return pathlib.Path(__file__).with_name('style.css').read_text()
