"""Puts the explorer's page together: one HTML file that needs no server and asks for nothing.

The folder page/ holds index.html, styles and scripts, which are plain JavaScript: no build step, no
package. They stand in the page one after the other, in the order of `STYLES` and `SCRIPTS`.

To add a view:
  1. Write page/NAME.js: a block `{ ... }`, so that its names are its own, which calls
     `views.add({name, title, lead, defaults, create})`; page/views.js says what these are. Put NAME
     into `SCRIPTS` below; the views stand in the page's navigation in that order.
  2. Give `contents.contents` the data that it needs, under a name of its own; the page has it as
     `data('NAME')`. Data is JSON and is only parsed when it is first asked for.
  3. Open the page with #NAME behind its address.
The scripts before the views each define one name, that of the file: `dom` makes elements,
`controls` sliders and buttons, `figures` figures that can be saved, `views` keeps the state of a
view in the address, `geometry` derives sizes and receptive fields, as dilated_jax.nn.geometry does,
`engine` runs networks (createEngine), and `scene` draws the pictures of `scenes`.

The page may run the scripts and styles below and nothing else: its policy names their hashes, so
`style="..."` and `onclick="..."` in HTML do nothing. Set `element.style.left = ...` from a script;
colors come from the variables in style.css, which know light and dark.
"""

import base64
from collections.abc import Mapping
import hashlib
import html
import json
import pathlib
from typing import Any

FOLDER = pathlib.Path(__file__).parent / 'page'
STYLES = ('style', 'live', 'lesson')
SCRIPTS = (
  'dom',
  'controls',
  'figures',
  'geometry',
  'views',
  'pooling',
  'growth',
  'network',
  'image',
  'engine',
  'scene',
  'live',
  'lesson',
  'start',
)


def assemble(contents: Mapping[str, Any], title: str = 'Receptive-field explorer') -> str:
  """The page as one text.

  Args:
    contents: what the page shows: {name: anything that JSON can hold}. A view gets it by
      `data(name)`.
    title: of the page.

  Returns:
    HTML, to be written as UTF-8.
  """
  style = '\n'.join((FOLDER / f'{name}.css').read_text('utf-8') for name in STYLES)
  scripts = [(FOLDER / f'{name}.js').read_text('utf-8') for name in SCRIPTS]
  # The browser refuses whatever is not listed here, should a name in the data ever become markup.
  policy = {
    'default-src': ["'none'"],
    'script-src': [_hash(script) for script in scripts],
    'style-src': [_hash(style)],
    'img-src': ['data:', 'blob:'],
    'worker-src': ['blob:'],
    'base-uri': ["'none'"],
    'form-action': ["'none'"],
  }
  places = {
    'title': html.escape(title),
    'policy': '; '.join(' '.join([rule, *sources]) for rule, sources in policy.items()),
    'style': f'<style>{style}</style>',
    'data': '\n'.join(
      f'<script type="application/json" id="data-{html.escape(name)}">{embed(value)}</script>'
      for name, value in contents.items()
    ),
    'scripts': '\n'.join(f'<script>{script}</script>' for script in scripts),
  }
  head, *parts = (FOLDER / 'index.html').read_text('utf-8').split('{{')
  result = [head]
  for part in parts:  # Not by str.replace: what has been put in may hold a {{ itself.
    name, _, rest = part.partition('}}')
    result += [places[name], rest]
  return ''.join(result)


def embed(value: Any) -> str:
  """JSON that can stand inside a script element: no </script>, no <!-- and no line separators."""
  text = json.dumps(value, ensure_ascii=False, separators=(',', ':'), allow_nan=False)
  for character in '<>&\u2028\u2029':
    text = text.replace(character, f'\\u{ord(character):04x}')
  return text


def _hash(text: str) -> str:
  digest = hashlib.sha256(text.encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"
