"""The view *Live*: the page runs a network, and draws a scene, as Python does."""

import base64
import json
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest

from dilated_jax import inference, models
from dilated_jax.data.builders import scenes
from dilated_jax.data.label_specs import SCENES
from dilated_jax.models import weights_folder
from dilated_jax.models.dilation import Dilation
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn.table import Layer, merge
from experiments import explore
from experiments.explorer import fields, live, page
from tests import calling
from tests.experiments.explorer.conftest import new_tab, settle, wait_for

# As the preset `scenes`.
OPTIONS = {
  'blocks': (1, 1, 1), 'width': 0.25, 'fc_channels': 64, 'fc_kernel': 3, 'norm': 'batch',
}  # fmt: skip


def segmenter(model, name='front_end', upsampling='deconvolution', **options):
  """A network with weights that leave nothing at 0 or in a tie."""
  rng = np.random.default_rng(0)

  def values(path, leaf):
    name = path[-1].key
    noise = rng.normal(size=leaf.shape).astype(np.float32)
    if name == 'kernel':
      # Logits of about 1: the softmax of large ones is 1 and 0, and pixels between them are ties.
      size = 0.05 if leaf.shape[2] == 3 else 1.5
      return noise * np.float32(size / np.prod(leaf.shape[:-1]) ** 0.5)
    return 1 + noise**2 / 4 if name in ('scale', 'var') else noise / 4

  variables = jax.tree_util.tree_map_with_path(values, weights_folder.abstract_variables(model))
  spec = ModelSpec(name, options, SCENES.names, SCENES.palette, SCENES.mean, upsampling=upsampling)
  return Segmenter(model, variables, spec)


# What node lacks.
IMAGE_DATA = """class ImageData {
  constructor(width, height) {
    Object.assign(this, {width, height, data: new Uint8ClampedArray(4 * width * height)});
  }
}"""


@pytest.fixture(scope='module')
def javascript(request):
  """Runs an expression behind the page's engine and scene; it has JSON, `given`, and makes some.

  In node, or where there is none in Chromium, which takes longer.
  """
  if not shutil.which('node'):
    tab = request.getfixturevalue('shared_tab')
    return lambda expression, given: tab.evaluate(f'(given) => ({expression})', given)
  sources = [(page.FOLDER / f'{name}.js').read_text('utf-8') for name in ('engine', 'scene')]

  def in_node(expression, given):
    read = 'const given = JSON.parse(require("fs").readFileSync(0));'
    write = f'process.stdout.write(JSON.stringify({expression}));'
    program = '\n'.join([*sources, IMAGE_DATA, read, write])
    command = ['node', '-e', program]
    return json.loads(subprocess.check_output(command, input=json.dumps(given).encode()))

  return in_node


LOADED = """(() => {
  const engine = createEngine(), network = engine.load(given.network);
  const image = {width: given.width, height: given.height, data: scene.bytes(given.pixels)};
  return RESULT;
})()"""


LOGITS = 'engine.logits(network, image).map((x) => ({...x, data: [...x.data]}))'
LABELS = 'engine.run(network, image).map((x) => [...x])'


def run(javascript, segmenter, image, result):
  """`result` of the engine, of a network and an image."""
  height, width = image.shape[:2]
  rgba = np.dstack([image, np.full((height, width), 255, np.uint8)])
  given = {
    'network': live.network(segmenter), 'width': width, 'height': height,
    'pixels': base64.b64encode(rgba.tobytes()).decode(),
  }  # fmt: skip
  return javascript(LOADED.replace('RESULT', result), given)


