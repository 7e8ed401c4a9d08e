"""pretrained.py: what of other weights a network starts from, for any network and any classes."""

import dataclasses

import jax
import numpy as np
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.models import deeplab, pretrained, weights_folder
from dilated_jax.models.spec import ModelSpec

NARROW = {'blocks': [1, 1, 1, 1, 1], 'width': 1 / 32, 'fc_channels': 4, 'fc_kernel': 3}
RESIDUAL = {'blocks': [1, 1, 1, 1], 'width': 1 / 32}


def spec_of(model, classes, **options):
  classes = tuple(classes)
  colors = tuple((index, 0, 0) for index in range(len(classes)))
  return ModelSpec(model, options, classes, colors, (1.0, 2.0, 3.0))


def drawn(spec, seed):
  rng = np.random.default_rng(seed)
  shapes = weights_folder.abstract_variables(spec.create())
  return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


def saved(folder, spec, seed=1, **about):
  variables = drawn(spec, seed)
  weights_folder.save_weights(folder, dataclasses.replace(spec, **about), variables)
  return variables


def start(own, folder, seed=2):
  before = drawn(own, seed)
  found, fresh = models.load_pretrained(own, before, folder)
  return before, found, fresh


def told(caplog):
  return [record.getMessage() for record in caplog.records if record.name == 'absl']


def assert_equal(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
  'model, options, of_class',
  [
    ('front_end', NARROW, {'final'}),
    ('dilation8', {**NARROW, 'dilations': [1, 2, 1]},
     {'final', 'ctx_conv1_1', 'ctx_conv1_2', 'ctx_fc1', 'ctx_final'}),
    ('dilation8', {**NARROW, 'dilations': [1, 2, 1], 'context': 'large'},
     {'final', 'ctx_conv1_1', 'ctx_conv1_2', 'ctx_fc1', 'ctx_final'}),
    ('dilation8', {**NARROW, 'dilations': [1, 2, 1], 'context_channels': [8, 8, 8]},
     {'final', 'ctx_conv1_1', 'ctx_final'}),
    ('front_end', {**NARROW, 'crf': 'rnn'}, {'final', 'spatial', 'bilateral', 'compatibility'}),
    ('fcn8s', {**NARROW, 'fc_kernel': 7}, {'score_fr', 'score_pool4', 'score_pool3'}),
    ('deeplab_msc', NARROW, {'fc8'}),
    ('deeplab_v2', {key: NARROW[key] for key in ('blocks', 'width', 'fc_channels')},
     {'fc8_1', 'fc8_2', 'fc8_3', 'fc8_4'}),
    ('deeplab_v3', RESIDUAL, {'final'}),
    ('pspnet', RESIDUAL, {'final', 'aux_final'}),
    ('fcn_resnet', {**RESIDUAL, 'auxiliary': True}, {'final', 'aux_final'}),
  ],
)  # fmt: skip
def test_another_number_of_classes(model, options, of_class, tmp_path, caplog):
  """What depends on it starts afresh, the log says which, and all else is taken."""
  given = saved(tmp_path / 'given', spec_of(model, 'abcd', **options))
  caplog.clear()
  before, found, fresh = start(spec_of(model, ['x', 'y', 'z'], **options), tmp_path / 'given')
  assert {layer.partition('/')[2] for layer in fresh} == of_class
  for kind, parts in found.items():
    for part, layers in parts.items():
      for name, layer in layers.items():
        assert_equal(layer, (before if name in of_class else given)[kind][part][name])
  (line,) = [text for text in told(caplog) if 'start afresh: they depend on the classes' in text]
  assert {name.rpartition('/')[2] for name in line.split(': ')[1].split(', ')} == of_class


