"""Reads and writes videos frame by frame, by the ffmpeg that the package imageio-ffmpeg brings.

A video is read as a player shows it: turned as its metadata say, at one size and at even distances
in time. No more than a frame is held in memory.
"""

from collections.abc import Iterator
import contextlib
from fractions import Fraction
import os
import pathlib
import re
import subprocess
import tempfile
from typing import IO, NamedTuple, cast

from absl import logging
from jaxtyping import UInt8
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.images.checks import as_images
from dilated_jax.temporary import temporary_file

SUFFIXES = (
  '.3gp', '.avi', '.flv', '.m2ts', '.m4v', '.mjpeg', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg',
  '.mts', '.ogv', '.ts', '.vob', '.webm', '.wmv', '.y4m',
)  # fmt: skip

_HEADER = rb'YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)(?: I\S+)?(?: A(\d+):(\d+))?'


class Video(NamedTuple):
  """What a video says about itself.

  Attributes:
    path: the file.
    size: height and width of the frames as they are shown.
    rate: frames per second.
    frames: about how many there are; None if it does not say how long it is.
    pixel_aspect: width of a pixel by its height.
    has_sound: whether there is sound.
  """

  path: pathlib.Path
  size: tuple[int, int]
  rate: Fraction
  frames: int | None
  pixel_aspect: Fraction
  has_sound: bool


def is_video(path) -> bool:
  """Whether a file has the ending of a video."""
  return pathlib.Path(path).suffix.lower() in SUFFIXES


