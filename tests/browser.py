"""A real browser: Debian's Chromium, driven by Playwright's client."""

import os
import shutil

import pytest

PATIENCE = 120  # Seconds, on a machine that does much else.
# Where a browser may be; $CHROMIUM names another.
NAMES = ('chromium', 'chromium-browser', 'google-chrome')


@pytest.fixture(scope='session')
def browser():
  """A headless Chromium, the same for all tests of a process."""
  playwright = pytest.importorskip(
    'playwright.sync_api', reason='no Playwright: pip install playwright'
  )
  path = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)
  if path is None:
    pytest.skip('no Chromium: apt install chromium, or set CHROMIUM to its path')
  with playwright.sync_playwright() as driver:
    # Root has no sandbox, and containers have a small /dev/shm.
    options = ['--no-sandbox', '--disable-dev-shm-usage', '--use-angle=swiftshader']
    chromium = driver.chromium.launch(executable_path=path, args=options, timeout=1000 * PATIENCE)
    yield chromium
    chromium.close()