@pytest.mark.parametrize('kind', ['basic', 'large'])
def test_the_same_classes_in_another_order(kind, tmp_path, caplog):
  """Every logit is that of the class of the same name."""
  options = {**NARROW, 'blocks': [1], 'stride': 2, 'dilations': [1, 2, 1], 'context': kind}
  given = spec_of('dilation8', ['sky', 'road', 'traffic light', 'car'], **options)
  variables = saved(tmp_path / 'given', given)
  own = spec_of('dilation8', ['Car', 'sky', 'Traffic_Light', 'road'], **options)
  _, found, fresh = start(own, tmp_path / 'given')
  assert not fresh
  image = np.random.default_rng(0).normal(0, 1, (1, 40, 40, 3)).astype(np.float32)
  logits = jax.jit(own.create().apply)(found, image)
  expected = jax.jit(given.create().apply)(variables, image)
  np.testing.assert_allclose(logits, expected[..., [3, 0, 2, 1]], 1e-4, 1e-4)
  assert any('by name' in text for text in told(caplog))


def test_classes_of_the_same_name(tmp_path, caplog):
  """Their rows are taken, in kernels of classes by classes too; other classes start afresh."""
  options = {**NARROW, 'crf': 'rnn'}
  given = saved(tmp_path / 'given', spec_of('front_end', ['sky', 'road', 'car', 'tree'], **options))
  own = spec_of('front_end', ['car', 'dog', 'sky'], **options)
  before, found, fresh = start(own, tmp_path / 'given')
  assert fresh == {'front_end/final', 'crf/spatial', 'crf/bilateral', 'crf/compatibility'}
  before, found, given = (tree['params'] for tree in (before, found, given))
  old, new, theirs = (tree['front_end']['final']['bias'] for tree in (before, found, given))
  np.testing.assert_array_equal(new, [theirs[2], old[1], theirs[0]])
  old, new, theirs = (tree['crf']['spatial'] for tree in (before, found, given))
  expected = old.copy()
  for i, j in ((0, 2), (2, 0)):  # car and sky there.
    expected[i, i], expected[i, 2 - i] = theirs[j, j], theirs[j, 2 - j]
  np.testing.assert_array_equal(new, expected)
  assert any('classes that these weights know: car, sky; others: dog' in text
             for text in told(caplog))  # fmt: skip


@pytest.mark.parametrize(
  'own, given, expected',
  [
    (['a', 'b'], ['b', 'a'], {0: 1, 1: 0}),
    (['a', 'b'], ['c', 'd'], {}),
    (['class 0', 'class 255'], ['background', 'cat'], {0: 0, 1: 1}),
    (['background', 'cat'], ['class 0', 'class 1'], {0: 0, 1: 1}),
    (['class 0', 'class 1', 'class 2'], ['class 1', 'class 0'], {0: 1, 1: 0}),
    (['class 0', 'class 1'], ['a', 'b', 'c'], {}),
  ],
)
def test_matching_of_classes(own, given, expected):
  assert pretrained.match_classes(own, given) == expected


def test_untrained_layers_are_none_to_start_from(tmp_path, caplog):
  spec = spec_of('front_end', ['a', 'b'], **NARROW)
  saved(tmp_path / 'vgg', spec, untrained=('fc6', 'final'))
  before, found, fresh = start(spec, tmp_path / 'vgg')
  assert fresh == {'front_end/fc6', 'front_end/final'}
  for name in ('fc6', 'final'):
    assert_equal(found['params']['front_end'][name], before['params']['front_end'][name])
  assert any('fc6, front_end/final: start afresh: they are untrained' in text
             for text in told(caplog))  # fmt: skip


def test_parts(tmp_path):
  own = spec_of('dilation8', 'abc', **NARROW, dilations=[1, 2, 1])
  given = saved(tmp_path / 'given', own)
  _, both, fresh = start(own, tmp_path / 'given')
  assert_equal(both, given)
  assert not fresh
  before = drawn(own, 2)
  front_end = {'params': {'front_end': before['params']['front_end']}}
  part = models.load_pretrained(own, front_end, tmp_path / 'given').variables
  assert_equal(part, {'params': {'front_end': given['params']['front_end']}})
  assert_equal(front_end['params']['front_end'], drawn(own, 2)['params']['front_end'])
  alone = own.without_context()
  saved(tmp_path / 'alone', alone)
  _, _, fresh = start(own, tmp_path / 'alone')
  assert fresh == {f'context/ctx_{name}' for name in ('conv1_1', 'conv1_2', 'fc1', 'final')}


