"""weights/caffe.py: against files written by hand and against OpenCV."""

import collections
import time
import tracemalloc

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, strategies as st
import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.weights import caffe
from dilated_jax.weights.mapped import MappedFile
from tests import caffe_files
from tests.caffe_files import Layer, Network, blob, integer, message, numbers, varint
from tests.mutations import mutations

PACKINGS = ('packed', 'unpacked', 'pieces')


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small():
  """A network with every kind of layer that has weights."""
  convolution = {'num_output': 4, 'kernel': (3, 1), 'pad': (1, 0), 'stride': 2, 'dilation': 2}
  deconvolution = {'num_output': 4, 'bias_term': False, 'pad': 1, 'kernel': 4, 'group': 4}
  layers = (
    Layer('data', 'Data'),
    Layer('conv', 'Convolution', (normal(4, 3, 3, 1), normal(4)), convolution),
    Layer('relu', 'ReLU'),
    Layer('pool', 'Pooling', options={'kernel': 2, 'stride': 2}),
    Layer('up', 'Deconvolution', (normal(4, 1, 4, 4),), deconvolution),
    Layer('fc', 'InnerProduct', (normal(5, 6), normal(5)), {'num_output': 5}),
    Layer('drop', 'Dropout', options={'ratio': 0.25}),
    Layer('loss', 'SoftmaxWithLoss'),
  )
  return Network('a network', layers, (1, 3, 20, 30))


def for_v0():
  """The same without what V0 did not have."""
  options = {'num_output': 4, 'kernel': 3, 'pad': 1, 'stride': 2, 'group': 1, 'bias_term': True}
  layers = (x._replace(options=options) if x.name == 'conv' else x for x in small().layers)
  return small()._replace(layers=tuple(x for x in layers if x.kind != 'Deconvolution'))


@pytest.fixture
def mapped(tmp_path):
  """Writes bytes to a file and maps it."""
  path = tmp_path / 'some.caffemodel'

  def write(data):
    path.write_bytes(data)
    return MappedFile(path)

  return write


@pytest.fixture
def read(mapped):
  return lambda data: caffe.read(mapped(data))


def same(net, network):
  assert [layer.name for layer in net.layers] == [layer.name for layer in network.layers]
  assert [layer.kind for layer in net.layers] == [layer.kind for layer in network.layers]
  for ours, theirs in zip(net.layers, network.layers):
    assert len(ours.blobs) == len(theirs.blobs)
    for array, expected in zip(ours.blobs, theirs.blobs):
      np.testing.assert_array_equal(array, expected, strict=True)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('packing', PACKINGS)
@pytest.mark.parametrize('version', [2, 1, 0])
def test_styles(read, version, packing, legacy):
  network = small() if version else for_v0()
  net = read(caffe_files.caffemodel(network, version=version, packing=packing, legacy=legacy))
  same(net, network)
  assert net.name == 'a network' and net.input_shape == (1, 3, 20, 30)


@pytest.mark.parametrize('packing', PACKINGS)
def test_doubles(read, packing):
  network = small()
  arrays = [layer.blobs for layer in network.layers]
  net = read(caffe_files.caffemodel(network, packing=packing, dtype=np.float64))
  for layer, expected in zip(net.layers, arrays):
    for array, values in zip(layer.blobs, expected):
      np.testing.assert_array_equal(array, values.astype(np.float64), strict=True)


@pytest.mark.parametrize('version', [2, 1])
def test_options(read, version):
  said = {
    layer.name: layer.options
    for layer in read(caffe_files.caffemodel(small(), version=version)).layers
  }
  assert said['conv'] == {
    **{'num_output': 4, 'kernel': (3, 1), 'stride': (2, 2), 'pad': (1, 0), 'dilation': (2, 2)}
  }
  assert said['up'] == {
    **{'num_output': 4, 'group': 4, 'bias_term': False, 'kernel': (4, 4), 'pad': (1, 1)}
  }
  assert said['pool'] == {'kernel': (2, 2), 'stride': (2, 2)}
  assert said['fc'] == {'num_output': 5}
  assert said['relu'] == said['drop'] == said['data'] == {}
  net = read(caffe_files.caffemodel(small(), version=version, options=False))
  assert not any(layer.options for layer in net.layers)


