"""camvid_full.py: from the two archives, every color to its class; the split is SegNet's."""

import logging

from absl import flags
import numpy as np
import pytest

from dilated_jax import data
from dilated_jax.data.builders import camvid, camvid_full
from dilated_jax.errors import InputError
from experiments import prepare
from tests import raw_files

FRAMES = {
  'train': ['0001TP_006690', '0006R0_f00930', '0016E5_00390', '0016E5_08640'],
  'val': ['0016E5_07959', '0016E5_08159'],
  'test': ['0001TP_008550', 'Seq05VD_f02610'],
}
# The release's label_colors.txt and the usual merge, written down a second time.
CLASSES = {
  'sky': [(128, 128, 128)],
  'building': [(128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128)],
  'pole': [(192, 192, 128), (0, 0, 64)],
  'road': [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
  'sidewalk': [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
  'tree': [(128, 128, 0), (192, 192, 0)],
  'sign': [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
  'fence': [(64, 64, 128)],
  'car': [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
  'pedestrian': [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
  'bicyclist': [(0, 128, 192), (192, 0, 192)],
}
COLORS = [(0, 0, 0), *(color for colors in CLASSES.values() for color in colors)]
IDS = [255, *(index for index, colors in enumerate(CLASSES.values()) for _ in colors)]


def release(seed=0):
  """Files by name, and the label maps by frame: each has all 32 colors."""
  rng, files, labels = np.random.default_rng(seed), {}, {}
  for frame in (frame for frames in FRAMES.values() for frame in frames):
    which = rng.permutation(np.arange(96) % 32).reshape(8, 12)
    labels[frame] = np.array(IDS, np.uint8)[which]
    painted = np.array(COLORS, np.uint8)[which]
    files[f'701_StillsRaw_full/{frame}.png'] = raw_files.picture(rng, (8, 12))
    files[f'LabeledApproved_full/{frame}_L.png'] = raw_files.png(painted)
  return files, labels


def write(root, files, packed=True):
  if not packed:
    return raw_files.unpack(root, files)
  pictures, labels = (
    {name: content for name, content in files.items() if name.startswith(folder)}
    for folder in ('701_StillsRaw_full', 'LabeledApproved_full')
  )
  raw_files.pack(root / '701_StillsRaw_full.zip', pictures | {'701_StillsRaw_full/Thumbs.db': b''})
  # This archive has no folder.
  labels = {name.split('/')[1]: content for name, content in labels.items()}
  raw_files.pack(root / 'LabeledApproved_full.zip', labels)


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / 'prepared'


def test_there_are_32_colors():
  assert len(COLORS) == len(set(COLORS)) == 32
  assert tuple(CLASSES) == data.classes('camvid_full').names


@pytest.mark.parametrize('packed', [True, False])
def test_pixels_come_back_exactly(tmp_path, data_dir, packed, caplog):
  files, labels = release()
  write(tmp_path / 'raw', files, packed)
  with caplog.at_level(logging.WARNING):
    data.prepare('camvid_full', data_dir, tmp_path / 'raw')
  assert '2 val images' in caplog.text and 'has 101' in caplog.text
  for split, frames in FRAMES.items():
    source = data.load('camvid_full', split, data_dir)
    assert [example['name'] for example in source] == frames
    for example in source:
      frame = example['name']
      stored = raw_files.decoded(files[f'701_StillsRaw_full/{frame}.png'])
      np.testing.assert_array_equal(example['image'], stored)
      np.testing.assert_array_equal(example['label'], labels[frame])


def test_the_split_is_that_of_segnet(camvid_dir):
  for split, count in camvid.SPLITS.items():
    frames = [path.stem for path in (camvid_dir / split).glob('*.png')]
    assert len(frames) == count
    assert {camvid_full.split_of(frame) for frame in frames} == {split}


@pytest.mark.parametrize(
  'frame', ['0001TP', '0001TP_', '0002TP_006690', 'x0016E5_00390', '0016E5_a']
)
def test_what_is_no_frame(tmp_path, data_dir, frame):
  with pytest.raises(InputError, match=rf'{frame}\.png: is not a frame of CamVid'):
    camvid_full.split_of(frame)


def refused(tmp_path, data_dir, files, *messages):
  write(tmp_path / 'raw', files)
  return raw_files.expect_refusal('camvid_full', tmp_path / 'raw', data_dir, *messages)


def test_a_few_strange_colors_are_ignored_with_a_warning(tmp_path, data_dir, caplog):
  """Frame Seq05VD_f02610 was saved with smoothed borders."""
  files, labels = release()
  name = 'LabeledApproved_full/Seq05VD_f02610_L.png'
  painted = raw_files.decoded(files[name]).copy()
  painted[2, 3:8] = 127, 64, 128
  files[name] = raw_files.png(painted)
  labels['Seq05VD_f02610'][2, 3:8] = 255
  write(tmp_path / 'raw', files)
  with caplog.at_level(logging.WARNING):
    source = data.load('camvid_full', 'test', data_dir, tmp_path / 'raw')
  assert caplog.text.count('ignoring 5 pixels with colors that belong to no class') == 1
  assert 'Seq05VD_f02610_L.png' in caplog.text
  np.testing.assert_array_equal(source[1]['label'], labels['Seq05VD_f02610'])

  painted[4:6] = 127, 64, 128
  files[name] = raw_files.png(painted)
  message = r'Seq05VD_f02610_L\.png: the color \(127, 64, 128\) at row 2, column 3 .* camvid'
  refused(tmp_path, data_dir / 'other', files, message)


def test_incomplete(tmp_path, data_dir):
  files, _ = release()
  label = files.pop('LabeledApproved_full/0016E5_07959_L.png')
  refused(tmp_path, data_dir, files, r'no label for 1 of 8 files: .*0016E5_07959\.png')
  files['LabeledApproved_full/0016E5_07959_L.png'] = label[:-40]
  refused(tmp_path, data_dir, files, r'0016E5_07959_L\.png: is not a complete image')
  (tmp_path / 'raw' / 'LabeledApproved_full.zip').unlink()
  message = r'no LabeledApproved_full\.zip here'
  raw_files.expect_refusal('camvid_full', tmp_path / 'raw', data_dir, message, 'mi.eng.cam.ac.uk')


def test_frames_of_other_names(tmp_path, data_dir):
  files, _ = release()
  for name in list(files):
    files[name.replace('0016E5_07959', 'my_picture')] = files.pop(name)
  refused(tmp_path, data_dir, files, r'my_picture\.png: is not a frame')


def test_prepare(tmp_path, data_dir, capsys):
  write(tmp_path, release()[0])
  values = flags.FlagValues()
  prepare.define_flags(values)
  values(['prepare', '--dataset=camvid_full', f'--manual_dir={tmp_path}', f'--data_dir={data_dir}'])
  prepare.main(values)
  out = capsys.readouterr().out.splitlines()
  assert out[1].split() == ['pictures', '4', '2', '2']
  assert out[3].split()[0] == 'sky' and out[3].split()[1] == '3.12%'