def test_layers_of_another_network_that_fit(tmp_path, caplog):
  options = {**NARROW, 'fc_kernel': 7}
  given = saved(tmp_path / 'fcn32s', spec_of('fcn32s', 'abc', **options))
  for model, kernel, others in (
    ('fcn8s', 7, {'score_pool4', 'score_pool3'}),
    ('deeplab_largefov', 5, {'fc6', 'fc8'}),  # No taps of seven are five, evenly apart.
  ):
    caplog.clear()
    own = spec_of(model, 'abc', **{**options, 'fc_kernel': kernel})
    before, found, fresh = start(own, tmp_path / 'fcn32s')
    for name, layer in found['params']['front_end'].items():
      assert_equal(layer, (before if name in others else given)['params']['front_end'][name])
    assert {layer.partition('/')[2] for layer in fresh} == others
    assert all(any(name in text for text in told(caplog)) for name in others)


def test_other_shapes_for_another_reason(tmp_path):
  spec = spec_of('dilation8', 'abc', **NARROW, dilations=[1, 2, 1])
  saved(tmp_path / 'given', spec)
  for number in (3, 5):  # Of as many classes, or of others too.
    for changed, layer in (
      ({'fc_channels': 5}, 'front_end/fc6'), ({'context': 'large'}, 'context/ctx_conv1_1')
    ):  # fmt: skip
      own = spec_of('dilation8', 'abcde'[:number], **{**spec.options, **changed})
      with pytest.raises(InputError, match=f'{layer} of this dilation8 has shapes .* wants') as why:
        start(own, tmp_path / 'given')
      assert ('those of a stage before the context' in str(why.value)) == ('ctx' in layer)
  with pytest.raises(InputError, match='nothing of this dilation8 fits'):
    models.load_pretrained(spec, {'params': {'crf': {}}}, tmp_path / 'given')


def vgg_folder(folder, **about):
  """VGG of 7x7 taps and twice as many channels in fc6 and fc7."""
  options = {'blocks': [1, 1, 1, 1, 1], 'width': 1 / 32, 'fc_channels': 8}
  return saved(folder, spec_of('front_end', 'abc', **options), untrained=('final',), **about)


def test_fc6_and_fc7_of_deeplab_are_every_nth_of_vgg(tmp_path, caplog):
  given = vgg_folder(tmp_path / 'vgg')['params']['front_end']
  own = spec_of('deeplab_largefov', 'abcd', **{**NARROW, 'fc_channels': 2})
  _, found, fresh = start(own, tmp_path / 'vgg')
  found = found['params']['front_end']
  assert fresh == {'front_end/fc8'}
  np.testing.assert_array_equal(found['conv5_1']['kernel'], given['conv5_1']['kernel'])
  # Taps 0, 3, 6 of seven; every fourth channel of eight.
  for tap in range(3):
    expected = given['fc6']['kernel'][3 * tap, ::3, :, ::4]
    np.testing.assert_array_equal(found['fc6']['kernel'][tap], expected)
  np.testing.assert_array_equal(found['fc6']['bias'], given['fc6']['bias'][::4])
  np.testing.assert_array_equal(found['fc7']['kernel'], given['fc7']['kernel'][:, :, ::4, ::4])
  np.testing.assert_array_equal(found['fc7']['bias'], given['fc7']['bias'][::4])
  assert any('fc6, front_end/fc7: start from every n-th tap' in line for line in told(caplog))


def test_every_branch_of_deeplab_v2_starts_from_vgg(tmp_path):
  given = vgg_folder(tmp_path / 'vgg')['params']['front_end']
  own = spec_of('deeplab_v2', 'abcd', blocks=[1, 1, 1, 1, 1], width=1 / 32, fc_channels=2)
  _, found, fresh = start(own, tmp_path / 'vgg')
  assert fresh == {f'front_end/fc8_{branch}' for branch in range(1, 5)}
  for branch in range(1, 5):
    kernel = found['params']['front_end'][f'fc6_{branch}']['kernel']
    np.testing.assert_array_equal(kernel, given['fc6']['kernel'][::3, ::3, :, ::4])


