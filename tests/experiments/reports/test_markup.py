"""markup.py: every text is escaped, whatever it is."""

import html

import pytest

from experiments.reports.markup import Markup, element, join
from tests.html_pages import Page

HOSTILE = [
  '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "' onclick='alert(1)", '</title>',
  '</style><script>', '<!--', '&lt;b&gt;', 'a & b', '\\u003cscript\\u003e', 'javascript:alert(1)',
]  # fmt: skip


@pytest.mark.parametrize('text', HOSTILE)
def test_texts_and_attributes_are_escaped(text):
  made = element('p', text, [text, element('b', text)], title=text, data_name=text)
  page = Page(made.encode())
  assert [name for name, _ in page.tags] == ['p', 'b']
  assert page.tags[0][1] == {'title': text, 'data-name': text}
  assert page.text == 3 * text and made.count(html.escape(text)) == 5


def test_what_is_left_out():
  made = element('td', None, '', ['a', None], class_=None, hidden=False, open_=True, width=1.5)
  assert made == '<td open width="1.5">a</td>'
  assert element('img', alt='') == '<img alt="">'


def test_markup_stays():
  assert join([Markup('<i>'), '<i>']) == '<i>&lt;i&gt;' and isinstance(join('a'), Markup)
