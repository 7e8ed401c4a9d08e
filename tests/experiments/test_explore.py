"""explore: what it prints and writes is what the paper and its networks say, or is derived so."""

import functools
import json

import pytest

from dilated_jax import files, models
from dilated_jax.data.label_specs import CAMVID
from dilated_jax.errors import InputError
from dilated_jax.models import weights_folder
from dilated_jax.models.spec import ModelSpec
from dilated_jax.nn import costs, geometry
from experiments import explore
from tests import calling

run = functools.partial(calling.run, explore)


def rows_of(out):
  """The table that was printed: {layer: {title: entry}}."""
  header, *lines = out.split('\n\n')[1].splitlines()
  return {line.split()[0]: dict(zip(header.split(), line.split(), strict=True)) for line in lines}


def test_the_published_voc_network(capsys):
  run('--model=dilation8', '--context=large', '--input_size=900', '--text')
  out = capsys.readouterr().out
  rows = rows_of(out)
  assert len(rows) == 19 + 8
  assert rows['fc6'] == {
    'layer': 'fc6', 'kind': 'conv', 'kernel': '7x7', 'dilation': '4', 'stride': '1',
    'padding': '0', 'channels': '4096', 'field': '380', 'jump': '8', 'offset': '189.5',
    'output': '66x66', 'parameters': '102,764,544',
    'GFLOPs': f'{2 * 66**2 * 49 * 512 * 4096 / 1e9:.2f}',
    'MiB': f'{4 * (90**2 * 512 + 66**2 * 4096) / 2**20:.1f}',
  }  # fmt: skip
  assert rows['pool1']['kind'] == 'max_pool' and rows['pool1']['channels'] == '64'
  ends = ('field', 'output', 'padding', 'parameters')
  found = {name: tuple(rows[name][end] for end in ends) for name in ('ctx_conv1_1', 'ctx_final')}
  assert found['ctx_conv1_1'] == ('396', '130x130', '33', f'{(9 * 21 + 1) * 42:,}')
  assert found['ctx_final'] == ('908', '66x66', '0', f'{(672 + 1) * 21:,}')
  for line in (
    'dilation8: 21 classes, input 900x900, context large',
    'receptive field  908 pixels',
    'margin           186 pixels on each side; cell 0 is centered at pixel 189.5 of the input, '
    '3.5 of the picture inside',
    'valid inputs     8 n + 372 pixels for n cells: 380, 388, ...',
    'parameters       141,149,720 (538.4 MiB in float32)',
  ):
    assert line in out.splitlines()
  assert 'reads all 908 pixels' in out and 'reads all 67 scores' in out
  assert 'All cells also read zeros' in out  # 33 on each side of 66.
  # The columns stand one below the other.
  table = out.split('\n\n')[1].splitlines()
  assert len({len(line) for line in table}) == 1


def test_dilation10_ends_at_full_size(capsys):
  run('--model=dilation10', '--num_classes=19', '--input_size=1396x2420')
  rows = rows_of(capsys.readouterr().out)
  last = rows['ctx_upsample']
  assert (last['kind'], last['kernel'], last['stride']) == ('deconv', '16x16', '8')
  assert (last['output'], last['jump'], last['offset']) == ('1024x2048', '1', '186')
  assert (last['parameters'], rows['ctx_final']['field']) == ('0', '2444')


def test_gridding_is_told(capsys):
  run(
    '--model=dilation8',
    '--dilations=2,2,2',
    '--num_classes=5',
    '--width=0.1',
    '--input_size=384x381',
  )
  out = capsys.readouterr().out
  # Three layers of taps -2, 0, 2: the even places of 13.
  assert 'reads 7 of the 13 scores of its field along an axis, with holes 1 wide (gridding' in out
  assert '384 is no valid height: windows overhang its end; the next is 388.' in out
  assert '381 is no valid width' in out


def test_padding_is_told(capsys):
  run('--model=dilation7', '--input_size=1000x652')
  assert 'The outermost 17 cells also read zeros' in capsys.readouterr().out
  run('--model=front_end')
  out = capsys.readouterr().out
  assert 'zeros' not in out and 'context module' not in out and 'input 884x884' in out


def test_json(tmp_path, capsys):
  file = tmp_path / 'new' / 'network.json'
  run('--model=front_end', '--blocks=1,1', '--stride=2', f'--output={file}', '--dtype=bfloat16')
  assert capsys.readouterr().out == f'written to {file}\n'
  result = json.loads(file.read_text())
  assert result['options'] == {'blocks': [1, 1], 'stride': 2, 'dtype': 'bfloat16'}
  network, first = result['network'], result['layers'][0]
  assert first['bytes'] == 2 * (result['input'][0] ** 2 * 3 + first['height'] ** 2 * 64)
  assert network['training_bytes'] > network['inference_bytes']
  assert network['parameters'] == sum(layer['parameters'] for layer in result['layers'])
  assert network['flops'] == sum(layer['flops'] for layer in result['layers'])
  assert network['inference_bytes'] == max(layer['bytes'] for layer in result['layers'])
  assert [layer['read'] for layer in result['layers']] == [
    layer['field'] for layer in result['layers']
  ]
  run('--model=front_end', f'--output={file}', '--text')
  assert 'conv5_3' in capsys.readouterr().out and file.exists()


