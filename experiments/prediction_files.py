"""The files that predict makes of each input, and what goes into them."""

from collections.abc import Sequence
import contextlib
import io
import itertools
import pathlib
import re

import numpy as np

from dilated_jax import files, images, temporary
from dilated_jax.errors import InputError
from dilated_jax.images import video

# What --save names, and the files that it makes of a picture and of a video.
OUTPUTS = {
  'labels': '{}.png',
  'colors': '{}_color.png',
  'overlays': '{}_overlay.png',
  'scores': '{}.npz',
}
VIDEO_OUTPUTS = {'labels': '{}', 'colors': '{}_color.mp4', 'overlays': '{}_overlay.mp4'}
_FRAME = '{:06}.png'
_FRAMES = re.compile(r'\d{6,}\.png')


class Plan:
  """The files that each input will make; none is written twice, or over an input."""

  def __init__(self, output, save: Sequence[str]):
    """Takes the folder for the results, and keys of `OUTPUTS`.

    Raises:
      InputError: the folder is a file.
    """
    self._output, self._save = pathlib.Path(output), tuple(dict.fromkeys(save))
    if self._output.exists() and not self._output.is_dir():
      raise InputError(f'--output={output}: is a file; name a folder')
    self._owner, self._inputs = {}, set()

  def files(self, path) -> dict[str, pathlib.Path]:
    """The files of an input, by key of `OUTPUTS`; the folder of the frames of a video's labels.

    Raises:
      InputError: with the two inputs, or the input, that are in the way.
    """
    names = OUTPUTS
    if video.is_video(path):
      names = VIDEO_OUTPUTS
      if 'scores' in self._save:
        raise InputError(
          f'{path}: --save=scores is for pictures: of a video they would be gigabytes a second'
        )
    made = {kind: self._output / names[kind].format(path.stem) for kind in self._save}
    for file in made.values():
      owner = self._owner.get(file, path)
      if owner != path:
        raise InputError(f'{owner} and {path} would both be written to {file}: rename one')
      if file.resolve() in {path.resolve(), *self._inputs}:
        raise InputError(f'{file}: would overwrite an input picture; choose another --output')
    if 'labels' in made and video.is_video(path):
      _check_frames(made['labels'], path)
    self._owner.update(dict.fromkeys(made.values(), path))
    return made

  def of_all(self, inputs) -> dict[pathlib.Path, dict[str, pathlib.Path]]:
    """`files` of each of some inputs, all of which are known before.

    Raises:
      InputError: as `files`.
    """
    self._inputs.update(path.resolve() for path in inputs)
    return {path: self.files(path) for path in inputs}


def _check_frames(folder, path) -> None:
  """Raises an InputError if a folder of frames would replace one that holds something else."""
  others = folder.is_dir() and [f for f in folder.iterdir() if not _FRAMES.fullmatch(f.name)]
  if others or (folder.exists() and not folder.is_dir()):
    raise InputError(
      f'{folder}: the labels of {path} would replace it, and it is no folder of frames; choose '
      'another --output'
    )


def write_picture(made: dict, image, labels, scores: dict, spec) -> None:
  """Writes the files of a picture.

  Args:
    made: from `Plan.files`.
    image: (H, W, 3) uint8.
    labels: (H, W) uint8.
    scores: arrays for the key 'scores'.
    spec: of the weights: classes and palette.

  Raises:
    OSError: a file can't be written.
  """
  for kind, file in made.items():
    content = _content(kind, image, labels, scores, spec)
    try:
      files.write_atomic(file, content)
    except OSError as error:  # That of a full disk names no file.
      raise OSError(error.errno, error.strerror, f'{file}') from None


def _content(kind: str, image, labels, scores: dict, spec) -> bytes:
  if kind == 'scores':
    packed = io.BytesIO()
    np.savez(packed, **scores)
    return packed.getvalue()
  if kind == 'labels':
    return images.files.encode_png(labels)
  shown = in_colors(kind, image, labels, spec)
  if kind == 'overlays':
    shown = images.visualization.with_legend(shown, labels, spec.classes, spec.palette)
  return images.files.encode_png(shown)


def in_colors(kind: str, image, labels, spec):
  """The colors of the labels, for the key 'overlays' over the image."""
  if kind == 'colors':
    return images.visualization.colorize(labels, spec.palette)
  return images.visualization.overlay(image, labels, spec.palette)


@contextlib.contextmanager
def video_files(made: dict, source: video.Video, spec):
  """Writes the files of a video frame by frame; with the end of the block all are there, or none.

  Args:
    made: from `Plan.files`.
    source: the video.
    spec: of the weights: classes and palette.

  Yields:
    A function that adds a frame (H, W, 3) uint8 and its labels (H, W) uint8. It raises OSError
    where a file can't be written.
  """
  with contextlib.ExitStack() as cleanup:
    folder, count = None, itertools.count(1)
    if 'labels' in made:
      folder = cleanup.enter_context(temporary.temporary_folder(made['labels']))
    with contextlib.ExitStack() as opened:
      writers = {
        kind: opened.enter_context(video.VideoWriter(file, source))
        for kind, file in made.items() if kind != 'labels'
      }  # fmt: skip

      def add(frame, labels):
        number = next(count)
        if folder:
          file = folder / _FRAME.format(number)
          file.write_bytes(images.files.encode_png(labels))
        for kind, writer in writers.items():
          writer.add(in_colors(kind, frame, labels, spec))

      yield add
    if folder:
      files.replace_folder(folder, made['labels'])