def test_options_of_v0(read):
  net = read(caffe_files.caffemodel(for_v0(), version=0))
  said = {layer.name: layer.options for layer in net.layers}
  assert said['conv'] == {
    **{'num_output': 4, 'group': 1, 'bias_term': True},
    **{'kernel': (3, 3), 'stride': (2, 2), 'pad': (1, 1)},
  }
  assert said['pool'] == {'kernel': (2, 2), 'stride': (2, 2)}
  assert said['fc'] == {'num_output': 5}


@pytest.mark.parametrize('kind', ['Convolution', 'Pooling'])
def test_options_by_direction(read, kind):
  options = {'kernel_h': 3, 'kernel_w': 1, 'stride_h': 2, 'stride_w': 1, 'pad_h': 1}
  (layer,) = read(caffe_files.caffemodel(Network('', (Layer('x', kind, (), options),), ()))).layers
  assert layer.options == {'kernel': (3, 1), 'stride': (2, 1), 'pad': (1, 0)}


def test_transposed_dense_weights_are_turned(read):
  weights = normal(6, 5)
  layer = Layer('fc', 'InnerProduct', (weights, normal(5)), {'num_output': 5, 'transpose': True})
  net = read(caffe_files.caffemodel(Network('', (layer,), (1, 6))))
  np.testing.assert_array_equal(net.layers[0].blobs[0], weights.T)


@st.composite
def files(draw):
  """A file of a layer with weights and bias, and what they should be."""
  side = st.integers(1, 4)
  kind, sides = draw(
    st.sampled_from([('Convolution', 4), ('Deconvolution', 4), ('InnerProduct', 2)])
  )
  shape = draw(st.tuples(*[side] * sides))
  dtype = draw(st.sampled_from([np.float32, np.float64]))
  version = draw(st.sampled_from([2, 1] + [0] * (kind != 'Deconvolution')))
  layer = Layer(
    draw(st.text(max_size=20)),
    kind,
    (normal(*shape).astype(dtype), normal(shape[0], seed=1).astype(dtype)),
  )
  data = caffe_files.caffemodel(
    Network(draw(st.text(max_size=9)), (layer,), (1, 3, 8, 8)),
    version=version,
    dtype=dtype,
    packing=draw(st.sampled_from(PACKINGS)),
    legacy=draw(st.booleans()),
  )
  return layer, data


@given(files())
def test_whatever_the_shape(tmp_path_factory, example):
  layer, data = example
  path = tmp_path_factory.mktemp('caffe') / 'file'
  path.write_bytes(data)
  same(caffe.read(MappedFile(path)), Network('', (layer,), ()))


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('packing, copied', [('packed', 0), ('unpacked', 0), ('pieces', 1)])
def test_nothing_is_copied(mapped, packing, copied, legacy):
  weights = normal(50, 40, 10, 10)
  layer = Layer('c', 'Convolution', (weights,))
  network = Network('', (layer,), (1, 40, 9, 9))
  file = mapped(caffe_files.caffemodel(network, packing=packing, legacy=legacy))
  tracemalloc.start()
  (array,) = caffe.read(file).layers[0].blobs
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert copied * weights.nbytes <= peak < copied * weights.nbytes + 200_000
  assert np.shares_memory(array, file.data) == (not copied)
  np.testing.assert_array_equal(array, weights)


# What lies around the values.


def layer_with(*blobs, kind='Convolution'):
  return message(100, message(1, b'fc6'), message(2, kind.encode()), *blobs)


def with_shape(*sides):
  return message(7, message(1, *map(varint, sides)))