def spec(**changes):
  fields = {'model': 'dilation7', 'options': {'width': 0.125}, 'input': (852, 1640)} | changes
  return ModelSpec(classes=CAMVID.names, palette=CAMVID.palette, mean=CAMVID.mean, **fields)


def test_a_weights_folder(tmp_path, capsys):
  weights_folder.save_weights(tmp_path / 'weights', spec(), {'params': {}})
  run(f'--weights={tmp_path}/weights')
  out = capsys.readouterr().out
  assert out.startswith('dilation7: 11 classes, input 852x1640, width 0.125\n')
  assert rows_of(out)['final']['output'] == '60x159'

  with pytest.raises(InputError, match='--width has no meaning with --weights'):
    run(f'--weights={tmp_path}/weights', '--width=1')
  with pytest.raises(InputError, match='--num_classes has no meaning with --weights'):
    run(f'--weights={tmp_path}/weights', '--num_classes=2')
  (tmp_path / 'weights/checksums.json').unlink()
  for options in ({'width': 'broad'}, {'depth': 3}):
    content = json.loads((tmp_path / 'weights/model.json').read_text()) | {'options': options}
    files.write_atomic(tmp_path / 'weights/model.json', json.dumps(content).encode())
    with pytest.raises(InputError, match=r'weights/model\.json: '):
      run(f'--weights={tmp_path}/weights')


@pytest.mark.parametrize(
  'argument, words',
  [
    ('--input_size=372', r'an input of 372 pixels vanishes in .*; give 380 or more'),
    ('--input_size=9x9x9', '--input_size=9x9x9: a size is HxW'),
    ('--dilations=1,x', '--dilations=x: '),
    ('--dilations=1,1,30000', 'a receptive field of 480412 pixels; up to 100000'),
    ('--stride=3', 'stride is 3'),
    ('--weights=/nowhere', '/nowhere: is not a weights folder'),
    ('--output=/', '--output=/: is a folder'),
    ('--output=page.htm', r'--output=page\.htm: ends in neither \.html \(a page\) nor \.json'),
  ],
)
def test_wrong_flags_are_one_line(argument, words):
  with pytest.raises(InputError, match=words) as raised:
    run(argument)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('name', [name for name in models.NAMES if 'dilation' not in name])
def test_every_network_is_told(name, capsys):
  run(f'--model={name}', '--width=0.125', '--num_classes=5')
  out = capsys.readouterr().out
  model = models.create(name, 5, width=0.125)
  rows = rows_of(out)
  assert list(rows) == [layer.name for layer in model.table]
  counts = [int(row['parameters'].replace(',', '')) for row in rows.values()]
  assert sum(counts) == costs.num_parameters(model.table)
  operations = sum(float(row['GFLOPs']) for row in rows.values())
  side = geometry.valid_size(model.table, 512 + 2 * model.margin)
  assert operations == pytest.approx(
    costs.flops(model.table, side, side) / 1e9, abs=0.005 * len(rows)
  )
  means = any(layer.kind == 'adaptive_avg_pool' for layer in model.table)
  assert ('means of the whole picture' in out) == means
  assert ('auxiliary answer' in out) == (name == 'pspnet')


def test_branches_that_see_the_whole_picture(capsys, tmp_path):
  run('--model=deeplab_v3', '--width=0.125', f'--output={tmp_path}/v3.json', '--text')
  rows = rows_of(capsys.readouterr().out)
  assert (rows['mean']['field'], rows['aspp_4_up']['output']) == ('all', '33x33')
  layers = json.loads((tmp_path / 'v3.json').read_text())['layers']
  mean = next(layer for layer in layers if layer['name'] == 'mean')
  assert (mean['field'], mean['read'], mean['height']) == (None, None, 1)


def test_several_sizes_are_told(capsys):
  run('--model=deeplab_v2', '--multi_scale', '--width=0.125')
  assert 'seen at sizes 1, 0.75, 0.5' in capsys.readouterr().out


def test_a_crf_rnn_is_explored_by_its_network(capsys):
  run('--model=dilation8', '--text')
  alone = capsys.readouterr().out
  for grid in ('cells', 'pixels'):
    run('--model=dilation8', '--crf=rnn', f'--crf_rnn_grid={grid}', '--text')
    out = capsys.readouterr().out
    assert rows_of(out) == rows_of(alone)
    assert f'has {3 * 21**2:,} parameters more' in out
