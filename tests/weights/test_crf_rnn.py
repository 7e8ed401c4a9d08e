"""The CRF-RNN of a Caffe file: its layer is found, its signs are turned, it refines a network."""

from absl import flags
import jax
import numpy as np
import pytest

import dilated_jax
from dilated_jax import inference
from dilated_jax.crf import CrfRnn
from dilated_jax.errors import InputError
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import ops
from dilated_jax.weights import crf_rnn
from experiments import convert
from tests.caffe_files import Layer, Network, caffemodel

CLASSES = LabelSpec('toys', ('a', 'b', 'c'), ((9, 0, 0), (0, 9, 0), (0, 0, 9)), (90.0, 90.0, 90.0))
OPTIONS = {'blocks': [1], 'width': 1 / 16, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4}


def published(classes=3, kind='MultiStageMeanfield', count=3, spare=()):
  rng = np.random.default_rng(0)
  blobs = [rng.normal(size=(*spare, classes, classes)).astype(np.float32) for _ in range(count)]
  convolution = Layer('score', 'Convolution', (np.ones((3, 3, 1, 1)), np.ones(3)))
  layers = (convolution, Layer('inference1', kind, tuple(blobs)))
  return Network('TVG', layers, (1, 3, 500, 500)), blobs


@pytest.mark.parametrize('spare', [(), (1, 1)])
def test_arrays_and_signs(tmp_path, spare):
  network, blobs = published(spare=spare)
  path = tmp_path / 'crf.caffemodel'
  path.write_bytes(caffemodel(network))
  found = crf_rnn.read(path)
  np.testing.assert_array_equal(found['spatial'], blobs[0].reshape(3, 3))
  np.testing.assert_array_equal(found['bilateral'], blobs[1].reshape(3, 3))
  np.testing.assert_array_equal(found['compatibility'], -blobs[2].reshape(3, 3))


@pytest.mark.parametrize(
  'options, words',
  [
    ({'kind': 'Pooling'}, 'has 0 layers of kind MultiStageMeanfield'),
    ({'count': 2}, 'three square ones of one size'),
  ],
)
def test_other_files_are_refused(tmp_path, options, words):
  path = tmp_path / 'crf.caffemodel'
  path.write_bytes(caffemodel(published(**options)[0]))
  with pytest.raises(InputError, match=words):
    crf_rnn.read(path)
  path.write_bytes(b'not a network')
  with pytest.raises(InputError, match=r'is no \.caffemodel'):
    crf_rnn.read(path)


def test_behind_a_network_by_command(tmp_path, capsys):
  spec = ModelSpec('front_end', OPTIONS, CLASSES.names, CLASSES.palette, CLASSES.mean)
  model, rng = spec.create(), np.random.default_rng(0)
  shapes = weights_folder.abstract_variables(model)
  variables = jax.tree.map(lambda x: 0.1 * rng.standard_normal(x.shape, np.float32), shapes)
  weights_folder.save_weights(tmp_path / 'network', spec, variables)
  (tmp_path / 'crf.caffemodel').write_bytes(caffemodel(published()[0]))
  values = flags.FlagValues()
  convert.define_flags(values)
  given = [f'--source={tmp_path}/crf.caffemodel', f'--attach_crf_to={tmp_path}/network']
  values(['convert', *given, f'--output={tmp_path}/both'])
  convert.main(values)
  assert 'front_end with a CRF-RNN' in capsys.readouterr().out

  image = rng.integers(0, 256, (12, 14, 3), np.uint8)
  found = dilated_jax.predict(dilated_jax.load(tmp_path / 'both'), image)
  # The network's own answer, upsampled, and then the layer by itself.
  logits = inference.predict(Segmenter(model, variables, spec), image).logits
  refined = CrfRnn(3).apply(
    {'params': crf_rnn.read(tmp_path / 'crf.caffemodel')},
    ops.resize_corner(logits[None], 2),
    image[None],
  )
  np.testing.assert_allclose(found.probabilities, jax.nn.softmax(refined)[0], atol=1e-5)

  (tmp_path / 'crf.caffemodel').write_bytes(caffemodel(published(classes=4)[0]))
  with pytest.raises(InputError, match='tells 4 classes apart, and the network 3'):
    convert.main(values)
  values['mean'].parse('1,2,3')
  with pytest.raises(InputError, match='--mean is of a network'):
    convert.main(values)
