"""The explorer's page in a browser."""

import pytest

from experiments.explorer import contents, page as pages
from tests.browser import PATIENCE


@pytest.fixture(scope='session')
def page_contents():
  """The data of the default page."""
  return contents.contents()


@pytest.fixture(scope='session')
def page_file(tmp_path_factory, page_contents):
  """The default page."""
  path = tmp_path_factory.mktemp('explorer') / 'page.html'
  path.write_text(pages.assemble(page_contents), 'utf-8')
  return path


@pytest.fixture
def tab(browser, page_file):
  """The default page in a new tab; the test fails if anything is written to its console."""
  yield from new_tab(browser, page_file)


@pytest.fixture(scope='module')
def shared_tab(browser, page_file):
  """The same for all tests of a module, for those that leave nothing behind."""
  yield from new_tab(browser, page_file)


def settle(tab):
  """Waits until what was changed is drawn."""
  tab.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')


def wait_for(tab, expression):
  """Waits until an expression holds. The page's policy forbids what Playwright would do for it."""
  for _ in range(50 * PATIENCE):
    if tab.evaluate(expression):
      return
    tab.wait_for_timeout(20)
  raise AssertionError(f'never: {expression}')


def new_tab(browser, path, **options):
  """Opens the file in a context of its own; nothing may be asked for, and nothing may fail."""
  context = browser.new_context(**{'viewport': {'width': 1280, 'height': 900}} | options)
  context.set_default_timeout(1000 * PATIENCE)
  tab, messages = context.new_page(), []
  tab.on('console', lambda message: messages.append(f'{message.type}: {message.text}'))
  tab.on('pageerror', lambda error: messages.append(f'error: {error}'))
  asked = []
  tab.on('request', lambda request: asked.append(request.url))
  tab.goto(path.as_uri())
  yield tab
  context.close()
  assert not messages
  assert {url for url in asked if not url.startswith(('data:', 'blob:'))} == {path.as_uri()}
