"""From files in every layout to networks of ours that compute the same."""

import hashlib
import re

import cv2
import h5py
import jax
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

import dilated_jax
from dilated_jax import models
from dilated_jax.data.label_specs import CAMVID, CAMVID_DILATION8, KITTI, VOC
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.nn import costs
from dilated_jax.weights import convert as conversion
from dilated_jax.weights.convert import convert
from tests import caffe_files, numpy_layers, torch_files

WIDTHS = (4, 6, 8, 12, 10, 20, 16)
BLOCKS = (2, 2, 3, 3, 3)


def caffe_file(tmp_path, network, **style):
  path = tmp_path / 'a file'
  path.write_bytes(caffe_files.caffemodel(network, **style))
  return path


def published(name='camvid', seed=0, **more):
  return caffe_files.published(name, np.random.default_rng(seed), **dict(width=WIDTHS) | more)


def edited(network, **changes):
  """A network with layers changed, taken out (None) or put in."""
  layers = [changes.pop(layer.name, layer) for layer in network.layers]
  return network._replace(layers=(*filter(None, layers), *filter(None, changes.values())))


def layer(network, name):
  return next(layer for layer in network.layers if layer.name == name)


# What a file is.


@pytest.mark.parametrize(
  'name, model, options, classes, size',
  [
    ('pascal_voc', 'dilation8', {'context': 'large'}, VOC, (900, 900)),
    ('camvid', 'dilation8', {'context': 'basic'}, CAMVID_DILATION8, (900, 1100)),
    ('kitti', 'dilation7', {'context': 'basic'}, KITTI, (852, 1640)),
  ],
)
@pytest.mark.parametrize('stated', [True, False])
def test_published_networks(name, model, options, classes, size, stated, tmp_path):
  result = convert(caffe_file(tmp_path, published(name), options=stated))
  spec = result.spec
  assert (spec.model, spec.input, spec.upsampling) == (model, size, 'corner')
  assert spec.options.items() >= options.items()
  assert (spec.classes, spec.palette, spec.mean) == (classes.names, classes.palette, classes.mean)
  total = sum(array.size for array in jax.tree.leaves(result.variables))
  assert total == costs.num_parameters(spec.create().table)
  assert not any(target.startswith('(') for _, _, target in result.moved)


@pytest.mark.parametrize('upsampling', [True, False])
def test_with_and_without_upsampling(upsampling, tmp_path):
  network = published('cityscapes')
  network = network if upsampling else edited(network, ctx_upsample=None)
  result = convert(caffe_file(tmp_path, network))
  assert (result.spec.model, result.spec.upsampling) == ('dilation10', 'deconvolution')
  assert any('no ctx_upsample' in note for note in result.notes) != upsampling


def test_upsampling_behind_another_network(tmp_path):
  network = published('camvid')
  more = layer(published('cityscapes', num_classes=11), 'ctx_upsample')
  result = convert(caffe_file(tmp_path, edited(network, ctx_upsample=more)))
  assert (result.spec.model, result.spec.upsampling) == ('dilation8', 'deconvolution')


@pytest.mark.parametrize('name', caffe_files.DEPLOY)
def test_front_ends(name, tmp_path):
  result = convert(caffe_file(tmp_path, published(name, front_end=True)))
  assert result.spec.model == 'front_end'
  assert set(result.variables['params']) == {'front_end'}


@pytest.mark.parametrize('stated, size', [((8, 3, 628, 700), (628, 700)), ((1, 3, 40, 40), None)])
def test_input_of_the_file(stated, size, tmp_path):
  network = published('kitti')._replace(input_shape=stated)
  assert convert(caffe_file(tmp_path, network)).spec.input == (size or (852, 1640))


@pytest.mark.parametrize('classes', [2, 5, 40])
def test_any_number_of_classes(classes, tmp_path):
  result = convert(caffe_file(tmp_path, published('pascal_voc', num_classes=classes)))
  assert result.spec.classes == tuple(f'class {i}' for i in range(classes))
  assert len(set(result.spec.palette)) == classes
  assert result.spec.options['context'] == 'large'
  assert any('without names' in note for note in result.notes)


