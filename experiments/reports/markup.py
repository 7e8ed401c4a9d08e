"""HTML and SVG in which every text is escaped, whoever wrote it.

  element('p', 'IoU of ', element('b', name), class_='note')

What is not `Markup` is text and is escaped, so that the name of a class, a file or a flag can be
anything.
"""

from collections.abc import Iterable
import html
from typing import TypeAlias

Content: TypeAlias = 'str | Iterable[Content] | None'

_EMPTY = {'meta', 'img', 'br', 'wbr'}


class Markup(str):
  """Text that is HTML already."""


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
  """An element.

  Args:
    name: of its tag.
    *content: texts, which are escaped, and `Markup`, or sequences of these; None is left out.
    **attributes: by name, with _ for - and one at the end where Python has a word of that name;
      None and False are left out, True is an attribute without a value.
  """
  given = []
  for key, value in attributes.items():
    key = key.rstrip('_').replace('_', '-')
    if value is True:
      given.append(f' {key}')
    elif value is not None and value is not False:
      text = f'{value:g}' if isinstance(value, float) else f'{value}'
      given.append(f' {key}="{html.escape(text)}"')
  start = f'<{name}{"".join(given)}>'
  return Markup(start if name in _EMPTY else f'{start}{join(content)}</{name}>')


def join(content: Content) -> Markup:
  """Texts, escaped, and markup, one after the other."""
  if content is None:
    return Markup('')
  if isinstance(content, Markup):
    return content
  if isinstance(content, str):
    return Markup(html.escape(content))
  return Markup(''.join(map(join, content)))
