"""The explorer's page as a file: whole, closed, and safe whatever names its data holds."""

import json
import re

import pytest

from experiments import explore
from experiments.explorer import contents, page
from tests import calling
from tests.experiments.explorer.conftest import wait_for

HOSTILE = {
  'name': '</script><script>alert(1)</script><!-- {{data}} \u2028 & "quoted"',
  'π': [1, None, 0.5],
}


def test_the_command_writes_it(tmp_path, capsys, monkeypatch, page_contents):
  monkeypatch.setattr(
    contents, 'contents', lambda *given: page_contents if given == (None,) * 3 else 0
  )
  calling.run(explore, f'--output={tmp_path}/page.html')
  assert capsys.readouterr().out == f'written to {tmp_path}/page.html\n'
  text = (tmp_path / 'page.html').read_text('utf-8')
  assert text.startswith('<!doctype html>') and text.rstrip().endswith('</html>')
  assert len(text.encode()) < 2e6
  # Nothing is loaded from elsewhere: what links there are, are links.
  assert not re.search(r'<(script|img|iframe|object)[^>]*\ssrc=', text)
  assert set(re.findall(r'<link rel="(\w+)"', text)) == {'icon'}
  assert '{{' not in text.partition('<script')[0]


def test_data_can_not_leave_its_element():
  text = page.assemble({'hostile': HOSTILE}, title='<b>"{{data}}')
  (element,) = re.findall(r'<script type="application/json" id="data-hostile">(.*?)</script>', text)
  assert json.loads(element) == HOSTILE
  assert not {'<', '>', '&', '\u2028'} & set(element)
  assert '<title>&lt;b&gt;&quot;{{data}}</title>' in text
  assert text.count('<script>') == len(page.SCRIPTS)


def test_numbers_that_json_lacks_are_refused():
  with pytest.raises(ValueError):
    page.assemble({'wrong': float('nan')})


def test_every_view_opens(tab):
  names = tab.evaluate('[...views.all.keys()]')
  assert names[0] == 'pooling' and tab.evaluate('location.hash') == '#pooling'
  for name in names:
    tab.click(f'nav a[href="#{name}"]')
    assert tab.locator('h1:visible').count() == 1
    assert tab.locator('nav a[aria-current=page]').get_attribute('href') == f'#{name}'
  for name in reversed(names[:-1]):
    tab.go_back()
    assert tab.evaluate('views.current.name') == name


def test_light_and_dark(tab):
  colors = []
  for _ in range(3):
    colors.append(tab.evaluate('getComputedStyle(document.body).backgroundColor'))
    tab.click('button.theme')
  assert colors[0] == colors[2] != colors[1]
  tab.emulate_media(color_scheme='dark')
  tab.evaluate('localStorage.clear()')
  tab.reload()
  assert tab.evaluate('getComputedStyle(document.body).backgroundColor') == colors[1]


def test_views_in_views_follow_the_theme_and_the_window(tab):
  tab.evaluate(
    """() => {
      const root = document.querySelector('main').appendChild(document.createElement('div'));
      root.id = 'here';
      window.inner = views.embed('pooling', root, {layer: 2});
      document.querySelector('main > section').hidden = true;
    }"""
  )
  heat = "document.querySelector('#here .heat').getAttribute('href')"
  width = "document.querySelector('#here svg.stack').viewBox.baseVal.width"
  before = tab.evaluate(heat), tab.evaluate(width)
  tab.click('button.theme')
  tab.set_viewport_size({'width': 600, 'height': 900})
  wait_for(tab, f'{width} < {before[1]}')
  assert tab.evaluate(heat) != before[0]
  assert tab.evaluate('[inner.state.layer, location.hash]') == [2, '#pooling']