def open_video(path) -> Video:
  """Looks at the first frame of a video.

  Args:
    path: file in any format that ffmpeg reads.

  Returns:
    What it says about itself.

  Raises:
    InputError: the file is missing, or no video, or imageio-ffmpeg is not installed.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(f'{path}: no such file')
  # The header of this format states size and rate exactly, after turning.
  wanted = ('-map', '0:V:0', '-frames:v', '1', '-pix_fmt', 'yuv420p', '-f', 'yuv4mpegpipe')
  command = [_ffmpeg(), '-nostdin', '-hide_banner', '-i', f'file:{path}', *wanted, '-']
  done = subprocess.run(command, capture_output=True)
  told = done.stderr.decode(errors='replace')
  header = re.match(
    rb'YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)(?: I\S+)?(?: A(\d+):(\d+))?', done.stdout
  )
  if done.returncode or not header:
    raise InputError(f'{path}: can not be read as a video ({_reason(told)})')
  width, height, *rate = map(int, header.groups()[:4])
  rate = Fraction(*rate)
  aspect = [int(number or 0) for number in header.groups()[4:]]
  duration = re.search(r'Duration: (\d+):(\d+):(\d+\.?\d*)', told)
  frames = None
  if duration:
    hours, minutes, seconds = map(float, duration.groups())
    frames = max(1, round((3600 * hours + 60 * minutes + seconds) * rate))
  source = told.partition('Stream mapping:')[0]
  return Video(
    path, (height, width), rate, frames,
    Fraction(*aspect) if min(aspect) > 0 else Fraction(1), 'Audio:' in source,
  )  # fmt: skip


def read_frames(video: Video) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
  """Yields the frames of a video, RGB.

  Where the video is damaged or cut off, a warning tells how many frames could be read.

  Raises:
    InputError: not one frame can be read.
  """
  height, width = video.size
  count = 0
  with tempfile.TemporaryFile() as told:
    command = [
      _ffmpeg(), '-nostdin', '-v', 'error', '-i', f'file:{video.path}', '-map', '0:V:0',
      '-vf', f'scale={width}:{height}',  # The size may change on the way.
      '-fps_mode', 'cfr', '-r', f'{video.rate}', '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-',
    ]  # fmt: skip
    with _process(command, told, stdout=subprocess.PIPE) as process:
      output = cast(IO[bytes], process.stdout)
      while True:
        content = output.read(height * width * 3)
        if len(content) < height * width * 3:
          break
        yield np.frombuffer(content, np.uint8).reshape(height, width, 3)
        count += 1
      process.wait()
    reason = _told(told)
  if not count:
    raise InputError(f'{video.path}: no frame of this video can be read ({reason})')
  missing = video.frames is not None and count < 0.98 * video.frames - 1
  if process.returncode or reason or missing:
    of = f' of about {video.frames}' if video.frames else ''
    more = f' ({reason})' if reason else ''
    logging.warning(
      '%s: damaged or cut off: %d%s frames can be read%s', video.path, count, of, more
    )


class VideoWriter:
  """Writes an H.264 video (.mp4, without sound) whole or not at all, for `with`.

  Frames of odd height or width get a row or a column more, a copy of the last: players want even
  numbers.
  """

  def __init__(self, path, video: Video):
    """Takes the file to write, and the video whose size, rate and shape of pixels it has."""
    self._path, self._video = pathlib.Path(path), video
    self._cleanup = contextlib.ExitStack()
    self._told: IO[bytes]
    self._input: IO[bytes]
    self._process: subprocess.Popen

  def __enter__(self):
    video = self._video
    with contextlib.ExitStack() as cleanup:
      self._partial = cleanup.enter_context(temporary_file(self._path))
      self._told = cleanup.enter_context(tempfile.TemporaryFile())
      height, width = (side + side % 2 for side in video.size)
      # Colors as players expect them of a video of today, and said so.
      colors = 'bt709'
      filters = (
        f'scale=out_color_matrix={colors}:out_range=tv,'
        f'setparams=color_primaries={colors}:color_trc={colors},setsar={video.pixel_aspect}'
      )
      command = [
        _ffmpeg(), '-v', 'error', '-y', '-f', 'rawvideo', '-pix_fmt', 'rgb24',
        '-s', f'{width}x{height}', '-r', f'{video.rate}', '-i', '-', '-an',
        '-vf', filters, '-c:v', 'libx264', '-pix_fmt', 'yuv420p', '-crf', '20',
        '-movflags', '+faststart', '-f', 'mp4', f'file:{self._partial}',
      ]  # fmt: skip
      self._process = cleanup.enter_context(_process(command, self._told, stdin=subprocess.PIPE))
      self._input = cast(IO[bytes], self._process.stdin)
      self._cleanup = cleanup.pop_all()
    return self

  def add(self, frame: UInt8[np.ndarray, 'h w 3']) -> None:
    """Adds a frame, RGB.

    Raises:
      InputError: it has another size than the video.
      OSError: the file can't be written.
    """
    height, width = self._video.size
    if as_images(frame).shape != (height, width, 3):
      raise InputError(f'a frame is {frame.shape} in a video of {height} x {width}')
    if height % 2 or width % 2:
      frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), 'edge')
    try:
      self._input.write(np.ascontiguousarray(frame))
    except BrokenPipeError:
      raise self._failure() from None

  def __exit__(self, kind, error, trace):
    with self._cleanup:
      if kind is not None:
        return
      with contextlib.suppress(BrokenPipeError):
        self._input.close()
      if self._process.wait() or _told(self._told):
        raise self._failure()
      os.replace(self._partial, self._path)

  def _failure(self) -> OSError:
    status = self._process.wait()
    reason = _told(self._told) or f'ffmpeg has ended with status {status}'
    return OSError(f'{self._path}: can not be written ({reason})')


def _ffmpeg() -> str:
  """The program.

  Raises:
    InputError: imageio-ffmpeg is not installed.
  """
  try:
    import imageio_ffmpeg
  except ImportError:
    raise InputError(
      "videos are read and written with imageio-ffmpeg: pip install 'dilated_jax[video]'"
    ) from None
  return imageio_ffmpeg.get_ffmpeg_exe()


@contextlib.contextmanager
def _process(command, told, **pipes):
  """A process that is ended with the block, and that Ctrl-C in a terminal does not reach."""
  if 'stdin' not in pipes:
    pipes['stdin'] = subprocess.DEVNULL
  if 'stdout' not in pipes:
    pipes['stdout'] = subprocess.DEVNULL
  process = subprocess.Popen(command, stderr=told, start_new_session=True, **pipes)
  try:
    yield process
  finally:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
      if pipe:
        with contextlib.suppress(OSError):  # What is left in its buffer.
          pipe.close()


def _told(file) -> str:
  """What ffmpeg has said at last."""
  file.seek(0)
  return _reason(file.read().decode(errors='replace'))


def _reason(text: str) -> str:
  """The last line of what ffmpeg says that tells why."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  telling = [
    re.sub(r'^(\[[^]]*\]\s*)+|^Error opening input( files?)?: ', '', line)
    for line in lines
    if 'file:' not in line and not line.startswith('To ignore this')
  ]
  if any('matches no streams' in line or 'no stream' in line for line in telling):
    return 'there are no pictures in it'
  full = [line for line in telling if 'No space left' in line]
  return (full or telling or [''])[-1].rstrip('.')
