"""Pages of HTML as tests read them: tables by caption, texts, attributes, what could run script."""

import html.parser
import re


class Page(html.parser.HTMLParser):
  """A page that was read.

  Attributes:
    tables: rows of texts by caption.
    tags: (name, attributes) of all elements.
    text: of the whole page.
    policy: the content security policy.
  """

  def __init__(self, content: bytes):
    super().__init__()
    self.tables, self.tags, self.text, self.policy = {}, [], '', ''
    self._open, self._caption, self._row, self._cell = [], None, None, None
    self.feed(content.decode())
    self.close()
    assert not self._open, f'not closed: {self._open}'

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    assert len(attributes) == len(attrs), f'{tag} has an attribute twice'
    self.tags.append((tag, attributes))
    if attributes.get('http-equiv') == 'Content-Security-Policy':
      self.policy = attributes['content']
    if tag not in ('meta', 'img', 'br', 'wbr'):
      self._open.append(tag)
    if tag == 'caption':
      self._caption = ''
    elif tag == 'tr':
      self._row = []
    elif tag in ('td', 'th'):
      self._cell = ''

  def handle_endtag(self, tag):
    assert self._open and self._open.pop() == tag, f'</{tag}> where it does not belong'
    if tag == 'caption':
      self._rows = self.tables.setdefault(self._caption, [])
      self._caption = None
    elif tag in ('td', 'th'):
      self._row.append(self._cell.strip())
      self._cell = None
    elif tag == 'tr':
      self._rows.append(self._row)

  def handle_data(self, data):
    self.text += data
    if self._caption is not None:
      self._caption += data
    if self._cell is not None:
      self._cell += data

  def check_harmless(self) -> None:
    """Fails where anything could run script, or be asked for from elsewhere."""
    assert "default-src 'none'" in self.policy and 'script' not in self.policy
    names = {name for name, _ in self.tags}
    assert not names & {
      'script',
      'iframe',
      'object',
      'embed',
      'link',
      'base',
      'form',
      'foreignobject',
    }
    for name, attributes in self.tags:
      for key, value in attributes.items():
        assert re.fullmatch(r'[a-zA-Z][\w:-]*', key) and not key.startswith('on'), (name, key)
        assert key != 'style', 'the policy allows no style attributes'
        if key in ('src', 'href', 'xlink:href', 'srcdoc'):
          kind = 'data:image/' if key == 'src' else ('#', *map(chr, range(97, 123)))
          assert value.startswith(kind) and not value.lower().startswith('javascript'), value
