"""voc.py: VOC-2012 and SBD from the official archives, pixel for pixel; whose mask counts."""

import io
import logging
import subprocess
import sys
import tarfile

import numpy as np
import PIL.Image
import pytest
import scipy.io
import scipy.sparse

from dilated_jax import data
from dilated_jax.data.builders import base, voc
from dilated_jax.errors import InputError
from experiments import prepare
from tests import calling, raw_files

VOC_TAR, SBD_TGZ = 'VOCtrainval_11-May-2012.tar', 'benchmark.tgz'
ROOT, SBD_ROOT = 'VOCdevkit/VOC2012', 'benchmark_RELEASE/dataset'
TRAIN = ('2007_000032', '2007_000039', '2011_003271')
VAL = ('2007_000033', '2008_000123')
SBD_TRAIN = ('2007_000032', '2008_000002', '2008_000123')  # One of train, one of val.
SBD_VAL = ('2008_000008', '2011_003271', '2007_000033')
TRAINAUG = ('2007_000032', '2007_000039', '2008_000002', '2008_000008', '2011_003271')


def colors():
  """The official palette, written down a second time: bits of the id, from the highest down."""
  table = []
  for index in range(256):
    bits = f'{index:09b}'[::-1]
    table.append([int(bits[channel::3][:3].ljust(8, '0'), 2) for channel in range(3)])
  return table


def jpeg(rng, size, mode='RGB') -> bytes:
  content = io.BytesIO()
  picture = PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).convert(mode)
  picture.save(content, 'JPEG', quality=90)
  return content.getvalue()


def mat(mask) -> bytes:
  """A file of SBD's cls/: a struct with sparse boundaries and the segmentation, compressed."""
  content, boundaries = io.BytesIO(), np.empty((20, 1), object)
  for index in range(20):
    boundaries[index, 0] = scipy.sparse.csc_matrix(mask == index + 1)
  present = np.unique(mask[mask > 0])[:, None]
  fields = {'Boundaries': boundaries, 'Segmentation': mask, 'CategoriesPresent': present}
  scipy.io.savemat(content, {'GTcls': fields}, do_compression=True)
  return content.getvalue()


def official(seed=0):
  """Files of VOC and of SBD by name, and the masks of both by picture."""
  rng, voc_files, sbd_files, masks, sbd_masks = np.random.default_rng(seed), {}, {}, {}, {}
  for name in sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL, '2012_000001'}):
    size = (int(rng.integers(20, 40)), int(rng.integers(20, 40)))
    voc_files[f'{ROOT}/JPEGImages/{name}.jpg'] = jpeg(rng, size)
    voc_files[f'{ROOT}/Annotations/{name}.xml'] = b'<annotation/>'
    if name in TRAIN + VAL:
      masks[name] = rng.choice([*range(21), 255], size).astype(np.uint8)
      mask = raw_files.palette_png(masks[name], colors())
      voc_files[f'{ROOT}/SegmentationClass/{name}.png'] = mask
      voc_files[f'{ROOT}/SegmentationObject/{name}.png'] = mask
    if name in SBD_TRAIN + SBD_VAL:
      sbd_masks[name] = rng.integers(0, 21, size, np.uint8)
      sbd_files[f'{SBD_ROOT}/cls/{name}.mat'] = mat(sbd_masks[name])
      sbd_files[f'{SBD_ROOT}/inst/{name}.mat'] = b'...'
      sbd_files[f'{SBD_ROOT}/img/{name}.jpg'] = voc_files[f'{ROOT}/JPEGImages/{name}.jpg']
  for split, names in {'train': TRAIN, 'val': VAL, 'trainval': (*TRAIN, *VAL)}.items():
    voc_files[f'{ROOT}/ImageSets/Segmentation/{split}.txt'] = lines(names)
  voc_files[f'{ROOT}/ImageSets/Main/train.txt'] = b'2012_000001\n'
  for split, names in {'train': SBD_TRAIN, 'val': SBD_VAL}.items():
    sbd_files[f'{SBD_ROOT}/{split}.txt'] = lines(names)
  return voc_files, sbd_files, masks, sbd_masks


