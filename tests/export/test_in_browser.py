"""An exported network in Chromium: the page of docs/export.md, by onnxruntime-web."""

import base64
import dataclasses
import functools
import http.server
import io
import pathlib
import re
import shutil
import threading

import numpy as np
import PIL.Image
import pytest

from dilated_jax import inference, models
from dilated_jax.export import onnx
from tests.export.networks import segmenter

ROOT = pathlib.Path(__file__).parents[2]
# The preset scenes.
SCENES = dict(blocks=(1, 1, 1), width=0.25, fc_channels=64, fc_kernel=3, norm='batch')


class Quiet(http.server.SimpleHTTPRequestHandler):
  """Serves a folder without a word."""

  extensions_map = {'.mjs': 'text/javascript', '.wasm': 'application/wasm', '': 'text/plain'} | {
    '.html': 'text/html', '.json': 'application/json', '.onnx': 'application/octet-stream'
  }  # fmt: skip

  def log_message(self, *_):
    pass


@pytest.fixture
def address(tmp_path):
  """Of a folder that is served on this machine."""
  handler = functools.partial(Quiet, directory=tmp_path)
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def test_labels_in_a_browser(browser, address, tmp_path):
  package = sorted(ROOT.glob('.cache/onnxruntime-web-*/dist'))
  if not package:
    pytest.skip('no onnxruntime-web: .ci/browser fetches it')
  shutil.copytree(package[-1], tmp_path, dirs_exist_ok=True)
  (page,) = re.findall(r'```html\n(.*?)```', (ROOT / 'docs/export.md').read_text(), re.S)
  (tmp_path / 'index.html').write_text(page)
  network = segmenter('front_end', classes=5, gain=0.8, **SCENES)
  palette = tuple((50 * i, 255 - 50 * i, 128) for i in range(5))
  network = network._replace(spec=dataclasses.replace(network.spec, palette=palette))
  models.save_weights(tmp_path / 'weights', network.spec, network.variables)
  shutil.copy(tmp_path / 'weights/model.json', tmp_path)
  (tmp_path / 'network.onnx').write_bytes(onnx.export(network))
  image = np.random.default_rng(0).integers(0, 256, (7, 10, 3)).astype(np.uint8)
  image = np.kron(image, np.ones((9, 9, 1), np.uint8))[:-1, :-2]
  PIL.Image.fromarray(image).save(tmp_path / 'image.png')

  tab, messages = browser.new_page(), []
  tab.on('console', lambda message: messages.append(message.text))
  tab.on('pageerror', lambda error: messages.append(str(error)))
  tab.goto(f'{address}/index.html')
  tab.set_input_files('input', tmp_path / 'image.png')
  tab.wait_for_function('document.querySelector("p").textContent')
  said = tab.text_content('p')
  url = tab.evaluate('document.querySelector("canvas").toDataURL()')
  tab.close()

  expected = inference.predict(network, image, tile='whole').labels
  seen = np.asarray(
    PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(',')[2]))).convert('RGB')
  )
  wanted = np.rint((image.astype(float) + np.asarray(palette)[expected]) / 2)
  np.testing.assert_array_equal(seen, wanted.astype(np.uint8))
  assert len(np.unique(expected)) > 1
  assert set(said.split(', ')) == {network.spec.classes[i] for i in np.unique(expected)}
  assert not messages