def test_what_can_not_be_decimated_starts_afresh(tmp_path):
  vgg_folder(tmp_path / 'vgg')
  own = spec_of('deeplab_largefov', 'abc', **{**NARROW, 'fc_channels': 3})
  assert start(own, tmp_path / 'vgg')[2] == {f'front_end/fc{n}' for n in (6, 7, 8)}
  spec = spec_of('front_end', 'abc', blocks=[1] * 5, width=1 / 32, fc_channels=8)
  saved(tmp_path / 'random', spec, untrained=('fc6', 'fc7', 'final'))
  own = spec_of('deeplab_largefov', 'abc', **{**NARROW, 'fc_channels': 2})
  assert start(own, tmp_path / 'random')[2] == {f'front_end/fc{n}' for n in (6, 7, 8)}


def test_decimation_of_the_release():
  kernel = np.arange(7 * 7 * 2 * 16, dtype=np.float32).reshape(7, 7, 2, 16)
  expected = kernel[np.ix_([0, 3, 6], [0, 3, 6], [0, 1], [0, 4, 8, 12])]
  np.testing.assert_array_equal(deeplab.decimate(kernel, (3, 3, 2, 4)), expected)
  np.testing.assert_array_equal(deeplab.decimate(kernel, (4, 4, 2, 16)), kernel[::2, ::2])
  np.testing.assert_array_equal(deeplab.decimate(kernel, kernel.shape), kernel)
  np.testing.assert_array_equal(deeplab.decimate(kernel[0, 0, 0], (8,)), kernel[0, 0, 0, ::2])
  for shape in ((5, 5, 2, 4), (3, 3, 2, 5), (9, 9, 2, 4), (3, 3, 4, 4), (4,)):
    assert deeplab.decimate(kernel, shape) is None


@pytest.mark.parametrize(
  'own, given, words',
  [
    (('front_end', {'blocks': [2, 2]}), ('front_end', {'blocks': [2, 3]}), None),
    (('front_end', {'blocks': [2, 2]}), ('front_end', {'blocks': [2, 2, 3]}), None),
    (('front_end', {'blocks': [2, 3]}), ('front_end', {'blocks': [2, 2]}),
     'holds a VGG of blocks 2,2, and the network stands on a VGG of blocks 2,3'),
    (('front_end', {'blocks': [1, 2]}), ('front_end', {'blocks': [2, 2]}), 'blocks 2,2, and'),
    (('front_end', {'blocks': [1, 2]}), ('front_end', {'blocks': [1]}), 'blocks 1, and'),
    (('pspnet', {'blocks': [1, 1, 1, 2]}), ('pspnet', {'blocks': [1, 1, 1, 1]}),
     'a ResNet of bottleneck blocks 1,1,1,1, and the network stands on a ResNet of bottleneck'),
    (('pspnet', {'backbone': 'resnet34'}), ('pspnet', {'backbone': 'resnet50'}),
     'of bottleneck blocks 3,4,6,3, and .* of basic blocks 3,4,6,3'),
    (('front_end', {'blocks': [2, 2], 'norm': 'batch'}), ('front_end', {'blocks': [2, 2]}), None),
    (('front_end', {'blocks': [2, 2]}), ('front_end', {'blocks': [2, 2], 'norm': 'batch'}),
     "its layers are normalized; give the network `norm='batch'`"),
    (('front_end', {'blocks': [1] * 5}), ('fcn_resnet', {'blocks': [1] * 4}),
     'holds a ResNet of .*, and the network stands on a VGG of blocks 1,1,1,1,1'),
  ],
)  # fmt: skip
def test_trunks_are_taken_whole(own, given, words):
  """Or from the front: what only some layers fit is another trunk."""

  def spec(model, options):
    small = {'width': 1 / 64}
    if model == 'front_end':
      small |= {'fc_channels': 4, 'fc_kernel': 3, 'stride': 2}
    return spec_of(model, 'ab', **small, **options)

  own, given = spec(*own), spec(*given)
  source = models.Segmenter(given.create(), drawn(given, 1), given)
  before = drawn(own, 2)
  if words:
    with pytest.raises(InputError, match=f'^a file: .*{words}'):
      models.load_pretrained(own, before, 'a file', weights=source)
    return
  found, _ = models.load_pretrained(own, before, 'a file', weights=source)
  assert_equal(
    found['params']['front_end']['conv2_2'], source.variables['params']['front_end']['conv2_2']
  )