def test_full_width_needs_no_options(tmp_path):
  shapes = models.create('front_end', 21).table
  kernels, inputs = {}, 3
  for each in shapes:
    if each.kind == 'conv':
      # No memory behind it: only shapes count here.
      shape = (each.kernel, each.kernel, inputs, each.channels)
      kernels[each.name] = np.broadcast_to(np.float32(0), shape)
      inputs = each.channels
  assert conversion.structure.front_end_options(None, kernels) == {}


def test_dilations_of_the_file(tmp_path):
  network = published('camvid')
  changed = layer(network, 'ctx_conv4_1')
  changed = changed._replace(options=changed.options | {'dilation': 6, 'pad': 6})
  spec = convert(caffe_file(tmp_path, edited(network, ctx_conv4_1=changed))).spec
  assert spec.options['dilations'] == [1, 1, 2, 4, 6, 16, 1]


def test_another_number_of_layers(tmp_path):
  network = published('cityscapes')
  network = edited(network, ctx_conv7_1=None, ctx_upsample=None)
  spec = convert(caffe_file(tmp_path, network)).spec
  assert (spec.model, spec.options['dilations']) == ('dilation8', [1, 1, 2, 4, 8, 16, 32, 1])


def test_widths_of_the_context(tmp_path):
  network = published('camvid')
  changes = {}
  for name, (inputs, outputs) in {'ctx_conv1_1': (11, 15), 'ctx_conv1_2': (15, 11)}.items():
    rng = np.random.default_rng(1)
    blobs = rng.normal(size=(outputs, inputs, 3, 3)) / 10, rng.normal(size=outputs)
    blobs = tuple(blob.astype(np.float32) for blob in blobs)
    changed = layer(network, name)
    changes[name] = changed._replace(blobs=blobs, options=changed.options | {'num_output': outputs})
  network = edited(network, **changes)
  result = convert(caffe_file(tmp_path, network))
  assert result.spec.options['context_channels'] == [15, 11, 11, 11, 11, 11, 11]
  weights_folder.save_weights(tmp_path / 'weights', result.spec, result.variables)
  model, variables, _ = dilated_jax.load(tmp_path / 'weights')
  given = np.random.default_rng(2).normal(0, 50, (1, 3, 388, 404)).astype(np.float32)
  (theirs,) = caffe_files.run(network, given, ['ctx_final'])
  ours = jax.jit(model.apply)(variables, given[:, ::-1].transpose(0, 2, 3, 1))
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs.transpose(0, 2, 3, 1), atol=5e-5 * scale)


@pytest.mark.parametrize('name', ['pascal_voc', 'camvid'])
def test_silent_padding_goes_by_the_names(name, tmp_path):
  network = published(name, num_classes=4)
  other = {'pascal_voc': 'ctx_', 'camvid': 'ct_'}[name]
  layers = (each._replace(name=re.sub('^ctx?_', other, each.name)) for each in network.layers)
  network = network._replace(layers=tuple(layers))
  result = convert(caffe_file(tmp_path, network, options=False))
  assert result.spec.options['padding'] == {'pascal_voc': 'same', 'camvid': 'buffer'}[name]
  assert any('does not state paddings' in note for note in result.notes)


def test_data_set_and_mean_may_be_chosen(tmp_path):
  path = caffe_file(tmp_path, published('kitti'))
  spec = convert(path, dataset='camvid', mean=(1.0, 2.0, 3.0)).spec
  assert (spec.classes, spec.dataset, spec.mean) == (CAMVID.names, 'camvid', (1.0, 2.0, 3.0))
  spec = convert(path, dataset='camvid_dilation8').spec
  assert (spec.classes, spec.dataset) == (CAMVID_DILATION8.names, 'camvid')
  with pytest.raises(InputError, match='tells 11 classes apart, and voc has 21'):
    convert(path, dataset='voc')


def test_provenance(tmp_path):
  path = caffe_file(tmp_path, published())
  assert hashlib.sha256(path.read_bytes()).hexdigest() in convert(path).spec.source


