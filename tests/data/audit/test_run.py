"""Every planted issue is found, and nothing else, in drawn and in real data sets."""

import io
import json

import numpy as np
from PIL import Image
import pytest

from dilated_jax.data import audit, folder, statistics
from dilated_jax.data.audit import findings, pair_stats
from dilated_jax.data.builders import scenes
from dilated_jax.data.folder.pairing import SPLITS, Pair as FilePair
from dilated_jax.data.label_specs import CAMVID, SCENES
from dilated_jax.errors import InputError
from tests.data.audit.planted import (
  ACROSS,
  ALONE,
  NUM_SCENES,
  OF_TWO,
  Pair,
  check_planted,
  copy_camvid,
  draw,
  empty_file,
  found,
  illegal_value,
  kinds,
  nothing_labeled,
  run,
)


def test_planted_faults_in_scenes(tmp_path):
  assert len(ALONE + OF_TWO + ACROSS) >= 25
  report = check_planted(tmp_path, draw(tmp_path), NUM_SCENES)
  examples = audit.draw_examples(report)
  assert examples.ndim == 3 and examples.shape[0] > 1000
  text = audit.format_table(report)
  assert 'INVALID' in text and 'unreadable image (3): get the file again' in text
  content = json.loads(json.dumps(audit.to_json(report), allow_nan=False))
  assert not content['valid'] and content['splits'] == {'train': 49, 'val': 15}
  assert {entry['kind'] for entry in content['findings']} == kinds(report).keys()
  for entry in content['findings']:
    assert entry['severity'] in findings.SEVERITIES and entry['advice'] and entry['issues']


def test_planted_faults_in_camvid(tmp_path, camvid_dir):
  check_planted(tmp_path, copy_camvid(tmp_path, camvid_dir), 11)


def test_the_whole_release_of_camvid(camvid_dir):
  """Legal, with the known weights; val shares its film with train, and so does test."""
  lists = [camvid_dir / f'{split}.txt' for split in SPLITS]
  pairing = folder.pair_folders(camvid_dir, camvid_dir, lists)
  report = audit.audit_files(pairing, classes=CAMVID)
  assert report.valid and len(report.pairs) == 701
  assert found(report, 'warning') == {
    ('sequence in two splits', '0016E5'), ('sequence in two splits', '0001TP')
  }  # fmt: skip
  films = {issue.file: issue.detail for issue in kinds(report)['sequence in two splits'].issues}
  assert films['0016E5'].startswith('204 in train, 101 in val')
  assert films['0001TP'].startswith('62 in train, 62 in test')
  known = [0.279, 0.202, 4.787, 0.149, 1, 0.422, 3.847, 1.974, 0.789, 6.375, 8.859]
  np.testing.assert_allclose(report.class_weights['median'], known, atol=5e-4)


def test_a_single_fault_leaves_the_rest_alone(tmp_path):
  pairs = draw(tmp_path, 6, 2)
  illegal_value(pairs[2])
  assert found(run(tmp_path)) == {('invalid values', 'a002x.png')}


def test_labels_of_nothing(tmp_path):
  for pair in draw(tmp_path, 4, 2):
    nothing_labeled(pair)
  report = run(tmp_path, None)
  assert ('labels not understood', 'labels') in found(report, 'error')
  assert report.spec is None and report.class_weights == {} and not report.valid
  assert 'INVALID' in audit.format_table(report) and audit.draw_examples(report) is None


def test_nothing_can_be_read(tmp_path):
  for pair in draw(tmp_path, 2, 2):
    empty_file(pair)
    pair.label.write_bytes(b'no image')
  report = run(tmp_path)
  assert {kind for kind, _ in found(report)} == {'unreadable image', 'unreadable label'}
  assert audit.to_json(report)['sizes'] == {}


def test_lists(tmp_path):
  pairs = [Pair(tmp_path, '', f'c{i}x', *scenes.draw(i)) for i in range(12)]
  names = [pair.image.stem for pair in pairs]
  (tmp_path / 'train.txt').write_text('\n'.join([*names[:7], 'c99x']))
  (tmp_path / 'val.txt').write_text('\n'.join([*names[6:11], 'images/c10x.png']))
  lists = tmp_path / 'train.txt', tmp_path / 'val.txt'
  pairing = folder.pair_folders(tmp_path / 'images', tmp_path / 'labels', lists)
  report = audit.audit_files(pairing, classes=audit.numbered_classes(7))
  assert found(report) == {
    ('listed but missing', 'train.txt'), ('in two splits', 'c6x.png'), ('in no list', 'c11x')
  }  # fmt: skip
  assert [pair.split for pair in report.pairs] == ['train'] * 7 + ['val'] * 4


def test_prepared(tmp_path):
  draws = [scenes.draw(index) for index in range(8)]
  examples = [{'image': a, 'label': b, 'name': f's{i}x'} for i, (a, b) in enumerate(draws)]
  dark = {**examples[3], 'image': examples[3]['image'] // 2, 'name': 'dark'}
  sources = {'train': examples[:6], 'val': [*examples[6:], examples[0], dark]}
  report = audit.audit_prepared(sources, SCENES)
  assert found(report) == {
    ('duplicate across splits', 's0x'), ('near duplicate across splits', 'dark')
  }  # fmt: skip
  assert not report.valid and audit.draw_examples(report) is not None
  counts = statistics.count_labels(sources['val'], 7)
  np.testing.assert_array_equal(report.counts['val'].pixels, counts.pixels)
  np.testing.assert_array_equal(report.counts['val'].image_pixels, counts.image_pixels)
  weights = statistics.class_weights(sources['train'], 7, 'log')
  np.testing.assert_allclose(report.class_weights['log'], weights)


def test_a_number_of_classes_that_is_none():
  for count in (0, 1, 255):
    with pytest.raises(InputError, match=f'`num_classes={count}`: choose 2 to 254'):
      audit.numbered_classes(count)


def test_random_bytes_are_never_more_than_a_fault(tmp_path):
  """Damaged files of every format give issues, whatever Pillow makes of them."""
  rng = np.random.default_rng(0)
  image, ids = scenes.draw(0)
  for number, suffix in enumerate(['.png', '.jpg', '.bmp', '.gif', '.tif', '.webp', '.ppm'] * 6):
    content = io.BytesIO()
    picture = Image.fromarray(image[:40, :40] if number % 2 else ids[:40, :40])
    picture.save(content, Image.registered_extensions()[suffix])
    damaged = bytearray(content.getvalue())
    for place in rng.integers(0, min(len(damaged), 200), 1 + number // 7):
      damaged[place] = rng.integers(256)
    paths = [tmp_path / f'{kind}{number}{suffix}' for kind in 'il']
    for path in paths:
      path.write_bytes(damaged)
    seen = pair_stats.read_pair(FilePair('x', *paths, None))
    assert all(issue.kind in findings.KINDS and '\n' not in issue.detail for issue in seen.issues)