def lines(names) -> bytes:
  return ''.join(f'{name}\n' for name in names).encode()


def pack(path, files):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, 'w:gz' if path.suffix == '.tgz' else 'w') as archive:
    for name, content in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))


def write(root, voc_files, sbd_files=None, packed=True):
  for file, files in ((VOC_TAR, voc_files), (SBD_TGZ, sbd_files)):
    if files and packed:
      pack(root / file, files)
    elif files:
      raw_files.unpack(root, files)


@pytest.fixture
def raw(tmp_path):
  return tmp_path / 'raw'


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / 'prepared'


def check(split, names, data_dir, files, masks):
  source = data.load('voc', split, data_dir)
  assert [example['name'] for example in source] == list(names)
  for example in source:
    name = example['name']
    expected = PIL.Image.open(io.BytesIO(files[f'{ROOT}/JPEGImages/{name}.jpg']))
    np.testing.assert_array_equal(example['image'], np.asarray(expected))
    np.testing.assert_array_equal(example['label'], masks[name])


@pytest.mark.parametrize('packed', [True, False])
def test_pixels_come_back_exactly(raw, data_dir, packed, caplog):
  voc_files, sbd_files, masks, sbd_masks = official()
  write(raw, voc_files, sbd_files, packed)
  before = sorted(raw.rglob('*'))
  with caplog.at_level(logging.WARNING):
    data.prepare('voc', data_dir, raw)
  for count in ('3 train images', '1464', '5 trainaug images', '10582'):
    assert count in caplog.text
  assert sorted(raw.rglob('*')) == before
  assert set(data.splits('voc', data_dir)) == {'train', 'val', 'trainaug'}
  check('train', TRAIN, data_dir, voc_files, masks)
  check('val', VAL, data_dir, voc_files, masks)
  check('trainaug', TRAINAUG, data_dir, voc_files, sbd_masks | masks)  # VOC's where both exist.
  records = data.load('voc', 'val', data_dir)._records
  assert records[0]['image'] == voc_files[f'{ROOT}/JPEGImages/{VAL[0]}.jpg']  # Its own bytes.


@pytest.mark.parametrize('outer', ['VOCdevkit', 'VOCdevkit/VOC2012'])
def test_the_unpacked_folder_itself_may_be_given(raw, data_dir, outer):
  voc_files, _, masks, _ = official()
  write(raw, voc_files, packed=False)
  data.prepare('voc', data_dir, raw / outer)
  check('val', VAL, data_dir, voc_files, masks)


def test_without_sbd_trainaug_says_what_it_needs(raw, data_dir, caplog):
  voc_files, _, masks, _ = official()
  write(raw, voc_files)
  with caplog.at_level(logging.INFO):
    data.prepare('voc', data_dir, raw)
  assert 'no split trainaug: it needs benchmark.tgz of home.bharathh.info' in caplog.text
  check('train', TRAIN, data_dir, voc_files, masks)
  with pytest.raises(InputError, match=r'choose one of train, val; it needs benchmark\.tgz'):
    data.load('voc', 'trainaug', data_dir)
  with pytest.raises(InputError, match=r'choose one of train, val$'):
    data.load('voc', 'trainval', data_dir)


def test_a_list_of_test_pictures_makes_no_split(raw, data_dir, caplog):
  voc_files, sbd_files, *_ = official()
  voc_files[f'{ROOT}/ImageSets/Segmentation/test.txt'] = lines(['2012_000001'])
  write(raw, voc_files, sbd_files)
  with caplog.at_level(logging.INFO):
    data.prepare('voc', data_dir, raw)
  assert 'the 1 images of test.txt have no labels and are in no split' in caplog.text
  assert 'test' not in data.splits('voc', data_dir)


