"""Effective fields: derivatives of a trained network, against differences of its own logits."""

import base64
import io
import json
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest

from dilated_jax import models
from dilated_jax.data.label_specs import CAMVID
from dilated_jax.errors import InputError
from dilated_jax.images.preprocessing import reflect_pad
from dilated_jax.inference import predict
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from experiments import explore
from experiments.explorer import contents, fields, page
from tests import calling

OPTIONS = {'blocks': (1, 1), 'width': 0.06, 'stride': 4, 'fc_kernel': 3, 'dilations': (1, 2, 1)}


@pytest.fixture(scope='module')
def segmenter():
  spec = ModelSpec(
    model='dilation8', options=OPTIONS, classes=CAMVID.names, palette=CAMVID.palette,
    mean=CAMVID.mean, upsampling='corner',
  )  # fmt: skip
  model = spec.create()
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 60, 60, 3), np.float32))
  # Trained context modules are no identity.
  noisy = jax.tree.map(lambda x: x + 0.05 * np.random.default_rng(x.size).standard_normal(
    x.shape, np.float32), variables)  # fmt: skip
  return Segmenter(model, noisy, spec)


@pytest.fixture(scope='module')
def image():
  return np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


def decoded(network, count):
  found = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(network['maps'].split(',')[1]))))
  return found.reshape(count, *network['map_size'])


@pytest.fixture(scope='module')
def measured(segmenter, image):
  return fields.measure(segmenter, image, 'a network', 'noise')


def test_fields_are_differences_of_logits(segmenter, image, measured):
  """How bright two blocks are, by changing each of their values a little."""
  model, spec = segmenter.model, segmenter.spec
  index = 17  # In the middle.
  (row, column), whole = measured['points'][index], measured['networks'][-1]
  shares = decoded(whole, len(measured['points']))[index] / 255
  cell = tuple(round(place / model.stride) for place in (row, column))
  prediction = predict(segmenter, image)
  label = int(prediction.logits[cell].argmax())
  assert spec.classes[label] == whole['found'][index]['label']

  @jax.jit
  def logits(padded):
    return model.apply(segmenter.variables, padded)[:, *cell, label]

  def total(block):
    """The sum of absolute central differences of the values of a block."""
    corner = [fields.BLOCK * place for place in np.unravel_index(block, shares.shape)]
    steps = np.zeros((fields.BLOCK**2 * 3, *image.shape), np.float32)
    for i, (y, x, color) in enumerate(np.ndindex(fields.BLOCK, fields.BLOCK, 3)):
      steps[i, corner[0] + y, corner[1] + x, color] = 0.05
    moved = [
      logits(reflect_pad(image + sign * steps, model.margin, model.stride) - np.float32(spec.mean))
      for sign in (1, -1)
    ]
    return np.abs(moved[0] - moved[1]).sum()

  order = np.argsort(shares.ravel())
  brightest, other = order[-1], order[-shares.size // 4]
  assert shares.max() == 1 and 0.1 < shares.ravel()[other] < 0.9
  assert total(other) / total(brightest) == pytest.approx(shares.ravel()[other] ** 2, rel=0.05)


def test_fields_stay_inside_the_receptive_field(segmenter, measured):
  for network, known in zip(measured['networks'], ('front_end_table', 'table'), strict=True):
    table = getattr(segmenter.model, known)
    assert network['field'] == explore.geometry.receptive_field(table)
    assert network['context'] == (known == 'table')
    for point, shares in zip(measured['points'], decoded(network, len(measured['points']))):
      y, x = np.nonzero(shares)
      reach = network['field'] / 2 + 2 * fields.BLOCK
      assert max(abs(4 * y - point[0]).max(), abs(4 * x - point[1]).max()) <= reach
  halves = [[found['half'] for found in network['found']] for network in measured['networks']]
  assert 0 < np.median(halves[0]) < np.median(halves[1])


def test_large_images_are_refused(segmenter):
  with pytest.raises(InputError, match=r'8x1100 pixels as the network sees it.* smaller'):
    fields.measure(segmenter, np.zeros((8, 1100, 3), np.uint8), '', '')


def test_a_page_of_ones_own_network(segmenter, image, tmp_path, monkeypatch):
  weights_folder.save_weights(tmp_path / 'mine', segmenter.spec, segmenter.variables)
  PIL.Image.fromarray(image).save(tmp_path / '<photo>.png')
  monkeypatch.setattr(contents.network_data, 'all_networks', lambda: ())
  calling.run(explore, f'--weights={tmp_path}/mine', f'--image={tmp_path}/<photo>.png',
              f'--output={tmp_path}/page.html')  # fmt: skip
  text = (tmp_path / 'page.html').read_text('utf-8')
  (found,) = (json.loads(line.partition('>')[2].rpartition('</script>')[0])
              for line in text.splitlines() if 'id="data-image"' in line)  # fmt: skip
  assert found['title'] == 'dilation8 of mine' and found['credit'] == '<photo>.png'
  assert '<photo>' not in text
  PIL.Image.new('RGB', (1100, 8)).save(tmp_path / 'wide.png')
  with pytest.raises(InputError, match=r'wide.png: an image of 8x1100 pixels as the network sees'):
    calling.run(explore, f'--weights={tmp_path}/mine', f'--image={tmp_path}/wide.png',
                f'--output={tmp_path}/page.html')  # fmt: skip
  with pytest.raises(InputError, match='--image=x: is for a page of a trained network'):
    calling.run(explore, '--image=x', f'--output={tmp_path}/page.html')


def test_what_comes_with_the_package():
  found = fields.shipped()
  front_end, whole = found['networks']
  assert (front_end['field'], whole['field']) == (94, 358)
  assert models.create('dilation8', 11).stride == 8 and whole['stride'] == 4
  for network in (front_end, whole):
    assert decoded(network, len(found['points'])).any(axis=(1, 2)).all()
  assert 'CC BY 2.0' in found['credit'] and 'CamVid' in found['provenance']
  assert pathlib.Path(page.FOLDER / 'photo.jpg').exists()