def test_every_kind_of_layer(javascript):
  table = (
    Layer('a', channels=6, stride=2, padding=1, activation='relu', norm='batch'),
    Layer('b', 'max_pool', kernel=3, stride=2, padding=1),
    Layer('c', channels=16, dilation=2, padding=2, activation='relu', norm='group', bias=False),
    Layer('d', 'avg_pool', kernel=3, stride=2, padding=1),
    Layer('e', channels=5, kernel=1, input_scale=0.5, activation='relu'),
    Layer('f', 'deconv', kernel=4, stride=2, padding=1),
    Layer('g', 'adaptive_avg_pool', kernel=3, inputs=('c',)),
    Layer('h', 'max_pool', kernel=2, stride=2, round_up=False),
    merge('i', 'resize', 'h', 'f'),
    Layer('j', 'deconv', kernel=4, stride=2, inputs=('d',)),
    merge('k', 'crop', 'j', padding=-1),
    merge('l', 'concat', 'f', 'i', 'k', activation='relu'),
    Layer('m', channels=7),
    Layer('n', channels=7, kernel=1, inputs=('l',)),
    merge('o', 'sum', 'm', 'n'),
  )
  network = segmenter(Dilation(7, table))
  image = np.random.default_rng(1).integers(0, 256, (39, 54, 3), np.uint8)
  (found,) = run(javascript, network, image, LOGITS)
  # What `inference` feeds: whole multiples of the stride.
  expected = inference.predict(network, image).logits
  assert (found['height'], found['width'], found['channels']) == expected.shape
  found = np.reshape(found['data'], expected.shape)
  np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize('name, upsampling, options', [
  ('dilation8', 'deconvolution', OPTIONS),
  ('dilation8', 'corner', OPTIONS | {'context': 'large', 'dilations': (1, 2, 4)}),
  ('dilation10', 'deconvolution', OPTIONS | {'dilations': (1, 2, 1)}),
  ('fcn8s', 'corner_logits', {'width': 0.15, 'fc_channels': 32, 'fc_kernel': 3}),
])  # fmt: skip
def test_labels_are_those_of_the_network(javascript, name, upsampling, options):
  network = segmenter(models.create(name, 7, **options), name, upsampling, **options)
  image = scenes.draw(scenes.FIRST_SEED['test'] + live.PICTURES[0])[0][:95, :131]
  result = f'{{logits: {LOGITS}, labels: {LABELS}}}'
  found = run(javascript, network, image, result)
  without = Segmenter.from_spec(network.spec.without_context(), network.variables)
  heads = [without, network] if 'context' in network.model.parts else [network]
  assert len(found['labels']) == len(heads)
  for labels, logits, head in zip(found['labels'], found['logits'], heads, strict=True):
    expected = inference.predict(head, image)
    logits = np.reshape(logits['data'], (logits['height'], logits['width'], -1))
    # Behind the image there may be more.
    logits = logits[: len(expected.logits), : expected.logits.shape[1]]
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4 * np.abs(logits).max())
    assert (np.reshape(labels, image.shape[:2]) != expected.labels).mean() <= 1e-4
    assert len(np.unique(expected.labels)) > 2 or name == 'fcn8s'


def test_scenes_are_drawn_as_in_python(javascript):
  for index in live.PICTURES[:2]:
    drawing = 'given.places.map((at) => [...scene.draw(scene.load(given.picture), [at]).data])'
    picture, seed = live.picture(index), scenes.FIRST_SEED['test'] + index
    x, y = picture['box'][:2]
    given = {'picture': picture, 'places': [[world, x, y] for world in scenes.WORLDS]}
    for world, found in zip(scenes.WORLDS, javascript(drawing, given), strict=True):
      image = np.reshape(found, (scenes.HEIGHT, scenes.WIDTH, 4))
      np.testing.assert_array_equal(image[..., :3], scenes.draw(seed, world)[0])
      assert (image[..., 3] == 255).all()


@pytest.mark.parametrize('most', [10**6, 0])
def test_weights_of_three_and_of_two_bytes(javascript, monkeypatch, most):
  monkeypatch.setattr(live, 'MOST_OF_THREE_BYTES', most)
  table = Layer('a', channels=9, activation='relu'), Layer('b', channels=7)
  network = segmenter(Dilation(7, table))
  image = np.random.default_rng(1).integers(0, 256, (9, 11, 3), np.uint8)
  (found,) = run(javascript, network, image, LOGITS)
  expected = inference.predict(network, image).logits
  error = (
    np.abs(np.reshape(found['data'], expected.shape) - expected).max() / np.abs(expected).max()
  )
  assert error < (1e-6 if most else 1e-4)