def test_lists_of_the_official_lengths_must_make_the_official_union(raw, data_dir, monkeypatch):
  voc_files, sbd_files, masks, sbd_masks = official()
  write(raw, voc_files, sbd_files)
  monkeypatch.setattr(voc, 'SBD_COUNTS', {'train': 3, 'val': 3})
  monkeypatch.setattr(voc, 'COUNTS', {'train': 3, 'val': 2, 'trainaug': 6})
  refused(raw, data_dir, r'VOCtrainval.*benchmark.*give 5 images of trainaug instead of 6')
  monkeypatch.setattr(voc, 'COUNTS', {'train': 3, 'val': 2, 'trainaug': 5})
  data.prepare('voc', data_dir, raw)
  check('trainaug', TRAINAUG, data_dir, voc_files, sbd_masks | masks)


def refused(raw, data_dir, *messages):
  return raw_files.expect_refusal('voc', raw, data_dir, *messages)


def change(files, name, content):
  """The files with one of them changed, or left out (None)."""
  changed = {**files, name: content}
  return {name: content for name, content in changed.items() if content is not None}


WRONG = {  # Name: new content, or a function of the old one, and what the message says.
  f'{ROOT}/JPEGImages/2007_000032.jpg': [
    (None, r'has no VOCdevkit/VOC2012/JPEGImages/2007_000032\.jpg'),
    (lambda old: old[:-100], r'JPEGImages/2007_000032\.jpg: is not a complete image'),
    (b'GIF89a', r'2007_000032\.jpg: is not a complete image'),
    (b'', r'2007_000032\.jpg: is not a complete image'),
  ],
  f'{ROOT}/SegmentationClass/2011_003271.png': [
    # Although SBD has a mask of this picture: VOC's is damaged.
    (None, r'has no VOCdevkit/VOC2012/SegmentationClass/2011_003271\.png'),
    (lambda old: old[: len(old) // 2], r'2011_003271\.png: is not a complete image'),
    (raw_files.png(np.zeros((5, 7), np.uint8)), r'2011_003271\.png: label of 7x5 for an image'),
    (raw_files.png(np.full((5, 7), 21, np.uint8)), r'2011_003271\.png: invalid label values 21'),
    (raw_files.png(np.zeros((5, 7, 3), np.uint8)), r'2011_003271\.png: .* one channel'),
  ],
  f'{ROOT}/ImageSets/Segmentation/train.txt': [
    (None, r'has no VOCdevkit/VOC2012/ImageSets/Segmentation/train\.txt'),
    (b'\n', r'train\.txt: is empty'),
    (b'2007_000039\n2007_000039\n', r'train\.txt: names an image twice'),
    (b'2007_000033\n', r'2007_000033 is in train\.txt and in val\.txt'),
    (b'../../../etc/passwd\n', r'has no .*passwd\.jpg'),
    (b'\xff\xfe2\x000\x00', r'has no '),
  ],
  f'{SBD_ROOT}/cls/2008_000008.mat': [
    (None, r'has no benchmark_RELEASE/dataset/cls/2008_000008\.mat'),
    (lambda old: old[:-50], r'2008_000008\.mat: has no GTcls\.Segmentation'),
    (b'not a mat', r'2008_000008\.mat: has no GTcls\.Segmentation'),
    (mat(np.zeros((5, 7), np.uint8)), r'2008_000008\.mat: label of 7x5 for an image of'),
    (mat(np.full((5, 7), 33, np.uint8)), r'2008_000008\.mat: invalid label values 33'),
    (mat(np.full((5, 7), 1.5)), r'2008_000008\.mat: .*float64'),
  ],
  f'{SBD_ROOT}/val.txt': [
    (None, r'has no benchmark_RELEASE/dataset/val\.txt'),
    (b'2012_999999\n', r'has no .*JPEGImages/2012_999999\.jpg'),
  ],
}


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [(name, *case) for name, cases in WRONG.items() for case in cases],
)
def test_what_is_wrong_is_named(raw, data_dir, name, content, message):
  *both, _, _ = official()
  files = both[name.startswith(SBD_ROOT)]
  content = content(files[name]) if callable(content) else content
  both[name.startswith(SBD_ROOT)] = change(files, name, content)
  write(raw, *both)
  refused(raw, data_dir, message)


def test_many_problems_are_counted(raw, data_dir):
  voc_files, sbd_files, *_ = official()
  for name in TRAINAUG:
    voc_files[f'{ROOT}/JPEGImages/{name}.jpg'] = b'broken'
  write(raw, voc_files, sbd_files)
  text = refused(raw, data_dir, '2007_000032')
  assert 'of 10 examples have wrong files' in text
  assert 'more' in text


@pytest.mark.parametrize('missing', ['JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'])
def test_a_folder_that_is_not_complete(raw, data_dir, missing):
  voc_files, *_ = official()
  files = {name: voc_files[name] for name in voc_files if f'{ROOT}/{missing}' not in name}
  write(raw, files, packed=False)
  refused(raw, data_dir, rf'no VOCdevkit/VOC2012/{missing}')


@pytest.mark.parametrize('file', [VOC_TAR, SBD_TGZ])
@pytest.mark.parametrize('share', [0, 0.5, 0.97])
def test_a_truncated_archive(raw, data_dir, file, share):
  voc_files, sbd_files, *_ = official()
  write(raw, voc_files, sbd_files)
  content = (raw / file).read_bytes().rstrip(b'\0')
  (raw / file).write_bytes(content[: int(share * len(content))])
  refused(raw, data_dir, rf'{file}: the archive is damaged')


@pytest.mark.parametrize('name', ['../../evil', '/tmp/evil', f'{ROOT}/JPEGImages/../../x'])
def test_a_hostile_member(raw, data_dir, name):
  voc_files, *_ = official()
  write(raw, voc_files | {name: b'evil'})
  refused(raw, data_dir, 'leads out of the archive')


def test_a_link_instead_of_a_mask(raw, data_dir):
  voc_files, *_ = official()
  write(raw, voc_files)
  with tarfile.open(raw / VOC_TAR, 'a') as archive:
    info = tarfile.TarInfo(f'{ROOT}/SegmentationClass/2007_000032.png')
    info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
    archive.addfile(info)
  refused(raw, data_dir, r'SegmentationClass/2007_000032\.png is a link or device')


def test_an_interrupted_build_leaves_nothing(raw, data_dir, monkeypatch):
  voc_files, sbd_files, masks, _ = official()
  write(raw, voc_files, sbd_files)

  def interrupted(*args):
    yield next(generate(*args))
    raise KeyboardInterrupt

  generate = base.generate_features
  monkeypatch.setattr(base, 'generate_features', interrupted)
  with pytest.raises(KeyboardInterrupt):
    data.prepare('voc', data_dir, raw)
  assert not [path for path in data_dir.rglob('*') if path.is_file()]
  monkeypatch.undo()
  data.prepare('voc', data_dir, raw)
  check('val', VAL, data_dir, voc_files, masks)


def run(raw, data_dir, capsys, *more):
  calling.run(prepare, '--dataset=voc', f'--manual_dir={raw}', f'--data_dir={data_dir}', *more)
  return capsys.readouterr().out


def test_the_command_tells_what_is_there(raw, data_dir, capsys):
  voc_files, sbd_files, masks, _ = official()
  write(raw, voc_files, sbd_files)
  rows = {line.split()[0]: line.split()[1:] for line in run(raw, data_dir, capsys).splitlines()}
  assert rows['pictures'] == ['3', '2', '5']
  assert 'tvmonitor' in rows
  ignored = sum((masks[name] == 255).sum() for name in VAL) / sum(masks[name].size for name in VAL)
  assert rows['ignored'][1] == f'{ignored:.2%}'


def test_as_a_user(raw, data_dir):
  """One process of its own: a damaged archive is one line and exit status 1."""
  raw.mkdir()
  (raw / VOC_TAR).write_bytes(b'<html>404 Not Found</html>')
  command = [sys.executable, '-m', 'experiments.prepare', '--dataset=voc']
  done = subprocess.run(
    [*command, f'--manual_dir={raw}', f'--data_dir={data_dir}'], capture_output=True, text=True
  )
  assert done.returncode == 1 and done.stdout == ''
  (line,) = [line for line in done.stderr.splitlines() if 'preparing' not in line]
  assert line.startswith(f'error: {raw / VOC_TAR}: the archive is damaged') and 'again' in line
