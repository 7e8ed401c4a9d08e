"""audit: planted faults are all found, on the right files, and nothing is found where none is."""

import io
import json

import numpy as np
from PIL import Image, ImageEnhance
import pytest

from dilated_jax.data import audit, statistics
from dilated_jax.data.audit import duplicates, findings, pair_stats, report as reports
from dilated_jax.data.builders import scenes
from dilated_jax.data.folder import pairing
from dilated_jax.errors import InputError
from dilated_jax.label_spec import CAMVID, CITYSCAPES, SCENES

NUM_SCENES = 7


class Pair:
  """A picture and a label that a test may spoil."""

  def __init__(self, root, split, name, image, ids):
    self.image = root / 'images' / split / f'{name}.png'
    self.label = root / 'labels' / split / f'{name}.png'
    self.picture, self.ids = image, ids
    save(image, self.image)
    save(ids, self.label)

  def relabel(self, ids):
    save(np.asarray(ids, np.uint8), self.label)

  def repaint(self, image, suffix='.png', **options):
    self.image.unlink()
    self.image = save(image, self.image.with_suffix(suffix), **options)


def save(content, path, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = content if isinstance(content, Image.Image) else Image.fromarray(content)
  image.save(path, **options)
  return path


def draw(root, train=45, val=15):
  """A clean data set of drawn scenes."""
  pairs = [Pair(root, 'train', f'a{i:03}x', *scenes.draw(i)) for i in range(train)]
  return pairs + [Pair(root, 'val', f'b{i:03}x', *scenes.draw(1000 + i)) for i in range(val)]


def copy_camvid(root, camvid_dir):
  """A clean part of CamVid: every picture of train is of one film, and of val of another."""
  pairs = []
  for split, source, film, step in (
    ('train', 'train', '0006R0', 2),
    ('val', 'test', 'Seq05VD', 10),
  ):
    for path in sorted((camvid_dir / source).glob(f'{film}*.png'))[::step]:
      ids = np.asarray(Image.open(camvid_dir / f'{source}annot' / path.name))
      ids = np.where(ids == 11, 255, ids).astype(np.uint8)
      pairs.append(Pair(root, split, path.stem, np.asarray(Image.open(path)), ids))
  return pairs


def run(root, num_classes=NUM_SCENES, **options):
  paired = pairing.of_folders(root / 'images', root / 'labels')
  classes = num_classes and audit.numbered_classes(num_classes)
  return audit.of_files(paired, classes=classes, **options)


def found(report, *severities):
  """(kind, file name) of all faults."""
  return {
    (finding.kind, fault.file.rsplit('/')[-1])
    for finding in report.findings
    for fault in finding.faults
    if finding.severity in (severities or findings.SEVERITIES)
  }


def kinds(report):
  return {finding.kind: finding for finding in report.findings}


def jpeg(image, quality):
  content = io.BytesIO()
  image.save(content, 'JPEG', quality=quality)
  return Image.open(content)


# One fault a function: each spoils a pair or two and returns what must be found.


def truncated_picture(pair):
  pair.image.write_bytes(pair.image.read_bytes()[:-900])
  return [('unreadable picture', pair.image)]


def empty_file(pair):
  pair.image.write_bytes(b'')
  return [('unreadable picture', pair.image)]


def no_picture_at_all(pair):
  pair.image.write_text('<html>404</html>')
  return [('unreadable picture', pair.image)]


def truncated_label(pair):
  pair.label.write_bytes(pair.label.read_bytes()[:-200])
  return [('unreadable label', pair.label)]


def flipped_bits(pair):
  content = bytearray(pair.label.read_bytes())
  content[len(content) // 2] ^= 0xFF
  pair.label.write_bytes(content)
  return [('unreadable label', pair.label)]


def label_missing(pair):
  pair.label.unlink()
  return [('no label', pair.image)]


def picture_missing(pair):
  pair.image.unlink()
  return [('no picture', pair.label)]


def two_of_one_name(pair):
  other = save(pair.picture, pair.image.with_suffix('.jpg'))
  return [('two files of one name', other), ('two files of one name', pair.image)]


def jpeg_label(pair):
  pair.label.unlink()
  return [('lossy label', save(pair.ids, pair.label.with_suffix('.jpg')))]


def label_that_was_a_jpeg(pair):
  ids = np.asarray(jpeg(Image.fromarray(pair.ids), 95))
  pair.relabel(np.minimum(ids, pair.ids.max(where=pair.ids < 255, initial=0)))
  return [('torn borders', pair.label)]


def smoothly_resized_label(pair):
  ids = np.where(pair.ids == 255, 0, pair.ids)
  height, width = ids.shape
  image = Image.fromarray(ids * 30).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
  pair.relabel(image.resize((width, height), Image.Resampling.BICUBIC))
  return [('values outside the classes', pair.label), ('torn borders', pair.label)]


def sixteen_bit_label(pair):
  save(pair.ids.astype(np.uint16), pair.label)
  return [('16-bit label', pair.label)]


def label_of_large_numbers(pair):
  save(pair.ids.astype(np.uint16) * 1000, pair.label)
  return [('label beyond 8 bits', pair.label)]


def transparent_label(pair):
  save(np.dstack([pair.ids, pair.ids]), pair.label)
  return [('transparent label', pair.label)]


def color_mask(pair):
  palette = np.array([*audit.numbered_classes(20).palette, *[(0, 0, 0)] * 236], np.uint8)
  save(palette[pair.ids], pair.label)
  return [('color mask', pair.label)]


def ids_in_three_channels(pair):
  save(np.repeat(pair.ids[..., None], 3, -1), pair.label)
  return [('three channels', pair.label)]


def label_of_another_size(pair):
  save(pair.ids[::2, ::2], pair.label)
  return [('other size', pair.label)]


def quarter_turn_by_exif(pair):
  exif = Image.Exif()
  exif[0x0112] = 6
  pair.repaint(pair.picture, '.jpg', exif=exif, quality=95)
  return [('rotation not followed', pair.label)]


def half_turn_by_exif(pair):
  exif = Image.Exif()
  exif[0x0112] = 3
  pair.repaint(pair.picture, '.jpg', exif=exif, quality=95)
  return [('rotation not followed', pair.label)]


def illegal_value(pair):
  ids = pair.ids.copy()
  ids[5:9, 5:9] = 77
  pair.relabel(ids)
  return [('values outside the classes', pair.label)]


def nothing_labeled(pair):
  pair.relabel(np.full_like(pair.ids, 255))
  return [('empty label', pair.label)]


def little_labeled(pair):
  ids = np.full_like(pair.ids, 255)
  ids[:5] = pair.ids[:5]
  pair.relabel(ids)
  return [('mostly ignored', pair.label)]


def one_class(pair):
  pair.relabel(np.ones_like(pair.ids))
  return [('one class only', pair.label)]


def blank_picture(pair):
  pair.repaint(np.full_like(pair.picture, 7))
  return [('blank picture', pair.image), ('gray among colors', pair.image)]


def transparent_picture(pair):
  alpha = np.full(pair.ids.shape, 255, np.uint8)
  alpha[:10] = 0
  pair.repaint(np.dstack([pair.picture, alpha]))
  return [('transparent picture', pair.image)]


def needless_alpha(pair):
  pair.repaint(Image.fromarray(pair.picture).convert('RGBA'))
  return [('alpha channel', pair.image)]


def sixteen_bit_picture(pair):
  gray = np.asarray(Image.fromarray(pair.picture).convert('L')).astype(np.uint16) * 257
  pair.repaint(gray)
  return [('16-bit picture', pair.image), ('gray among colors', pair.image)]


def picture_for_print(pair):
  pair.repaint(Image.fromarray(pair.picture).convert('CMYK'), '.jpg')
  return [('picture for print', pair.image)]


def gray_picture(pair):
  pair.repaint(Image.fromarray(pair.picture).convert('L'))
  return [('gray among colors', pair.image)]


def copied_file(pair, other):
  pair.image.write_bytes(other.image.read_bytes())
  pair.label.write_bytes(other.label.read_bytes())
  return [('duplicate across splits', pair.image)]


def copied_pixels(pair, other):
  pair.repaint(other.picture, compress_level=1)
  pair.label.write_bytes(other.label.read_bytes())
  return [('duplicate', pair.image)]


def contradicting_labels(pair, other):
  pair.image.write_bytes(other.image.read_bytes())
  return [('duplicate', pair.image), ('same picture, other label', pair.label)]


def label_of_another_picture(pair, other):
  pair.label.write_bytes(other.label.read_bytes())
  return [('same label, other picture', pair.label)]


def saved_again_brighter(pair, other):
  brighter = ImageEnhance.Brightness(Image.fromarray(other.picture)).enhance(1.1)
  pair.repaint(jpeg(brighter, 60), '.jpg', quality=60)
  return [('near duplicate across splits', pair.image)]


def mirrored_copy(pair, other):
  pair.repaint(other.picture[:, ::-1])
  pair.relabel(other.ids[:, ::-1])
  return [('near duplicate', pair.image)]


ALONE = (
  truncated_picture, empty_file, no_picture_at_all, truncated_label, flipped_bits, label_missing,
  picture_missing, two_of_one_name, jpeg_label, label_that_was_a_jpeg, smoothly_resized_label,
  sixteen_bit_label, label_of_large_numbers, transparent_label, color_mask,
  ids_in_three_channels, label_of_another_size, quarter_turn_by_exif, half_turn_by_exif,
  illegal_value, nothing_labeled, little_labeled, one_class, blank_picture, transparent_picture,
  needless_alpha, sixteen_bit_picture, picture_for_print, gray_picture,
)  # fmt: skip
OF_TWO = (copied_pixels, contradicting_labels, label_of_another_picture, mirrored_copy)
ACROSS = (copied_file, saved_again_brighter)


def plant(pairs):
  """Plants every fault once; returns what must be found and all names of spoilt pairs."""
  train, val = (iter([p for p in pairs if p.image.parent.name == s]) for s in ('train', 'val'))
  planted, touched = [], set()
  for fault in ALONE:
    pair = next(train)
    planted += fault(pair)
    touched.add(pair.label.stem)
  for fault in OF_TWO:
    other, pair = next(train), next(train)
    planted += fault(pair, other)
    touched |= {pair.label.stem, other.label.stem}
  for fault in ACROSS:
    other, pair = next(train), next(val)
    planted += fault(pair, other)
    touched |= {pair.label.stem, other.label.stem}
  return {(kind, path.name) for kind, path in planted}, touched


def check_planted(root, pairs, num_classes):
  clean = run(root, num_classes)
  assert clean.valid and found(clean, 'error', 'warning') == set()
  planted, touched = plant(pairs)
  report = run(root, num_classes)
  everything = found(report)
  # Which of two files of one name is the surplus one is a matter of taste.
  assert {fault for fault in planted - everything if fault[0] != 'two files of one name'} == set()
  assert 'two files of one name' in kinds(report)
  invented = {file for _, file in found(report, 'error', 'warning') - planted}
  assert {file for file in invented if file.split('.')[0] not in touched} == set()
  assert not report.valid
  return report


def test_planted_faults_in_scenes(tmp_path):
  assert len(ALONE + OF_TWO + ACROSS) >= 25
  report = check_planted(tmp_path, draw(tmp_path), NUM_SCENES)
  image_grid = reports.image_grid(report)
  assert image_grid.ndim == 3 and image_grid.shape[0] > 1000
  text = reports.table(report)
  assert 'NOT LEGAL' in text and 'unreadable picture (3): get the file again' in text
  content = json.loads(json.dumps(reports.content(report), allow_nan=False))
  assert not content['valid'] and content['splits'] == {'train': 43, 'val': 15}
  assert {entry['kind'] for entry in content['findings']} == kinds(report).keys()
  for entry in content['findings']:
    assert entry['severity'] in findings.SEVERITIES and entry['advice'] and entry['files']


def test_planted_faults_in_camvid(tmp_path, camvid_dir):
  check_planted(tmp_path, copy_camvid(tmp_path, camvid_dir), 11)


def test_the_whole_release_of_camvid(camvid_dir):
  """Legal, with the known weights; val shares its film with train, and so does test."""
  lists = [camvid_dir / f'{split}.txt' for split in pairing.SPLITS]
  paired = pairing.of_folders(camvid_dir, camvid_dir, lists)
  report = audit.of_files(paired, classes=CAMVID)
  assert report.valid and len(report.pairs) == 701
  assert found(report, 'warning') == {
    ('sequence in two splits', '0016E5'), ('sequence in two splits', '0001TP')
  }  # fmt: skip
  films = {fault.file: fault.found for fault in kinds(report)['sequence in two splits'].faults}
  assert films['0016E5'].startswith('204 in train, 101 in val')
  assert films['0001TP'].startswith('62 in train, 62 in test')
  known = [0.279, 0.202, 4.787, 0.149, 1, 0.422, 3.847, 1.974, 0.789, 6.375, 8.859]
  np.testing.assert_allclose(report.weights['median'], known, atol=5e-4)


# What only the whole data set shows.


def test_a_single_fault_leaves_the_rest_alone(tmp_path):
  pairs = draw(tmp_path, 6, 2)
  illegal_value(pairs[2])
  assert found(run(tmp_path)) == {('values outside the classes', 'a002x.png')}


def test_classes_counted_from_one(tmp_path):
  for pair in draw(tmp_path, 8, 2):
    pair.relabel(pair.ids + 1)
  report = run(tmp_path)
  assert found(report, 'error') == {('counted from one', 'labels')}
  assert 'subtract 1' in kinds(report)['counted from one'].advice
  report = run(tmp_path, None)
  assert report.valid and ('nothing is 0', 'labels') in found(report)
  assert report.classes.num_classes == NUM_SCENES + 1


def test_masks_of_0_and_255(tmp_path):
  for pair in draw(tmp_path, 8, 2):
    pair.relabel(255 * (pair.ids > 1))
  assert found(run(tmp_path, 2), 'error') == {('only 0 and 255', 'labels')}
  report = run(tmp_path, None)
  assert report.valid and found(report) == {('masks of 0 and 255', 'labels')}
  assert report.classes.raw_ids == (0, 255)
  assert report.counts['train'].pixels.min() > 0 and report.counts['train'].ignored == 0


def test_missing_classes(tmp_path):
  for pair in draw(tmp_path, 8, 3):
    ids = np.where(pair.ids == 6, 0, pair.ids)
    pair.relabel(np.where(ids == 5, 0, ids) if pair.image.parent.name == 'train' else ids)
  report = run(tmp_path)
  assert found(report) == {('class never occurs', 'class 6'), ('class not in train', 'class 5')}
  assert report.weights['median'][5:].tolist() == [0, 0]


def test_much_is_ignored(tmp_path):
  for pair in draw(tmp_path, 6, 2):
    ids = pair.ids.copy()
    ids[:90] = 255
    pair.relabel(ids)
  assert ('much is ignored', 'labels') in found(run(tmp_path))


def test_one_class_in_many_labels_is_how_the_data_is(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  for pair in pairs[:4]:
    pair.relabel(np.zeros_like(pair.ids))
  assert kinds(run(tmp_path))['one class only'].severity == 'note'


def test_gray_pictures_all_over(tmp_path):
  for pair in draw(tmp_path, 6, 2):
    gray_picture(pair)
  assert found(run(tmp_path)) == {('gray pictures', 'pictures')}


def test_labels_all_saved_with_loss(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  for pair in pairs:
    label_that_was_a_jpeg(pair)
  assert len(kinds(run(tmp_path))['torn borders'].faults) >= 4


def with_palette(ids, palette):
  image = Image.fromarray(ids)
  image.putpalette(np.ravel(palette).astype(np.uint8).tolist())
  return image


def test_palettes(tmp_path):
  colors = [*SCENES.palette, *[(9, 9, 9)] * 249]
  pairs = draw(tmp_path, 8, 2)
  for pair in pairs:
    save(with_palette(pair.ids, colors), pair.label)
  assert found(run(tmp_path)) == set()
  save(with_palette(pairs[3].ids, colors[::-1]), pairs[3].label)
  for classes in (NUM_SCENES, None):
    report = run(tmp_path, classes)
    assert report.valid and found(report) == {('other palette', 'a003x.png')}


def test_color_masks(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  palette = np.array(SCENES.palette, np.uint8)
  for pair in pairs:
    save(palette[pair.ids], pair.label)
  paired = pairing.of_folders(tmp_path / 'images', tmp_path / 'labels')
  report = audit.of_files(paired, classes=SCENES)
  assert report.valid and found(report) == set() and report.how == 'labels: colors of scenes'
  reference = sum(np.bincount(pair.ids.ravel(), minlength=7) for pair in pairs[:8])
  np.testing.assert_array_equal(report.counts['train'].pixels, reference)
  assert audit.of_files(paired).classes.num_classes == 7
  assert (
    len(kinds(audit.of_files(paired, classes=audit.numbered_classes(7)))['color mask'].faults) == 10
  )

  pairs[1].relabel(pairs[1].ids)
  smooth = Image.fromarray(palette[pairs[2].ids]).resize((70, 60), Image.Resampling.BILINEAR)
  save(smooth.resize((160, 128), Image.Resampling.BILINEAR), pairs[2].label)
  report = audit.of_files(paired, classes=SCENES)
  assert {('numbers among colors', 'a001x.png'), ('values outside the classes', 'a002x.png'),
          ('torn borders', 'a002x.png')} == found(report)  # fmt: skip
  report = audit.of_files(paired)
  assert ('value in one file only', 'a002x.png') in found(report)
  assert report.classes.num_classes == 7 and not report.valid


def test_stray_colors_are_told(tmp_path):
  pairs = [Pair(tmp_path, '', f'c{i}x', *scenes.draw(i)) for i in range(5)]
  for pair in pairs:
    save(np.array(CAMVID.palette, np.uint8)[pair.ids], pair.label)
  mask = np.asarray(Image.open(pairs[0].label)).copy()
  mask[0, :9] = 1, 2, 3
  save(mask, pairs[0].label)
  paired = pairing.of_folders(tmp_path / 'images', tmp_path / 'labels')
  report = audit.of_files(paired, classes=CAMVID)
  assert report.valid and ('stray colors', 'c0x.png') in found(report)
  assert '#010203 on 9 of 20480' in kinds(report)['stray colors'].faults[0].found


def test_official_ids_and_train_ids(tmp_path):
  raw = np.array(CITYSCAPES.raw_ids, np.uint8)
  pairs = draw(tmp_path, 5, 2)
  paired = pairing.of_folders(tmp_path / 'images', tmp_path / 'labels')
  train_ids = audit.of_files(paired, classes=CITYSCAPES)
  assert train_ids.how == 'labels: class ids of cityscapes'
  for pair in pairs:
    pair.relabel(raw[pair.ids])
  ids = audit.of_files(paired, classes=CITYSCAPES)
  assert ids.how == 'labels: ids of the label files of cityscapes'
  for report in (train_ids, ids):
    assert report.valid and {kind for kind, _ in found(report)} <= {
      'class never occurs', 'class not in train'
    }  # fmt: skip
  np.testing.assert_array_equal(train_ids.counts['val'].pixels, ids.counts['val'].pixels)


def test_three_channels_all_over_are_understood(tmp_path):
  for pair in draw(tmp_path, 6, 2):
    ids_in_three_channels(pair)
  report = run(tmp_path, None)
  assert report.valid and found(report) == set() and report.classes.num_classes == 7
  assert not run(tmp_path).valid


def test_a_value_that_one_label_has(tmp_path):
  pairs = draw(tmp_path, 8, 2)
  illegal_value(pairs[5])
  report = run(tmp_path, None)
  assert report.valid and found(report) == {('value in one file only', 'a005x.png')}
  assert report.classes.num_classes == 7


def test_labels_of_nothing(tmp_path):
  for pair in draw(tmp_path, 4, 2):
    nothing_labeled(pair)
  report = run(tmp_path, None)
  assert ('labels not understood', 'labels') in found(report, 'error')
  assert report.classes is None and report.weights == {} and not report.valid
  assert 'NOT LEGAL' in reports.table(report) and reports.image_grid(report) is None


def test_nothing_can_be_read(tmp_path):
  for pair in draw(tmp_path, 2, 2):
    empty_file(pair)
    pair.label.write_bytes(b'no picture')
  report = run(tmp_path)
  assert {kind for kind, _ in found(report)} == {'unreadable picture', 'unreadable label'}
  assert reports.content(report)['sizes'] == {}


def test_lists(tmp_path):
  pairs = [Pair(tmp_path, '', f'c{i}x', *scenes.draw(i)) for i in range(12)]
  names = [pair.image.stem for pair in pairs]
  (tmp_path / 'train.txt').write_text('\n'.join([*names[:7], 'c99x']))
  (tmp_path / 'val.txt').write_text('\n'.join([*names[6:11], 'images/c10x.png']))
  lists = tmp_path / 'train.txt', tmp_path / 'val.txt'
  paired = pairing.of_folders(tmp_path / 'images', tmp_path / 'labels', lists)
  report = audit.of_files(paired, classes=audit.numbered_classes(7))
  assert found(report) == {
    ('listed but missing', 'train.txt'), ('in two splits', 'c6x.png'), ('in no list', 'c11x')
  }  # fmt: skip
  assert [pair.split for pair in report.pairs] == ['train'] * 7 + ['val'] * 4


def pan(seed, count, step=4):
  """Frames of a camera that moves over a drawn scene."""
  image, ids = scenes.draw(seed)
  size = 480, 384
  image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
  ids = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
  return [
    (image[100:228, x : x + 160], ids[100:228, x : x + 160]) for x in range(0, count * step, step)
  ]


def test_a_film_in_two_splits(tmp_path):
  """Frames of one film are told by their names and their looks, names alone are a hint."""
  pairs = draw(tmp_path, 8, 4)
  for index, (image, ids) in enumerate(pan(77, 12, 12)):
    Pair(tmp_path, 'train' if index < 8 else 'val', f'film_{index:04}', image, ids)
  report = run(tmp_path)
  assert ('sequence in two splits', 'film') in found(report, 'warning')
  (fault,) = kinds(report)['sequence in two splits'].faults
  assert fault.found == '8 in train, 4 in val, film_0000 to film_0011'
  assert [path.rsplit('/')[-1] for path in fault.shown] == ['film_0007.png', 'film_0008.png']
  assert reports.image_grid(report) is not None
  del pairs


def test_names_that_are_numbered_alike_are_no_film(tmp_path):
  for index in range(24):
    split, place = ('train', 'val')[index % 3 == 2], ('north', 'south')[index % 2]
    Pair(tmp_path, split, f'{place}_{index:04}', *scenes.draw(index))
  report = run(tmp_path)
  assert found(report, 'warning') == set()
  assert found(report, 'note') == {('name in two splits', 'north'), ('name in two splits', 'south')}


def test_a_whole_data_set_of_numbers_is_no_film(tmp_path):
  for index in range(12):
    Pair(tmp_path, ('train', 'val')[index % 3 == 2], f'IMG_{index:04}', *scenes.draw(index))
  assert found(run(tmp_path)) == set()


def test_pictures_that_are_all_alike(tmp_path):
  image, ids = scenes.draw(0)
  rng = np.random.default_rng(0)
  for index in range(6):
    noise = rng.integers(-20, 20, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    Pair(tmp_path, '', f'{"abcdef"[index]}x', noisy, np.roll(ids, index, 0))
  told = {kind for kind, _ in found(run(tmp_path, None))}
  assert 'all alike' in told and 'near duplicate' not in told


# Prepared data sets.


def test_prepared(tmp_path):
  draws = [scenes.draw(index) for index in range(8)]
  examples = [{'image': a, 'label': b, 'name': f's{i}x'} for i, (a, b) in enumerate(draws)]
  dark = {**examples[3], 'image': examples[3]['image'] // 2, 'name': 'dark'}
  sources = {'train': examples[:6], 'val': [*examples[6:], examples[0], dark]}
  report = audit.of_prepared(sources, SCENES)
  assert found(report) == {
    ('duplicate across splits', 's0x'), ('near duplicate across splits', 'dark')
  }  # fmt: skip
  assert not report.valid and reports.image_grid(report) is not None
  counts = statistics.label_counts(sources['val'], 7)
  np.testing.assert_array_equal(report.counts['val'].pixels, counts.pixels)
  np.testing.assert_array_equal(report.counts['val'].image_pixels, counts.image_pixels)
  weights = statistics.class_weights(sources['train'], 7, 'log')
  np.testing.assert_allclose(report.weights['log'], weights)


def test_a_number_of_classes_that_is_none():
  for count in (0, 1, 255):
    with pytest.raises(InputError, match=f'{count} classes: 2 to 254'):
      audit.numbered_classes(count)


# The measures.


def slow_roughness(codes):
  """By the definition, pixel by pixel."""
  framed = np.pad(codes.astype(int), 2, mode='edge')
  height, width = codes.shape

  def loose(y, x):
    window = framed[y + 1 : y + 4, x + 1 : x + 4]
    return (window == framed[y + 2, x + 2]).sum() <= 2

  shaky = np.zeros(framed.shape, bool)
  shaky[2:-2, 2:-2] = [[loose(y, x) for x in range(width)] for y in range(height)]
  count = 0
  for y, x in np.argwhere(shaky[2:-2, 2:-2]):
    near = framed[y : y + 5, x : x + 5] == framed[y + 2, x + 2]
    count += not (near & ~shaky[y : y + 5, x : x + 5]).any()
  edges = (codes[1:, :-1] != codes[:-1, :-1]) | (codes[:-1, 1:] != codes[:-1, :-1])
  return count / max(edges.sum(), 1)


@pytest.mark.parametrize('seed', range(3))
def test_roughness(seed):
  rng = np.random.default_rng(seed)
  ids = np.repeat(np.repeat(rng.integers(0, 4, (6, 8)), 5, 0), 5, 1).astype(np.uint8)
  ids[rng.random(ids.shape) < 0.1] = 9
  ids[0, 0], ids[-1, -1] = 11, 12
  assert pair_stats.roughness(ids) == pytest.approx(slow_roughness(ids))
  assert pair_stats.roughness(np.zeros((40, 50), np.uint8)) == 0
  assert pair_stats.roughness(np.zeros((2, 50), np.uint8)) == 0


def test_roughness_of_clean_and_damaged_labels():
  for seed in range(4):
    ids = scenes.draw(seed)[1]
    assert pair_stats.roughness(ids) < 0.01
    damaged = np.asarray(jpeg(Image.fromarray(ids * 20), 90))
    assert pair_stats.roughness(damaged) > 0.2


def test_agreement_tells_the_right_side_up():
  for seed in range(6):
    image, ids = scenes.draw(seed)
    gray = np.asarray(Image.fromarray(image).convert('L'))
    assert pair_stats.agreement(gray, ids) > 2 * pair_stats.agreement(gray[::-1, ::-1], ids)
  assert pair_stats.agreement(gray, np.zeros_like(ids)) == 0


def test_near_duplicates_are_those_of_all_pairs():
  rng = np.random.default_rng(0)
  thumbs = rng.integers(0, 256, (40, 32, 32)).astype(np.uint8)
  thumbs[7] = np.clip(thumbs[3] * 0.8 + rng.normal(0, 4, (32, 32)), 0, 255)
  thumbs[30] = thumbs[11, :, ::-1]
  thumbs[5] = 100  # Of one color, like every other such picture.
  thumbs[6] = 101
  pairs = {(a, b, turned) for a, b, _, turned in duplicates.near(thumbs)}
  assert pairs == {(3, 7, False), (11, 30, True)}


def test_near_duplicates_over_the_end_of_a_block(monkeypatch):
  monkeypatch.setattr(duplicates, '_BLOCK', 4)
  test_near_duplicates_are_those_of_all_pairs()


def test_signatures_do_not_see_brightness_and_contrast():
  image = Image.fromarray(scenes.draw(1)[0]).convert('L')
  thumb = np.asarray(image.resize((32, 32), Image.Resampling.BOX))
  changed = np.rint(20 + 0.6 * thumb).astype(np.uint8)
  one, two = duplicates.signatures(np.stack([thumb, changed]))
  assert one @ one == pytest.approx(1, abs=1e-5) and one @ two > 0.99


def test_every_kind_has_a_severity_and_advice():
  for kind, (severity, advice) in findings.KINDS.items():
    assert severity in findings.SEVERITIES and advice and kind == kind.strip()


def test_random_bytes_are_never_more_than_a_fault(tmp_path):
  """Damaged files of every format are faults, whatever Pillow makes of them."""
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
    seen = pair_stats.files(pairing.Pair('x', *paths, None))
    assert all(fault.kind in findings.KINDS and '\n' not in fault.found for fault in seen.faults)