# What is wrong with a file.


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(fc7=None), 'fc7 has no kernel'),
    (dict(conv3_2=None), 'conv3_2 has no kernel'),
    (dict(ctx_conv2_1=None), 'ctx_conv2_1 has no kernel'),
    (dict(ctx_final=None), 'ctx_final has no bias; ctx_final has no kernel'),
    (dict(more='ctx_fc2'), 'ctx_fc2.*is left over'),
    (dict(more='fc8_voc12'), 'fc8_voc12.*is left over'),
  ],
)
def test_missing_and_left_over(change, message, tmp_path):
  network = published()
  if 'more' in change:
    change = {'more': layer(network, 'ctx_fc1')._replace(name=change['more'])}
  with pytest.raises(InputError, match=message) as error:
    convert(caffe_file(tmp_path, edited(network, **change)))
  assert str(tmp_path / 'a file') in str(error.value) and '\n' not in str(error.value)


def with_blobs(network, name, change):
  old = layer(network, name)
  return edited(network, **{name: old._replace(blobs=tuple(map(change, old.blobs)))})


@pytest.mark.parametrize(
  'name, change, message',
  [
    (
      'conv4_2',
      lambda blob: blob[:, :5] if blob.ndim == 4 else blob,
      r'conv4_2\[0\] is \(3, 3, 5,',
    ),
    (
      'fc7',
      lambda blob: blob[:-1] if blob.ndim == 1 else blob,
      r'fc7\[1\] is \(15,\).*not \(16,\)',
    ),
    ('ctx_fc1', lambda blob: np.where(blob > blob.mean(), blob, np.inf), 'infinite or not numbers'),
    ('final', lambda blob: blob * np.nan, 'infinite or not numbers'),
  ],
)
def test_wrong_arrays(name, change, message, tmp_path):
  network = with_blobs(published(), name, lambda blob: change(blob).astype(np.float32))
  with pytest.raises(InputError, match=message):
    convert(caffe_file(tmp_path, network, options=False))


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('conv5_2', {'dilation': 1}, r'dilation of \(1, 1\) for conv5_2'),
    ('conv1_1', {'pad': 100}, r'pad of \(100, 100\) for conv1_1'),
    ('conv2_1', {'group': 2}, 'group of 2 for conv2_1'),
    ('fc7', {'num_output': 7}, 'num_output of 7 for fc7'),
    ('final', {'kernel': 5}, r'kernel of \(5, 5\) for final'),
    ('pool3', {'stride': 1}, r'stride of \(1, 1\) for pool3'),
    ('pool2', {'kernel': 3}, r'kernel of \(3, 3\) for pool2'),
    ('ctx_conv3_1', {'pad': 3}, 'pads the 3x3 layers of its context module by'),
  ],
)
def test_statements_of_another_network(name, options, message, tmp_path):
  network = published()
  old = layer(network, name)
  network = edited(network, **{name: old._replace(options=old.options | options)})
  with pytest.raises(InputError, match=message):
    convert(caffe_file(tmp_path, network))


def test_a_network_with_more_poolings(tmp_path):
  network = published()
  more = layer(network, 'pool3')._replace(name='pool4')
  with pytest.raises(InputError, match='has the poolings pool1, pool2, pool3, pool4'):
    convert(caffe_file(tmp_path, edited(network, more=more)))


@pytest.mark.parametrize(
  'kind, message', [('ReLU', 'a ReLU behind ctx_final'), ('Sigmoid', 'more is a Sigmoid')]
)
def test_a_network_with_another_activation(kind, message, tmp_path):
  network = published()
  layers = [each for each in network.layers if each.name != 'prob']
  layers.append(caffe_files.Layer('more', kind))
  with pytest.raises(InputError, match=message):
    convert(caffe_file(tmp_path, network._replace(layers=tuple(layers))))


@pytest.mark.parametrize('classes', [1, 256])
def test_classes_that_no_label_map_holds(classes, tmp_path):
  with pytest.raises(
    InputError, match=f'a file: a model of {classes} classes; it can have 2 to 255'
  ):
    convert(caffe_file(tmp_path, published('kitti', num_classes=classes)))


def test_an_upsampling_of_another_kind(tmp_path):
  network = with_blobs(published('cityscapes'), 'ctx_upsample', lambda blob: blob + np.float32(0.1))
  with pytest.raises(InputError, match='is not a bilinear upsampling'):
    convert(caffe_file(tmp_path, network))


@pytest.mark.parametrize('content', [b'hello world', b'\0' * 64, b'\x89PNG\r\n\x1a\n' + b'1' * 50])
def test_other_files(content, tmp_path):
  (tmp_path / 'other').write_bytes(content)
  with pytest.raises(InputError, match='other'):
    convert(tmp_path / 'other')


