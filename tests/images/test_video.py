"""Videos: read and written frame by frame, whole or not at all."""

from fractions import Fraction
import pathlib
import subprocess

import numpy as np
import pytest

from dilated_jax.errors import InputError
from dilated_jax.images import video

imageio_ffmpeg = pytest.importorskip('imageio_ffmpeg')


def ffmpeg(*arguments):
  command = [imageio_ffmpeg.get_ffmpeg_exe(), '-v', 'error', '-y', *map(str, arguments)]
  subprocess.run(command, check=True)


def like(size, rate=25, aspect=1):
  return video.Video(pathlib.Path('x'), size, Fraction(rate), None, Fraction(aspect), False)


def frames(size, count):
  """Smooth colors, which move."""
  rows, columns = np.mgrid[: size[0], : size[1]]
  shades = (rows * 3, columns * 2, rows + columns)
  return [
    np.stack([(shade + 9 * time) % 200 for shade in shades], -1).astype(np.uint8)
    for time in range(count)
  ]


def written(path, size, count=5, **about):
  with video.VideoWriter(path, like(size, **about)) as writer:
    for frame in frames(size, count):
      writer.add(frame)
  return path


@pytest.mark.parametrize('size', [(48, 64), (47, 65)])
def test_what_is_written_is_read(size, tmp_path):
  path = written(tmp_path / 'made.mp4', size, rate=Fraction(30000, 1001), aspect=Fraction(4, 3))
  found = video.open_video(path)
  even = tuple(side + side % 2 for side in size)
  assert found == (path, even, Fraction(30000, 1001), 5, Fraction(4, 3), False)
  read = list(video.read_frames(found))
  assert len(read) == 5
  for one, expected in zip(read, frames(size, 5), strict=True):
    assert np.abs(one[: size[0], : size[1]].astype(int) - expected).mean() < 6
  assert [path.name for path in tmp_path.iterdir()] == ['made.mp4']
  assert path.stat().st_mode & 0o044


def test_a_turned_video_is_read_as_it_is_shown(tmp_path):
  path = written(tmp_path / 'plain.mp4', (48, 64))
  ffmpeg('-display_rotation', 90, '-i', path, '-c', 'copy', tmp_path / 'turned.mp4')
  turned = video.open_video(tmp_path / 'turned.mp4')
  assert turned.size == (64, 48)
  plain = next(video.read_frames(video.open_video(path)))
  one = next(video.read_frames(turned))
  assert np.abs(np.rot90(plain).astype(int) - one).mean() < 3


def test_uneven_times_and_sound(tmp_path):
  """Frames lie at even distances, as the time of the video asks."""
  path = written(tmp_path / 'plain.mp4', (48, 64), 20, rate=10)
  # From the tenth frame on each is shown for three times as long.
  uneven = "setpts='if(lt(N,10),N,10+3*(N-10))/10/TB'"
  sound = ('-f', 'lavfi', '-i', 'sine=duration=4')
  ffmpeg('-i', path, *sound, '-vf', uneven, '-fps_mode', 'vfr', tmp_path / 'uneven.mkv')
  found = video.open_video(tmp_path / 'uneven.mkv')
  assert found.has_sound
  count = sum(1 for _ in video.read_frames(found))
  assert abs(count / found.rate - 4) < 0.4


def test_what_is_no_video(tmp_path):
  (tmp_path / 'text.mp4').write_text('this is a text\n' * 100)
  (tmp_path / 'empty.mp4').touch()
  ffmpeg('-f', 'lavfi', '-i', 'sine=duration=0.1', tmp_path / 'sound.m4a')
  for name, problem in (
    ('text.mp4', 'Invalid data'), ('empty.mp4', 'Invalid data'), ('sound.m4a', 'no pictures'),
    ('none.mp4', 'no such file'),
  ):  # fmt: skip
    with pytest.raises(InputError, match=f'{name}: .*{problem}') as caught:
      video.open_video(tmp_path / name)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 250


def test_a_cut_video_is_read_as_far_as_it_goes(tmp_path, caplog):
  path = written(tmp_path / 'whole.mp4', (48, 64), 50)
  ffmpeg('-i', path, '-c', 'copy', tmp_path / 'whole.mkv')
  content = (tmp_path / 'whole.mkv').read_bytes()
  (tmp_path / 'cut.mkv').write_bytes(content[: len(content) // 2])
  count = sum(1 for _ in video.read_frames(video.open_video(tmp_path / 'cut.mkv')))
  assert 3 < count < 45
  assert f'cut.mkv: damaged or cut off: {count} of about 50 frames' in caplog.text
  (tmp_path / 'cut.mp4').write_bytes(path.read_bytes()[:2000])
  with pytest.raises(InputError, match=r'cut\.mp4'):
    list(video.read_frames(video.open_video(tmp_path / 'cut.mp4')))


def test_nothing_half_written_stays(tmp_path):
  path, (frame,) = tmp_path / 'a.mp4', frames((8, 8), 1)
  with pytest.raises(ZeroDivisionError), video.VideoWriter(path, like((8, 8))) as file:
    file.add(frame)
    raise ZeroDivisionError
  problem = pytest.raises(InputError, match=r'\(4, 8, 3\) in a video of 8 x 8')
  with problem, video.VideoWriter(path, like((8, 8))) as file:
    file.add(frame[:4])
  assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path, monkeypatch):
  """/dev/full takes nothing."""
  whole = video.subprocess.Popen

  def popen(command, **options):
    return whole([*command[:-1], '-f', 'mp4', '/dev/full'], **options)

  monkeypatch.setattr(video.subprocess, 'Popen', popen)
  with pytest.raises(OSError, match=r'a\.mp4: can not be written \(.*No space left'):
    written(tmp_path / 'a.mp4', (48, 64), 3)
  assert not list(tmp_path.iterdir())
