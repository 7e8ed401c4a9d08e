"""report: pages of runs, whose numbers are those of their files, and that can run no script."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.evaluation.extremes import Extremes
from dilated_jax.images import visualization
from experiments import report
from experiments.reports import single, source
from tests import calling
from tests.experiments.reports.test_markup import HOSTILE
from tests.html_pages import Page

CLASSES = ['road', 'sky', 'car']
PALETTE = [[10, 20, 30], [0, 0, 250], [250, 0, 0]]
CONFUSION = [[90, 8, 2], [5, 45, 0], [0, 30, 20]]


def training(folder, classes=CLASSES, layer='context/ctx_conv1_1', steps=5, **flags):
  """Writes what `train` leaves in its workdir."""
  scores = metrics.scores(np.array(CONFUSION), classes)
  lines = []
  for step in range(steps + 1):
    found = [{'layer_drift': {layer: 0.1 * step, 'context/last': 0.01}}]
    if step:
      found += [
        {'loss': 2.0 / step, 'accuracy': 0.1 * step, 'gradient_norm': 3.0, 'learning_rate': 0.25,
         'steps_per_second': 2.5, 'waiting': 0.125},
        {'val_mean_iou': 0.1 * step, 'val_accuracy': 0.7},
        {'val_per_class_iou': dict.fromkeys(classes, 0.1 * step)},
        {'layer_gradient_norm': {layer: 0.5, 'context/last': 2.0},
         'layer_activations': {
           layer: {'mean': 1.5, 'std': 2.5, 'zeros': 0.75, 'dead': 0.25},
           'context/last': {'mean': -3.0, 'std': 4.0}}},
      ]  # fmt: skip
    lines += [{'stage': 'context', 'step': step} | line for line in found]
  stage = folder / 'context'
  (stage / 'profile').mkdir(parents=True)
  text = '\n'.join(map(json.dumps, lines))
  (folder / 'metrics.jsonl').write_text(f'{text}\n{{"stage": "conte')
  (stage / 'config.json').write_text(json.dumps({'num_steps': steps, 'batch_size': 4}))
  (stage / 'val.json').write_text(json.dumps({'step': steps, **scores}))
  extremes = Extremes(len(classes))
  rng = np.random.default_rng(0)
  for name in ('first', classes[0]):
    label = rng.integers(0, 3, (6, 8)).astype(np.uint8)
    label[0, 0] = 255
    image = rng.integers(0, 256, (6, 8, 3), np.uint8)
    extremes.add({'name': name, 'label': label, 'image': image}, label % 2)
  extremes.save(stage / 'val_images.npz')
  row = {'name': layer, 'program': 'jit_step', 'calls': 6, 'milliseconds': 30.0}
  (stage / 'profile/operations.json').write_text(
    json.dumps({'first_step': 3, 'steps': 2, 'operations': [row]})
  )
  given = {'workdir': str(folder), 'learning_rate': '0.25'} | flags
  (folder / 'flags.txt').write_text('\n'.join(f'--{k}={v}' for k, v in given.items()) + '\n')
  about = {
    'model': 'dilation8', 'dataset': 'toys', 'classes': classes, 'palette': PALETTE,
    'parameters': 1234, 'training_images': 7, 'date': 'today', 'versions': {'jax': '1.2'},
  }  # fmt: skip
  (folder / 'about.json').write_text(json.dumps(about))
  return scores


def made(*runs, **options) -> Page:
  output = options.pop('output')
  report.main([str(run) for run in runs], calling.parsed(report, f'--output={output}'))
  return Page(output.read_bytes())


def test_the_page_of_a_training_tells_the_numbers_of_its_files(tmp_path):
  scores = training(tmp_path / 'run')
  page = made(tmp_path / 'run', output=tmp_path / 'new/page.html')
  page.check_harmless()
  percent = '{:.1f}'.format
  classes = page.tables['Scores by class']
  assert classes[0] == ['class', '', 'IoU, %', 'accuracy, %', 'of pixels, %']
  for row, name, counts in zip(classes[1:], CLASSES, CONFUSION, strict=False):
    iou = 100 * scores['per_class_iou'][name]
    assert row[0].strip('\xa0') == name and row[2] == percent(iou)
    assert row[4] == percent(100 * sum(counts) / 200)
  assert classes[-1][2:] == [percent(100 * scores[k]) for k in ('mean_iou', 'mean_accuracy')] + ['']
  (matrix,) = [rows for title, rows in page.tables.items() if title.startswith('Confusion matrix')]
  assert matrix[0][1:] == CLASSES and matrix[3] == ['car', '', '60.0', '40.0']
  assert page.tables['What is confused most'][1] == ['car', 'sky', '30', '60.0']
  losses = page.tables['Loss']
  assert losses[1:] == [[f'{k}', f'{2 / k:.4g}'] for k in range(1, 6)]
  assert page.tables['Images per second, mean so far'][1] == ['1', '10']  # 2.5 steps of 4 images.
  assert page.tables['Time spent waiting for images, %'][1] == ['1', '12.5']
  assert page.tables['Scores, %'][3] == ['3', '30.0', '70.0', '30.0']
  drift = page.tables['Distance from the identity, ‖W − I‖ / ‖I‖']
  assert drift[0] == ['step', 'ctx_conv1_1', 'last'] and drift[-1] == ['5', '0.5', '0.01']
  outputs = page.tables['Outputs of the layers after step 5']
  assert outputs[1:] == [
    ['ctx_conv1_1', '1.5', '2.5', '75.0', '25.0'], ['last', '-3', '4', '–', '–'],
  ]  # fmt: skip
  assert page.tables['Operations by time'][1][-2:] == ['15', '3']
  assert 'last, 5: 2' in page.text and 'sky, 5: 50.0' in page.text  # In pictures.
  assert ['learning_rate', '0.25'] in page.tables['Flags']
  assert ['jax', '1.2'] in page.tables['What made this'] and '1,234 parameters' in page.text


def test_images_with_truth_and_difference(tmp_path):
  training(tmp_path / 'run')
  page = made(tmp_path / 'run', output=tmp_path / 'page.html')
  found = source.load(tmp_path / 'run').images
  images = {a['alt']: a['src'] for name, a in page.tags if name == 'img'}
  for one in (*found[0], *found[1]):
    expected = {
      'image': one.image,
      'truth': visualization.colorize(one.labels, PALETTE),
      'prediction': visualization.colorize(one.predictions, PALETTE),
    }
    for title, array in expected.items():
      np.testing.assert_array_equal(decoded(images[f'{title} of {one.name}']), array)
    difference = decoded(images[f'difference of {one.name}'])
    wrong = (difference == (213, 43, 30)).all(-1)
    valid = one.labels != 255
    np.testing.assert_array_equal(wrong[valid], (one.labels != one.predictions)[valid])
    assert (difference[~valid] == 90).all()
  assert len(images) == 8


def decoded(data: str) -> np.ndarray:
  content = base64.b64decode(data.removeprefix('data:image/png;base64,'))
  return np.asarray(PIL.Image.open(io.BytesIO(content)).convert('RGB'))


@pytest.mark.parametrize('text', HOSTILE)
def test_hostile_names_are_texts(tmp_path, text):
  classes = [text, f'{text} 2', f'{text} 3']
  training(tmp_path / 'run', classes, layer=f'context/{text}', data_dir=text)
  other = tmp_path / 'scores.json'
  scores = metrics.scores(np.array(CONFUSION), classes)
  about = {
    'dataset': text, 'split': text, 'pictures': 3, 'protocol': text, 'notes': [text],
    'weights': text, 'flags': {text: text, 'scales': [text]}, 'made': {'machine': text},
    'boundary': {'trimap': {'1': 0.5, '2': 0.6}},
  }  # fmt: skip
  other.write_text(json.dumps(scores | about))
  for runs in ((tmp_path / 'run',), (other,), (tmp_path / 'run', other)):
    page = made(*runs, output=tmp_path / 'page.html')
    page.check_harmless()
    assert text in page.text


def test_the_policy_is_that_of_the_style(tmp_path):
  training(tmp_path / 'run')
  page = made(tmp_path / 'run', output=tmp_path / 'page.html')
  (style,) = re.findall('<style>(.*?)</style>', (tmp_path / 'page.html').read_text(), re.DOTALL)
  digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
  assert f"style-src 'sha256-{digest}'" in page.policy
  used = {c for _, a in page.tags for c in (a.get('class') or '').split()}
  assert used <= set(re.findall(r'\.([a-z]\w*)', style)) | {'d0'}  # d0 is not dashed.
  assert 'http' not in style and 'url(' not in style


def test_runs_side_by_side(tmp_path):
  first = training(tmp_path / 'a', seed='1')
  training(tmp_path / 'b', steps=4, seed='2')
  second = metrics.scores(np.array(CONFUSION).T, CLASSES)
  (tmp_path / 'b/context/val.json').write_text(json.dumps({'step': 4, **second}))
  page = made(tmp_path / 'a', tmp_path / 'b', output=tmp_path / 'page.html')
  page.check_harmless()
  classes = page.tables['IoU by class']
  assert classes[0] == ['class', 'A, %', 'B, %', 'B − A', '']
  for row, name in zip(classes[1:], CLASSES, strict=False):
    a, b = (100 * scores['per_class_iou'][name] for scores in (first, second))
    assert row[1:4] == [f'{a:.1f}', f'{b:.1f}', f'{b - a:+.1f}']
  assert page.tables['Loss'][-1] == ['5', '0.4', '']
  assert page.tables['Loss'][-2] == ['4', '0.5', '0.5']
  flags = page.tables['Flags that differ']
  assert ['seed', '1', '2'] in flags and [row[0] for row in flags] == ['flag', 'workdir', 'seed']
  assert 'Versions that differ' not in page.tables
  runs = {row[0]: row[1:] for row in page.tables['The runs']}
  assert runs['mean IoU, %'] == [f'{100 * s["mean_iou"]:.1f}' for s in (first, second)]


def test_images_per_second_are_of_known_batches_only(tmp_path):
  for name in 'ab':
    training(tmp_path / name)
  (tmp_path / 'b/context/config.json').unlink()
  page = made(tmp_path / 'a', tmp_path / 'b', output=tmp_path / 'page.html')
  speeds = page.tables['Images per second, mean so far']
  assert [row[0] for row in speeds[1:]] == ['1', '2', '3', '4', '5']
  assert {tuple(row[1:]) for row in speeds[1:]} == {('10',)}
  page = made(tmp_path / 'b', output=tmp_path / 'page.html')
  assert 'Images per second, mean so far' not in page.tables


def test_a_run_that_has_just_begun(tmp_path):
  training(tmp_path / 'run')
  for path in ('context/val.json', 'about.json', 'flags.txt', 'context/config.json'):
    (tmp_path / 'run' / path).unlink()
  (tmp_path / 'run/context/val_images.npz').write_bytes(b'half')
  (tmp_path / 'run/metrics.jsonl').write_text(
    '{"stage": "context", "step": 1, "loss": NaN}\nnull\n'
  )
  page = made(tmp_path / 'run', output=tmp_path / 'page.html')
  page.check_harmless()
  assert 'Loss' not in page.tables


def test_a_page_that_can_not_be_written_loses_nothing(tmp_path, monkeypatch, caplog):
  training(tmp_path / 'run')
  single.write_training(tmp_path / 'run')
  before = (tmp_path / 'run/report.html').read_bytes()
  assert Page(before).tables['Loss']

  def full(path, content):
    raise OSError('no space left')

  with monkeypatch.context() as patch:
    patch.setattr(single, 'write_atomic', full)
    single.write_training(tmp_path / 'run')
  assert 'this page could not be written (OSError: no space left)' in caplog.text
  (tmp_path / 'run/context/val.json').write_text('{"per_class_iou": 3}')
  single.write_training(tmp_path / 'run')
  assert 'this page could not be written (' in caplog.messages[-1]
  (tmp_path / 'run/metrics.jsonl').unlink()
  told = len(caplog.messages)
  single.write_training(tmp_path / 'run')  # As of a run that ended before its first step.
  assert len(caplog.messages) == told
  assert (tmp_path / 'run/report.html').read_bytes() == before


@pytest.mark.parametrize(
  'runs, words',
  [
    ([], 'name the runs'),
    (['nowhere'], 'nowhere: there is no such file or folder'),
    (['.'], 'has no metrics.jsonl'),
    (['text'], 'text: this is no JSON'),
    (['other.json'], 'other.json: these are no scores of evaluate'),
    (['text'] * 27, '27 runs are named; up to 26'),
  ],
)
def test_what_is_no_run(tmp_path, monkeypatch, runs, words):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'text').write_text('text')
  (tmp_path / 'other.json').write_text('[1]')
  with pytest.raises(InputError, match=re.escape(words)):
    made(*runs, output=tmp_path / 'page.html')
  assert not (tmp_path / 'page.html').exists()


@pytest.mark.parametrize(
  'scores, words',
  [
    ({'confusion': CONFUSION, 'per_class_iou': None}, ''),
    ({'confusion': CONFUSION, 'per_class_iou': {'road': 0.5}, 'flags': None}, ' is missing'),
  ],
)
def test_damaged_scores_are_named(tmp_path, scores, words):
  training(tmp_path / 'run')
  (tmp_path / 'damaged.json').write_text(json.dumps(scores))
  for runs in ([], [tmp_path / 'run']):
    with pytest.raises(InputError, match=f'damaged.json: no page can be made of it: .*{words}'):
      made(*runs, tmp_path / 'damaged.json', output=tmp_path / 'page.html')
  assert not (tmp_path / 'page.html').exists()


def test_lines_that_are_none_are_passed_over(tmp_path):
  training(tmp_path / 'run')
  lines = tmp_path / 'run/metrics.jsonl'
  before = source.load(tmp_path / 'run').stages[0].lines
  wrong = b'\n{"stage": 5, "step": 1}\n{"stage": "context", "step": true}\n\xff\xfe\x00\n'
  lines.write_bytes(lines.read_bytes() + wrong)
  (tmp_path / 'run/flags.txt').write_bytes(b'\xff\n')
  assert source.load(tmp_path / 'run').stages[0].lines == before
  made(tmp_path / 'run', output=tmp_path / 'page.html')


def test_as_a_command(tmp_path):
  training(tmp_path / 'a run')
  command = [sys.executable, '-m', 'experiments.report', str(tmp_path / 'a run')]
  done = subprocess.run(
    [*command, f'--output={tmp_path}/page.html'], capture_output=True, text=True, timeout=120
  )
  assert (done.returncode, done.stdout) == (0, f'written to {tmp_path}/page.html\n'), done.stderr