# VGG, from everywhere.


def vgg_arrays(seed=0, classes=10):
  """{layer: (kernel (out, in, height, width), bias)} of a narrow VGG-16; fc6 sees 7 x 7 cells."""
  rng, arrays, inputs = np.random.default_rng(seed), {}, 3
  names = [(f'conv{b + 1}_{i + 1}', 3, WIDTHS[b]) for b, n in enumerate(BLOCKS) for i in range(n)]
  for name, kernel, outputs in [*names, ('fc6', 7, 20), ('fc7', 1, 16), ('fc8', 1, classes)]:
    spread = np.sqrt(2 / (inputs * kernel**2))
    shape = (outputs, inputs, kernel, kernel)
    arrays[name] = (
      rng.normal(0, spread, shape).astype(np.float32),
      rng.normal(0, 0.1, outputs).astype(np.float32),
    )
    inputs = outputs
  return arrays


def torch_names(arrays, *, timm=False):
  """The tensors of torchvision's VGG, or of timm's, by name."""
  tensors, place = {}, 0
  for block, count in enumerate(BLOCKS, 1):
    for i in range(1, count + 1):
      tensors[f'features.{place}'] = arrays[f'conv{block}_{i}']
      place += 2
    place += 1
  dense = ('pre_logits.fc1', 'pre_logits.fc2', 'head.fc') if timm else (
    'classifier.0', 'classifier.3', 'classifier.6')  # fmt: skip
  for name, own in zip(dense, ('fc6', 'fc7', 'fc8')):
    kernel, bias = arrays[own]
    tensors[name] = (kernel if timm and own != 'fc8' else kernel.reshape(len(kernel), -1), bias)
  return {
    f'{name}.{part}': array
    for name, pair in tensors.items()
    for part, array in zip(('weight', 'bias'), pair)
  }


def write_pth(path, arrays, legacy=False):
  path.write_bytes(torch_files.state_dict(torch_names(arrays), legacy))


def write_keras(path, arrays, style='layers'):
  """Kernels (height, width, in, out), input BGR, dense ones over height, width, channel."""
  with h5py.File(path, 'w') as file:
    for name, (kernel, bias) in arrays.items():
      kernel = kernel.transpose(2, 3, 1, 0)
      if name.startswith('fc'):
        kernel = kernel.reshape(-1, kernel.shape[-1])
        ours = {'fc6': 'fc1', 'fc7': 'fc2', 'fc8': 'predictions'}[name]
      else:
        ours = f'block{name[4]}_conv{name[6]}'
      if style == 'layers':
        group, names = file.create_group(ours), (f'{ours}_W_1:0', f'{ours}_b_1:0')
      elif style == 'model':
        group, names = file.create_group(f'model_weights/{ours}/{ours}'), ('kernel:0', 'bias:0')
      else:
        kind = 'dense' if name.startswith('fc') else 'conv2d'
        number = sum(key.startswith(kind) for key in file.get('layers', ()))
        group = file.create_group(f'layers/{kind}{f"_{number}" if number else ""}/vars')
        names = ('0', '1')
      group[names[0]], group[names[1]] = kernel, bias


def dense_output(arrays, feed):
  """fc7 of a padless VGG at one place, in float64, on what the framework would be fed."""
  x = feed[None]
  places = {'conv1_2': 1, 'conv2_2': 1, 'conv3_3': 1}
  for name, (kernel, bias) in arrays.items():
    if name == 'fc8':
      break
    dilation = 2 if name.startswith('conv5') else 4 if name == 'fc6' else 1
    kernel = kernel.transpose(2, 3, 1, 0).astype(np.float64)
    x = np.maximum(numpy_layers.conv(x, kernel, bias, dilation=dilation), 0)
    if name in places:
      x = numpy_layers.max_pool(x)
  return x[0, 0, 0]


def our_output(result, rgb):
  """The same in our network: fc7, got at by a `final` of ones."""
  model = result.spec.create()
  params = result.variables['params']['front_end']
  channels = model.table[-2].channels
  classes = len(result.spec.classes)
  eye = np.zeros((1, 1, channels, classes), np.float32)
  eye[0, 0, range(channels), range(channels)] = 1
  params = params | {'final': {'kernel': eye, 'bias': np.zeros(classes, np.float32)}}
  images = rgb[None].astype(np.float32) - np.float32(result.spec.mean)
  logits = jax.jit(model.apply)({'params': {'front_end': params}}, images)
  return np.asarray(logits)[0, 0, 0, :channels]


