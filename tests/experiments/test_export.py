"""export: a file that is run before it is written; what it can't write is said in one line."""

import functools

import jax
import jax.export
import onnxruntime
import pytest

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.export import onnx
from experiments import export
from tests import calling
from tests.export.networks import VGG, segmenter

run = functools.partial(calling.run, export)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('network') / 'weights'
  network = segmenter('front_end', crf='rnn', **VGG)
  models.save_weights(folder, network.spec, network.variables)
  return folder


@pytest.mark.parametrize('contents', ['labels', 'network'])
def test_a_file_that_agrees(contents, weights, tmp_path, capsys):
  output = tmp_path / 'network.onnx'
  run(f'--weights={weights}', f'--output={output}', f'--contents={contents}', '--nocrf')
  said = capsys.readouterr().out
  assert 'beside JAX' in said and str(output) in said
  session = onnxruntime.InferenceSession(output)
  names = {'labels': ['labels', 'probabilities'], 'network': ['logits']}[contents]
  assert [each.name for each in session.get_outputs()] == names


@pytest.mark.parametrize(
  'options, message',
  [
    (['--output=a.onnx'], '--nocrf leaves it out'),
    (['--output=a.pb', '--nocrf'], 'the name must end in .onnx or .stablehlo'),
    (['--output=a.onnx', '--nocrf', '--input_size=8x8'], '--input_size is not read'),
    (['--output=a.stablehlo', '--input_size=0x8'], '--input_size=0x8: both sides'),
  ],
)
def test_errors(options, message, weights, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=message):
    run(f'--weights={weights}', *options)
  assert not list(tmp_path.iterdir())
  (tmp_path / 'a.onnx').mkdir()
  with pytest.raises(InputError, match=r'--output=a\.onnx: is a folder'):
    run(f'--weights={weights}', '--output=a.onnx', '--nocrf')


@pytest.mark.parametrize('options', [[], ['--input_size=21x30']])
def test_a_program_with_its_crf(options, weights, tmp_path, capsys):
  output = tmp_path / 'network.stablehlo'
  run(f'--weights={weights}', f'--output={output}', *options)
  count = 630 if options else 67 * 81
  said = capsys.readouterr().out
  assert f'the program beside JAX: labels differ in 0 of {count:,} pixels' in said
  program = jax.export.deserialize(bytearray(output.read_bytes()))
  known = [isinstance(size, int) for size in program.in_avals[0].shape]
  assert known == [False, *[bool(options)] * 2, True]


def test_a_crf_on_pixels_is_of_one_size(tmp_path):
  network = segmenter('front_end', crf='rnn', crf_rnn_grid='pixels', **VGG)
  models.save_weights(tmp_path / 'weights', network.spec, network.variables)
  with pytest.raises(InputError, match='laid out for images of one size: give `input_size`'):
    run(f'--weights={tmp_path}/weights', f'--output={tmp_path}/a.stablehlo')
  assert [path.name for path in tmp_path.iterdir()] == ['weights']


def test_a_file_with_another_answer_is_not_written(weights, tmp_path, monkeypatch):
  network = segmenter('front_end', upsampling='corner_logits', **VGG)
  other = onnx.export(network)
  monkeypatch.setattr(onnx, 'export', lambda *_: other)
  with pytest.raises(InputError, match='gives another answer than JAX: labels differ in'):
    run(f'--weights={weights}', f'--output={tmp_path / "a.onnx"}', '--nocrf')
  assert not list(tmp_path.iterdir())