@pytest.mark.parametrize('packing', PACKINGS)
def test_unknown_fields_do_not_matter(read, packing):
  unknown = b''.join(
    [
      *(integer(60, 7), message(61, b'abc'), numbers(62, normal(99), 'unpacked')),
      numbers(2000, normal(99).astype(np.float64), 'unpacked'),
    ]
  )
  # Known ones of another wire type count as unknown, as in protobuf.
  odd = b''.join(integer(number, 5) for number in (1, 2, 7, 100, 106))
  weights, diff = normal(2, 3, 4, 5), normal(9)
  content = message(
    *(7, unknown, integer(5, 1), numbers(6, diff, packing), numbers(5, weights, packing), unknown),
    *(numbers(9, diff.astype(np.float64), packing), message(1, b'x')),
    message(7, unknown, message(1, b'\x02\x03\x04\x05'), message(2, b'\x06')),
  )
  layer = message(100, unknown, odd, message(1, b'c'), message(2, b'Convolution'), content, unknown)
  net = read(unknown + odd + layer + unknown)
  np.testing.assert_array_equal(net.layers[0].blobs[0], weights, strict=True)
  assert net.layers[0].name == 'c' and net.input_shape is None


def test_sides_one_by_one(read):
  """Lists of integers that are not packed."""
  shape = message(7, *(integer(1, side) for side in (2, 1, 3, 1)))
  layer = message(
    *(100, message(2, b'Convolution'), message(7, numbers(5, normal(6)), shape)),
    message(106, message(4, b'\x03\x01')),
  )
  (layer,) = read(layer).layers
  assert layer.blobs[0].shape == (2, 1, 3, 1) and layer.options == {'kernel': (3, 1)}


@pytest.mark.parametrize(
  'stated',
  [
    message(8, message(1, b'\x01\x03\x10\x20')) + message(8, message(1, b'\x01\x01\x01\x01')),
    b''.join(integer(4, side) for side in (1, 3, 16, 32, 1, 1, 1, 1)),
    message(
      *(100, message(2, b'Input')),
      message(143, message(1, message(1, b'\x01\x03\x10\x20')), message(1, message(1, b'\x07'))),
    ),
  ],
  ids=['input_shape', 'input_dim', 'layer'],
)
def test_shape_of_the_first_input(read, stated):
  assert read(stated + message(100, message(1, b'relu'))).input_shape == (1, 3, 16, 32)


def test_old_layers_go_before_new_ones(read):
  new, old = message(100, message(1, b'new')), message(2, message(4, b'old'))
  assert [layer.name for layer in read(new + old).layers] == ['old']


def test_names_that_are_no_utf8(read):
  (layer,) = read(message(100, message(1, '卷积'.encode('gb18030')), message(2, b'ReLU'))).layers
  assert layer.name and layer.kind == 'ReLU'


@pytest.mark.parametrize('number, kind', [(18, 'ReLU'), (39, 'Deconvolution'), (40, '40')])
def test_kinds_of_v1(read, number, kind):
  assert read(message(2, message(4, b'x'), integer(5, number))).layers[0].kind == kind


def test_padding_of_v0(read):
  layer = read(message(2, message(1, message(2, b'padding'), integer(7, 3)))).layers[0]
  assert (layer.kind, layer.options) == ('Padding', {'pad': (3, 3)})


def test_old_dimensions_go_before_a_shape(read):
  sides = b''.join(integer(number, side) for number, side in enumerate((3, 1, 2, 1), 1))
  content = message(7, sides, numbers(5, normal(6)), with_shape(6))
  (layer,) = read(layer_with(content)).layers
  assert layer.blobs[0].shape == (3, 1, 2, 1)


def test_scalars_and_other_kinds_stay_as_they_are(read):
  scalar = message(7, numbers(5, normal(1)), message(7))
  factor = blob(7, normal(1, 6, 1, 1))
  net = read(message(100, message(2, b'Scale'), scalar, factor))
  assert [array.shape for array in net.layers[0].blobs] == [(), (1, 6, 1, 1)]


# What is wrong is named.