def test_what_a_page_does_not_run():
  small = models.create('dilation8', 7, **OPTIONS)
  assert live.why_not(segmenter(small)) is None
  for model, words in (
    (models.create('dilation8', 7, crf='rnn', **OPTIONS), 'CRF-RNN'),
    (models.create('deeplab_v2', 7, width=0.02, multi_scale=True), 'several scales'),
    (models.create('dilation8', 7, width=0.25), r'has [\d,]+ weights; .* up to 1,000,000'),
  ):
    refused = live.contents(Segmenter(model, {}, None))
    assert re.search(words, refused['refused']) and len(refused) == 1


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A weights folder as `train` leaves one, and its network."""
  network = segmenter(models.create('dilation8', 7, **OPTIONS), 'dilation8', **OPTIONS)
  folder = tmp_path_factory.mktemp('weights') / 'weights'
  weights_folder.save_weights(folder, network.spec, network.variables)
  return folder, network


# Label maps from the colors of a drawing's pixels; 99 where a mark covers them.
SHOWN = """([i, palette]) => {
  const canvas = document.querySelectorAll('.view-live canvas')[i];
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const pen = copy.getContext('2d', {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
  const ids = new Map(palette.map((color, id) => [String(color), id])), result = [];
  for (let r = 2; r < canvas.height; r += 4) {
    for (let q = 2; q < canvas.width; q += 4) {
      const at = 4 * (r * canvas.width + q);
      result.push(ids.get(String([...data.subarray(at, at + 3)])) ?? 99);
    }
  }
  return result;
}"""


@pytest.mark.slow
def test_the_view(browser, trained, tmp_path, monkeypatch):
  folder, network = trained
  monkeypatch.setattr(fields, 'POINTS', (1, 1))  # Those of another view take their time.
  calling.run(explore, f'--weights={folder}', f'--output={tmp_path}/page.html')
  assert (tmp_path / 'page.html').stat().st_size < 2e6
  without = Segmenter.from_spec(network.spec.without_context(), network.variables)
  opened = new_tab(browser, tmp_path / 'page.html')
  tab = next(opened)
  tab.evaluate("location.hash = 'live?column=2&row=125'")

  def expect(image):
    tab.wait_for_selector('.view-live [aria-busy=false]')
    for i, head in enumerate((without, network), 1):
      shown = np.reshape(tab.evaluate(SHOWN, [i, SCENES.palette]), image.shape[:2])
      seen = shown != 99
      assert seen.mean() > 0.98
      assert (shown != inference.predict(head, image).labels)[seen].mean() <= 1e-4

  seed = scenes.FIRST_SEED['test'] + live.PICTURES[0]
  expect(scenes.draw(seed, 'sea')[0])
  said = tab.inner_text('.view-live [role=status]')
  assert said.startswith('With a lighthouse in the picture, the front end takes the plain for ')

  # The other landmark in its place.
  tab.get_by_role('button', name='Lighthouse ⇄ cabin').click()
  wait_for(tab, "location.hash.includes('landmark=cabin')")
  settle(tab)  # It is at work on it now, or done.
  expect(scenes.draw(seed, 'snow')[0])
  assert tab.evaluate('location.hash') == '#live?landmark=cabin&column=2&row=125'

  # By the keyboard, and by hand.
  x, y = scenes.plan(seed).box[:2]
  tab.locator('.view-live canvas').first.focus()
  tab.keyboard.press('ArrowLeft')
  tab.keyboard.press('Shift+ArrowDown')
  wait_for(tab, f'location.hash.includes("x={x - 8}&y={y + 1}")')
  box = tab.locator('.view-live canvas').first.bounding_box()
  zoom = box['width'] / scenes.WIDTH
  start = box['x'] + (x + 2) * zoom, box['y'] + (y + 11) * zoom
  tab.mouse.move(*start)
  tab.mouse.down()
  entries = tab.evaluate('history.length')
  tab.mouse.move(start[0] + 10 * zoom, start[1])
  wait_for(tab, f'location.hash.includes("x={x + 2}&y={y + 1}")')  # The hand rests.
  tab.mouse.up()
  wait_for(tab, f'history.length === {entries + 1}')
  assert f'x={x + 2}&y={y + 1}' in tab.evaluate('location.hash')
  tab.go_back()
  wait_for(tab, f'location.hash.includes("x={x - 8}&y={y + 1}")')
  tab.locator('.view-live [aria-busy=false]').wait_for()
  next(opened, None)


def test_without_weights_the_page_says_how_to_get_them(shared_tab):
  shared_tab.evaluate("location.hash = 'live'")
  shared_tab.get_by_text('demo/explorer.html').wait_for()