RGB = np.clip(
  128
  + 90 * cv2.resize(np.random.default_rng(4).normal(size=(24, 24, 3)), (380, 380)),
  0, 255,
).astype(np.uint8)  # fmt: skip
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize('style', ['pth', 'legacy pth', 'safetensors'])
def test_vgg_of_torchvision_and_timm(style, tmp_path):
  arrays, path = vgg_arrays(), tmp_path / 'vgg'
  if style == 'safetensors':
    safetensors.numpy.save_file(torch_names(arrays, timm=True), path)
  else:
    write_pth(path, arrays, legacy=style == 'legacy pth')
  result = convert(path)
  expected = dense_output(arrays, (RGB / 255 - MEAN) / STD)
  np.testing.assert_allclose(our_output(result, RGB), expected, rtol=2e-5, atol=1e-5)
  assert expected.max() > 0.1
  assert result.spec.mean == pytest.approx(255 * MEAN)
  assert [target for *_, target in result.moved if target.startswith('(')] == [
    '(classifies ImageNet; final takes its place)'
  ] * 2


@pytest.mark.parametrize('style', ['layers', 'model', 'counted'])
def test_vgg_of_keras(style, tmp_path):
  arrays = vgg_arrays()
  write_keras(tmp_path / 'vgg', arrays, style)
  result = convert(tmp_path / 'vgg')
  expected = dense_output(arrays, RGB[:, :, ::-1] - np.array([103.939, 116.779, 123.68]))
  np.testing.assert_allclose(our_output(result, RGB), expected, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize('version', [0, 1, 2])
def test_vgg_of_caffe(version, tmp_path):
  network = caffe_files.vgg16(np.random.default_rng(0), width=WIDTHS, num_classes=10)
  result = convert(caffe_file(tmp_path, network, version=version))
  arrays = {
    name: tuple(map(np.array, blobs)) for name, blobs in network.arrays().items() if name != 'fc8'
  }
  kernel, bias = arrays['fc6']
  arrays['fc6'] = kernel.reshape(-1, WIDTHS[4], 7, 7), bias
  kernel, bias = arrays['fc7']
  arrays['fc7'] = kernel[:, :, None, None], bias
  expected = dense_output(arrays, RGB[:, :, ::-1] - np.array([103.939, 116.779, 123.68]))
  np.testing.assert_allclose(our_output(result, RGB), expected, rtol=2e-5, atol=1e-3)


def test_vgg_for_a_data_set(tmp_path):
  write_pth(tmp_path / 'vgg', vgg_arrays())
  result = convert(tmp_path / 'vgg', dataset='camvid')
  assert (result.spec.classes, result.spec.dataset) == (CAMVID.names, 'camvid')
  final = result.variables['params']['front_end']['final']
  assert final['kernel'].shape == (1, 1, 16, 11)
  assert 0 < final['kernel'].std() < 0.002 and not final['bias'].any()
  assert any('untrained: final' in note for note in result.notes)
  assert result.spec.untrained == ('final',)


def test_vgg_for_own_classes(tmp_path):
  write_pth(tmp_path / 'vgg', vgg_arrays())
  for kind in ('images', 'labels'):
    (tmp_path / 'own' / kind).mkdir(parents=True)
    for index in range(3):
      picture = np.full((32, 32), index, np.uint8)
      PIL.Image.fromarray(picture).save(tmp_path / 'own' / kind / f'{index}.png')
  result = convert(tmp_path / 'vgg', dataset='folder', data_dir=str(tmp_path / 'own'))
  assert result.spec.classes == ('class 0', 'class 1', 'class 2')
  assert result.variables['params']['front_end']['final']['kernel'].shape == (1, 1, 16, 3)
  assert result.spec.mean == pytest.approx(255 * MEAN)


def without_fc(arrays):
  return {name: pair for name, pair in arrays.items() if not name.startswith('fc')}


def test_vgg_without_dense_layers(tmp_path):
  write_keras(tmp_path / 'vgg', without_fc(vgg_arrays()))
  with pytest.raises(InputError, match="has no valid fc6 and fc7; `fc='random'`"):
    convert(tmp_path / 'vgg')
  front_end = convert(tmp_path / 'vgg', fc='random').variables['params']['front_end']
  assert front_end['fc6']['kernel'].shape == (7, 7, 10, 80)  # Eight times conv5, as in VGG.
  assert front_end['fc7']['kernel'].shape == (1, 1, 80, 80)
  spread = front_end['fc6']['kernel'].std()
  assert spread == pytest.approx(np.sqrt(2 / 490), rel=0.05)


def test_features_of_torchvision(tmp_path):
  """Its second file of VGG-16: pictures of 0..255 minus a mean, and no valid classifier."""
  arrays = vgg_arrays()
  for name in ('fc6', 'fc7', 'fc8'):
    arrays[name] = tuple(np.full_like(array, np.nan) for array in arrays[name])
  write_pth(tmp_path / 'vgg', arrays)
  with pytest.raises(InputError, match="`fc='random'`"):
    convert(tmp_path / 'vgg')
  result = convert(tmp_path / 'vgg', fc='random')
  assert result.spec.mean == pytest.approx((123, 117, 104), abs=0.01)
  kernel = result.variables['params']['front_end']['conv1_1']['kernel']
  np.testing.assert_array_equal(kernel, arrays['conv1_1'][0].transpose(2, 3, 1, 0))


def test_normalization_may_be_told(tmp_path):
  arrays = vgg_arrays()
  write_pth(tmp_path / 'vgg', arrays)
  result = convert(tmp_path / 'vgg', normalization='caffe')
  expected = dense_output(arrays, RGB - np.array([123.68, 116.779, 103.939]))
  np.testing.assert_allclose(our_output(result, RGB), expected, rtol=2e-5, atol=1e-4)


def test_known_checksums(tmp_path, monkeypatch):
  write_pth(tmp_path / 'vgg', vgg_arrays())
  digits = hashlib.sha256((tmp_path / 'vgg').read_bytes()).hexdigest()[:8]
  monkeypatch.setitem(conversion.published.CHECKSUMS, digits, ('a file of renown', 'features'))
  result = convert(tmp_path / 'vgg')
  assert result.notes[0] == 'a file of renown, by its checksum'
  assert result.spec.mean == pytest.approx((123, 117, 104), abs=0.01)


def test_vgg_with_batch_normalization(tmp_path):
  """Normalized between convolution and ReLU; fc6 and fc7 are not, and start as if they were."""
  rng, tensors, place = np.random.default_rng(0), {}, 0
  arrays, last = vgg_arrays(), '1'
  for name, (kernel, bias) in arrays.items():
    if name.startswith('conv'):
      place += name[4] != last  # A pooling.
      last = name[4]
      tensors |= {f'features.{place}.weight': kernel, f'features.{place}.bias': bias}
      for part in ('weight', 'bias', 'running_mean', 'running_var'):
        tensors[f'features.{place + 1}.{part}'] = rng.uniform(0.5, 1.5, len(bias)).astype('f4')
      tensors[f'features.{place + 1}.num_batches_tracked'] = np.array(3)
      place += 3
  dense = {k: v for k, v in torch_names(arrays).items() if k.startswith('classifier')}
  safetensors.numpy.save_file(tensors | dense, tmp_path / 'vgg')
  result = convert(tmp_path / 'vgg')
  assert result.spec.options['norm'] == 'batch' and 'blocks' not in result.spec.options
  assert result.spec.untrained == ('fc6_norm', 'fc7_norm', 'final')
  front_end = result.variables['params']['front_end']
  np.testing.assert_array_equal(front_end['conv5_3_norm']['scale'], tensors['features.41.weight'])
  stats = result.variables['batch_stats']['front_end']
  np.testing.assert_array_equal(stats['conv2_1_norm']['var'], tensors['features.8.running_var'])
  assert (stats['fc6_norm']['var'] == 1).all() and not stats['fc6_norm']['mean'].any()
  assert (front_end['fc7_norm']['scale'] == 1).all() and not front_end['fc7_norm']['bias'].any()


@pytest.mark.parametrize(
  'tensors, options',
  [
    (torch_files.resnet((2, 2, 2, 2), basic=True), {'backbone': 'resnet18', 'width': 1 / 32}),
    (torch_files.resnet((1, 1, 1, 1), basic=True),
     {'backbone': 'resnet18', 'width': 1 / 32, 'blocks': [1, 1, 1, 1]}),
    (torch_files.resnet((3, 4, 6, 3)), {'backbone': 'resnet50', 'width': 1 / 32}),
  ],
)  # fmt: skip
def test_resnet(tensors, options, tmp_path):
  safetensors.numpy.save_file(tensors, tmp_path / 'resnet')
  result = convert(tmp_path / 'resnet', dataset='camvid')
  assert (result.spec.model, result.spec.options) == ('fcn_resnet', options)
  assert (result.spec.classes, result.spec.dataset) == (CAMVID.names, 'camvid')
  assert result.spec.untrained == ('head', 'head_norm', 'final')
  assert result.spec.mean == pytest.approx(255 * MEAN)
  kernel = result.variables['params']['front_end']['conv1']['kernel']
  expected = tensors['conv1.weight'].transpose(2, 3, 1, 0) / (255 * STD)[:, None]
  np.testing.assert_allclose(kernel, expected, 1e-6)
  shapes = weights_folder.abstract_variables(result.spec.create())
  jax.tree.map(lambda x, y: np.testing.assert_equal(x.shape, y.shape), shapes, result.variables)


def test_a_resnet_without_a_group(tmp_path):
  tensors = {k: v for k, v in torch_files.resnet().items() if not k.startswith('layer3')}
  safetensors.numpy.save_file(tensors, tmp_path / 'resnet')
  with pytest.raises(InputError, match='has not all four groups of residual units'):
    convert(tmp_path / 'resnet')


def test_how_a_resnet_saw_pictures_may_be_told(tmp_path):
  """As those of Caffe did: BGR minus a mean."""
  tensors = torch_files.resnet()
  safetensors.numpy.save_file(tensors, tmp_path / 'resnet')
  result = convert(tmp_path / 'resnet', channel_order='bgr', normalization='caffe')
  assert result.spec.mean == (123.68, 116.779, 103.939)
  kernel = result.variables['params']['front_end']['conv1']['kernel']
  np.testing.assert_array_equal(kernel, tensors['conv1.weight'][:, ::-1].transpose(2, 3, 1, 0))
  with pytest.raises(InputError, match='is a ResNet, which has no fc6 and fc7'):
    convert(tmp_path / 'resnet', fc='random')


@pytest.mark.parametrize('prefix', ['module.', 'module.model.', '_orig_mod.', 'backbone.'])
def test_what_programs_put_before_all_names(prefix, tmp_path):
  tensors = torch_files.resnet()
  plain = {k: v for k, v in tensors.items() if not k.startswith('fc.') and v.ndim}
  named = {prefix + name: array for name, array in plain.items()}
  safetensors.numpy.save_file(plain, tmp_path / 'plain')
  (tmp_path / 'named.bin').write_bytes(torch_files.state_dict(named))
  one, other = convert(tmp_path / 'plain'), convert(tmp_path / 'named.bin')
  jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
  safetensors.numpy.save_file(named | {'other': np.zeros(1)}, tmp_path / 'not all')
  with pytest.raises(InputError, match='has no place in'):
    convert(tmp_path / 'not all')


@pytest.mark.parametrize(
  'change, words',
  [
    ({'roi_heads.box_head.fc6.weight': (4, 4)}, 'is a detection network; give the classifier'),
    ({'layer1.0.downsample.2.weight': (8,)}, 'is a ResNet-D: it averages before its shortcuts'),
    ({'layer1.0.conv1.weight': (4, 2, 1, 1)}, 'units of 4 and 8 channels, as a ResNeXt or Wide'),
    ({'layer1.0.se.fc1.weight': (2, 8, 1, 1)}, 'layer1.0.se.fc1.weight has no place in ResNet'),
    ({'conv1.0.weight': (1, 3, 3, 3)}, 'begins with 3x3 convolutions of 1, 0, 0 channels; those'),
  ],
)
def test_relatives_of_resnet(change, words, tmp_path):
  tensors = torch_files.resnet() | {k: np.zeros(shape, 'f4') for k, shape in change.items()}
  if 'conv1.0.weight' in change:
    del tensors['conv1.weight']
  safetensors.numpy.save_file(tensors, tmp_path / 'resnet')
  with pytest.raises(InputError, match=words) as error:
    convert(tmp_path / 'resnet')
  assert '\n' not in str(error.value)


def unnamed(count=13, width=2):
  """Kernels HWIO and biases of the first convolutions of a narrow VGG-16, by module."""
  rng, inputs, modules = np.random.default_rng(0), 3, {}
  for block, n in enumerate(BLOCKS):
    for i in range(n):
      outputs = width * min(2**block, 8)
      module = f'block{block + 1}/layers/conv2d{f"_{i}" if i else ""}'
      modules[module] = rng.random((3, 3, inputs, outputs), 'f4'), rng.random(outputs, 'f4')
      inputs = outputs
  return dict(list(modules.items())[:count])


@pytest.mark.parametrize('order', [None, 'rgb'])
def test_vgg_under_names_that_nobody_knows(order, tmp_path):
  """As Keras 3 keeps a network of nested blocks, with other layers beside VGG's."""
  modules = unnamed()
  with h5py.File(tmp_path / 'vgg', 'w') as file:
    for module, pair in {**modules, 'dsn1': (np.ones((1, 1, 2, 1)), np.ones(1))}.items():
      for part, array in enumerate(pair):
        file[f'{module}/vars/{part}'] = array
    file['steps'] = np.int64(7)
  result = convert(tmp_path / 'vgg', fc='random', channel_order=order)
  found = result.variables['params']['front_end']
  names = [f'conv{b + 1}_{i + 1}' for b, n in enumerate(BLOCKS) for i in range(n)]
  for name, (kernel, bias) in zip(names, modules.values(), strict=True):
    if name == 'conv1_1' and order is None:
      kernel = kernel[:, :, ::-1]
    np.testing.assert_array_equal(found[name]['kernel'], kernel)
    np.testing.assert_array_equal(found[name]['bias'], bias)
  assert [name for name, _, target in result.moved if target[0] == '('][:1] == ['dsn1/vars/0']
  taken = f'by the order of their shapes; taken as {(order or "bgr").upper()}'
  assert any(note.endswith(taken) for note in result.notes)


@pytest.mark.parametrize('format', ['pth', 'safetensors'])
def test_the_order_of_a_state_dict(format, tmp_path):
  """trunk.10 behind trunk.9, as PyTorch writes them and though safetensors sorts them by name."""
  modules = list(unnamed().values())
  tensors = {}
  for number, (kernel, bias) in enumerate(modules):
    tensors[f'trunk.{number}.weight'] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    tensors[f'trunk.{number}.bias'] = bias
  if format == 'pth':
    (tmp_path / 'vgg').write_bytes(torch_files.state_dict(tensors))
  else:
    safetensors.numpy.save_file(tensors, tmp_path / 'vgg')
  found = convert(tmp_path / 'vgg', fc='random').variables['params']['front_end']
  for name, (kernel, _) in zip(('conv5_1', 'conv5_2', 'conv5_3'), modules[-3:], strict=True):
    np.testing.assert_array_equal(found[name]['kernel'], kernel)


@pytest.mark.parametrize('change', ['normalization', 'fewer', 'widths'])
def test_what_only_looks_like_vgg(change, tmp_path):
  modules = unnamed(12 if change == 'fewer' else 13)
  if change == 'widths':
    modules['block5/layers/conv2d_2'] = np.ones((3, 3, 16, 8)), np.ones(8)
  with h5py.File(tmp_path / 'vgg', 'w') as file:
    for module, (kernel, bias) in modules.items():
      file[f'{module}/vars/0'], file[f'{module}/vars/1'] = kernel, bias
    if change == 'normalization':
      file['block1/layers/norm/vars/0'] = np.ones(2)
  with pytest.raises(InputError, match='has no place in VGG'):
    convert(tmp_path / 'vgg', fc='random')


def test_other_networks(tmp_path):
  for name, words in (
    ('stages.0.conv1.weight', 'stages.0.conv1.weight has no place in VGG .* or ResNet'),
    ('layer1.0.conv1.weight', 'normalizes without statistics'),
  ):
    safetensors.numpy.save_file({name: np.zeros((4, 3, 3, 3), 'f4')}, tmp_path / 'other')
    with pytest.raises(InputError, match=words):
      convert(tmp_path / 'other')