@pytest.mark.parametrize(
  'data, words',
  [
    (layer_with(message(7, numbers(6, normal(4)), with_shape(4))), 'only a gradient .diff.'),
    (layer_with(blob(7, normal(2, 2, 1, 1)), message(7, with_shape(0))), '1 has no values'),
    (layer_with(message(7, message(5), with_shape(0, 1, 1, 1))), 'has no values'),
    (layer_with(message(7, numbers(5, normal(6)), with_shape(1, 2, 2, 1))), r'6 .*\(1, 2, 2, 1\)'),
    (layer_with(message(7, numbers(5, normal(6)))), r'6 values, .* shape \(\)'),
    (layer_with(message(7, numbers(5, normal(6)), with_shape(-2, -3, 1, 1))), r'\(-2, -3, 1, 1\)'),
    (layer_with(message(7, numbers(5, normal(6)), with_shape(2**62, 4, 6, 1))), r'6 values'),
    (layer_with(message(7, numbers(5, normal(6)), with_shape(6))), r'shape \(6,\); 4 sides'),
    (layer_with(blob(7, normal(2, 3, 4)), kind='InnerProduct'), r'shape \(2, 3, 4\); 2 sides'),
    (layer_with(blob(7, normal(2, 2, 1, 1)), blob(7, normal(2, 2))), r'shape \(2, 2\); 1 sides'),
    (layer_with(message(7, message(5, b'12345'), with_shape(1))), '5 bytes of numbers of 4'),
    (layer_with(message(7, numbers(5, normal(1)), with_shape(*[1] * 33))), 'more than 32 integers'),
    (layer_with(message(7, numbers(5, normal(1)), with_shape(*[1] * 20) * 2)), '1 values, which'),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_wrong_blobs(read, data, words):
  with pytest.raises(InputError, match=f"some.caffemodel: layer 'fc6', blob .*{words}"):
    read(data)


@pytest.mark.parametrize(
  'data, words',
  [
    (b'\x01' * 9, 'damaged'),
    (message(1, b'just a name'), 'no layers'),
    (message(100, message(1, b'a' * 2000)), 'layer number 1 has a name of 2000 bytes'),
    (message(100, b'\x0b\x0c'), 'layer number 1 is damaged at byte 3'),  # A group.
    (message(100, b'\x00\x01'), 'damaged at byte 3'),  # Field 0.
    (message(100, b'\x0a\x09a'), 'damaged|cut short'),
    (message(100, b'\x0a\x01ab\x80'), 'damaged at byte'),
    (message(100, b'\xff' * 12), 'damaged at byte 3'),  # An endless varint.
    (message(100, b'\x0a' + b'\x80' * 10 + b'\0'), 'damaged at byte 4'),  # Eleven bytes.
    (b'\x0a' + varint(2**63), 'cut short'),
    (b'\x0a' + varint(2**64 - 1), 'cut short'),
    (message(100, b'\x2d123'), 'damaged|cut short'),
    (b'\x12\x04' * 50_000, 'damaged'),
    (b'{"not": "a network"}', 'damaged|cut short'),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_damage_is_named(read, data, words):
  with pytest.raises(InputError, match=f'some.caffemodel: .*({words})'):
    read(data)


def test_every_cut_is_noticed_or_harmless(read):
  """A file that ends early has fewer layers, or is refused."""
  network = small()
  data = caffe_files.caffemodel(network)
  whole = 0
  for end in range(1, len(data)):
    try:
      net = read(data[:end])
    except InputError:
      continue
    whole += 1
    same(net, network._replace(layers=network.layers[: len(net.layers)]))
    assert len(net.layers) < len(network.layers)
  assert whole == len(network.layers) - 1


@pytest.mark.parametrize('style', [{}, {'version': 1}, {'version': 0}, {'packing': 'unpacked'}])
def test_recognized(mapped, style):
  data = caffe_files.caffemodel(for_v0(), **style)
  assert caffe.matches(mapped(data))
  # Also when cut, so that the message is about this format.
  assert caffe.matches(mapped(data[: len(data) // 2]))


def test_recognized_without_a_head(mapped):
  assert caffe.matches(mapped(message(100, message(1, b'conv1_1'))))
  assert caffe.matches(mapped(message(2, message(2, b'data'))))


@pytest.mark.parametrize(
  'data',
  [
    *(b'PK\x03\x04' + bytes(60), b'\x89HDF\r\n\x1a\n' + bytes(60), b'\x89PNG\r\n\x1a\n'),
    # A pickle of PyTorch, safetensors with headers of 10, 18 and 2578 bytes, ONNX, TensorFlow.
    *(b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.', (10).to_bytes(8, 'little') + b'{"a": 1234'),
    *((18).to_bytes(8, 'little') + b'{"weight":{"dtype"', (2578).to_bytes(8, 'little') + b'{"a":'),
    *(b'\x08\x07\x12\x07pytorch:\x00', b'\n\x1e\n\x04data\x12\x0bPlaceholder*\x09\n\x05'),
    # Text, and an empty layer.
    *(b'name: "VGG"\nlayer {\n', b'\n\n\nlayer {}', b'\x12\x00'),
    *(b'\n', b'\x00', b'\xff' * 99),
    # What no writer puts before or at the start of a layer.
    *(message(1, b'\x01') + message(100, message(1, b'a')), message(2, b'\x0a\x00\x00\x00')),
    *(message(2, b'\x08\x01\x00'), integer(4, 3) * 1000 + message(100, message(1, b'a'))),
  ],
  ids=lambda data: data[:4].hex(),
)
def test_other_files_are_not_recognized(mapped, data):
  assert not caffe.matches(mapped(data))


# Judges: OpenCV's importer (not of V0: it drops the blobs), and Google's protobuf.


@pytest.mark.parametrize(
  'build, style',
  [
    (lambda rng: caffe_files.published('pascal_voc', rng, width=1 / 64, num_classes=2), {}),
    (lambda rng: caffe_files.published('camvid', rng, width=1 / 64), {'packing': 'unpacked'}),
    (lambda rng: caffe_files.published('kitti', rng, width=1 / 64), {'packing': 'pieces'}),
    (lambda rng: caffe_files.published('cityscapes', rng, width=1 / 64), {'legacy': True}),
    (lambda rng: caffe_files.published('cityscapes', rng, width=1 / 64), {'version': 1}),
    (lambda rng: caffe_files.vgg16(rng, width=1 / 64, num_classes=10), {'version': 1}),
  ],
)
def test_opencv_reads_the_same(read, build, style):
  network = build(np.random.default_rng(0))
  data = caffe_files.caffemodel(network, **style)
  judge, net = caffe_files.opencv(network, data), read(data)
  assert [layer.name for layer in net.layers] == [layer.name for layer in network.layers]
  assert net.input_shape == network.input_shape
  for layer in net.layers:
    theirs = judge.getLayer(judge.getLayerId(layer.name)).blobs
    assert len(layer.blobs) == len(theirs)
    for array, values in zip(layer.blobs, theirs):
      # Biases are rows in OpenCV.
      np.testing.assert_array_equal(array, values.reshape(array.shape), strict=True)


@pytest.mark.parametrize(
  'name, sizes',
  [
    ('pascal_voc', {'fc-final': (66, 66), 'ct_conv1_1': (130, 130), 'prob': (66, 66)}),
    ('camvid', {'final': (66, 91), 'prob': (66, 91)}),
    # Caffe rounds the sizes of poolings up: 159, not 158.
    ('kitti', {'final': (60, 159), 'ctx_final': (60, 159), 'prob': (60, 159)}),
    ('cityscapes', {'final': (128, 128), 'ctx_final': (128, 128), 'prob': (1024, 1024)}),
  ],
)
def test_the_written_networks_are_the_published_ones(name, sizes):
  """Sizes of the maps at the published sizes of the input."""
  network = caffe_files.published(name, np.random.default_rng(0), width=1 / 64, num_classes=2)
  images = 50 * np.random.default_rng(1).standard_normal(network.input_shape).astype(np.float32)
  outputs = caffe_files.run(network, images, list(sizes))
  assert [output.shape[2:] for output in outputs] == list(sizes.values())
  np.testing.assert_allclose(outputs[-1].sum(1), 1, rtol=1e-5)
  # What the last layer says differs from place to place.
  assert outputs[-1].std(axis=(2, 3)).min() > 0.01


def protobuf_net():
  """BVLC's messages as far as they hold weights, as a class of Google's protobuf."""
  messages = {
    'BlobShape': 'dim:1:INT64*',
    'BlobProto': 'num:1:INT64 channels:2:INT64 height:3:INT64 width:4:INT64 data:5:FLOAT* '
    'diff:6:FLOAT* shape:7:BlobShape double_data:8:DOUBLE* double_diff:9:DOUBLE*',
    'V0LayerParameter': 'name:1:BYTES type:2:BYTES blobs:50:BlobProto*',
    'V1LayerParameter': 'layer:1:V0LayerParameter name:4:BYTES type:5:INT32 blobs:6:BlobProto*',
    'LayerParameter': 'name:1:BYTES type:2:BYTES blobs:7:BlobProto*',
    'NetParameter': 'name:1:BYTES layers:2:V1LayerParameter* layer:100:LayerParameter*',
  }
  file = descriptor_pb2.FileDescriptorProto(name='caffe.proto', package='caffe', syntax='proto2')
  for message_name, fields in messages.items():
    described = file.message_type.add(name=message_name)
    for field in fields.split():
      name, number, kind = field.rstrip('*').split(':')
      label = 'LABEL_REPEATED' if field.endswith('*') else 'LABEL_OPTIONAL'
      if kind in messages:
        described.field.add(
          **{'name': name, 'number': int(number), 'label': label},
          **{'type': 'TYPE_MESSAGE', 'type_name': f'.caffe.{kind}'},
        )
      else:
        described.field.add(name=name, number=int(number), label=label, type=f'TYPE_{kind}')
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName('caffe.NetParameter'))


def check_by_protobuf(net, parsed):
  """Compares names and values of all blobs."""
  layers = [layer.layer if layer.HasField('layer') else layer for layer in parsed.layers]
  layers = layers or parsed.layer
  assert [x.name for x in net.layers] == [x.name.decode(errors='replace') for x in layers]
  for ours, theirs in zip(net.layers, layers):
    assert len(ours.blobs) == len(theirs.blobs)
    for array, proto in zip(ours.blobs, theirs.blobs):
      values = np.array(proto.double_data) if proto.double_data else np.float32(proto.data)
      np.testing.assert_array_equal(array.ravel(), values, strict=True)


STYLES = [
  *({'version': version, 'packing': packing} for version in (2, 1, 0) for packing in PACKINGS),
  *({'dtype': np.float64, 'legacy': True, 'packing': packing} for packing in PACKINGS),
]


@pytest.mark.parametrize('style', STYLES)
def test_damaged_files(tmp_path, style):
  """Any bytes end in InputError or in what protobuf reads; quickly, without eating the memory."""
  network = for_v0() if style.get('version') == 0 else small()
  original = caffe_files.caffemodel(network, **style)
  judge, path = protobuf_net(), tmp_path / 'file'
  outcomes = collections.Counter()
  tracemalloc.start()
  for data in mutations(original, 160, seed=len(original)):
    path.write_bytes(data or b'?')
    file = MappedFile(path)
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.process_time()
    caffe.matches(file)
    try:
      net = caffe.read(file)
    except InputError as error:
      assert str(error).startswith(str(path)) and '\n' not in str(error)
      net = None
    assert time.process_time() - start < 20
    assert tracemalloc.get_traced_memory()[1] - before < 4 * len(data) + 20_000_000
    if net:
      check_by_protobuf(net, judge.FromString(data))
    outcomes[bool(net)] += 1
  tracemalloc.stop()
  assert min(outcomes.values()) > 5, outcomes


@pytest.mark.parametrize(
  'data',
  {
    'layers': b'\x12\x00' * 2_000_000,
    'layers with a type': message(2, integer(5, 4)) * 1_000_000,
    'blobs': message(2, integer(5, 4), message(6, b'\x2a\x04abcd') * 1_000_000),
    'pieces': message(100, message(7, b'\x2a\x04abcd' * 1_000_000)),
    'runs': message(100, message(7, b'\x2dabcd\x3dabcd' * 1_000_000)),
    'shapes': message(100, message(7, message(7, message(1, b'\1' * 32)) * 10_000)),
    'inputs': integer(4, 3) * 1_000_000,
    'kernels': message(100, message(106, message(4, b'\1' * 32) * 10_000)),
  }.values(),
  ids=lambda data: data[:6].hex(),
)
def test_very_many_tiny_things(read, data):
  start = time.process_time()
  with pytest.raises(InputError, match='more than 100000'):
    read(data)
  assert time.process_time() - start < 20
