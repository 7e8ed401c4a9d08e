"""Labels pictures and videos with a network: label maps, colors, overlays and scores.

  dilated-jax predict --weights=DIR --inputs=photos --output=labeled
  dilated-jax predict --weights=DIR --inputs='a.jpg,more/**/*.png' --output=labeled \
      --save=labels,scores --scales=0.75,1,1.25 --flip
  dilated-jax predict --weights=DIR --inputs=incoming --output=labeled --watch

Weights converted from published ones are fed tiles of the size that the authors' networks have,
each by itself, as for the published scores. All others see the whole picture; where it does not fit
into memory, or into --tile, they are fed overlapping pieces of it that give the same answer.

For a picture STEM.jpg it writes, as --save asks, STEM.png (class ids, 8-bit gray),
STEM_color.png, STEM_overlay.png (with a legend of the classes that occur) and STEM.npz (`logits`
and `probabilities`); for a video STEM.mp4 a folder STEM of label maps (000001.png, ...),
STEM_color.mp4 and STEM_overlay.mp4. Beside them predictions.json says what the ids mean. What can't
be read is reported and the others are done.

--watch goes on for new files, until Ctrl-C or SIGTERM. Files that were labeled before with the same
weights and flags are left alone then, as with --skip_existing.
"""

import contextlib
import functools
import itertools
import pathlib
import sys
import time

from absl import flags, logging
import numpy as np

from dilated_jax import images, inference, models, progress
from dilated_jax.errors import InputError
from dilated_jax.images import matching, video

from . import (
  background,
  cli,
  compilation_cache,
  path_flags,
  prediction_files,
  prediction_flags,
  prediction_record,
  watching,
)


def define_flags(values=flags.FLAGS):
  string = {'flag_values': values}
  path_flags.define('weights', None, 'Weights folder.', required=True, **string)
  path_flags.define_inputs(
    'inputs', None,
    'Pictures and videos: FILE, FOLDER or GLOB (** for subfolders), comma-separated.',
    required=True, **string,
  )  # fmt: skip
  path_flags.define('output', None, 'Folder for the results.', required=True, **string)
  kinds = tuple(prediction_files.OUTPUTS)
  flags.DEFINE_list('save', ['labels', 'colors', 'overlays'],
                    f'What to write: {", ".join(kinds)}.', **string)  # fmt: skip
  flags.register_validator(
    'save', lambda save: save and set(save) <= set(kinds),
    f'takes any of {", ".join(kinds)}', flag_values=values,
  )  # fmt: skip
  flags.DEFINE_bool(
    'watch', False, 'Go on for files that are new or have changed, until Ctrl-C or SIGTERM.',
    **string,
  )  # fmt: skip
  flags.DEFINE_bool(
    'skip_existing', False,
    'Leave alone what was labeled before, with the same weights and flags.', **string,
  )  # fmt: skip
  flags.DEFINE_integer(
    'workers', 2, 'Threads that read ahead, and as many that write behind; 0: none.',
    lower_bound=0, **string,
  )  # fmt: skip
  prediction_flags.define_flags(values)


def main(values=flags.FLAGS):
  plan = prediction_files.Plan(values.output, values.save)
  suffixes = (*matching.SUFFIXES, *video.SUFFIXES)
  find = functools.partial(matching.find_images, values.inputs, suffixes)
  inputs = []
  if values.watch:
    watching.check(values.inputs, values.output)
  else:
    inputs = find()
    plan.of_all(inputs)
  segmenter = models.load_weights(values.weights).on_device()
  options = prediction_flags.options(values)
  if isinstance(options['tile'], tuple):
    inference.tiling.check_tile(segmenter.model, options['tile'])
  output = pathlib.Path(values.output)
  output.mkdir(parents=True, exist_ok=True)
  record = prediction_record.Record(
    output / 'predictions.json', segmenter, values.weights,
    {name: values[name].value for name in prediction_flags.NAMES},
  )  # fmt: skip
  record.write()

  labeling = Labeling(segmenter, options, plan, record, values)
  with compilation_cache.counted() as programs:
    try:
      if values.watch:
        labeling.watch(functools.partial(find, may_lack=True), output)
      else:
        labeling.label(inputs)
    finally:
      record.write()
  labeling.summarize(output, programs)


class Labeling:
  """Labels files, and counts what became of them."""

  def __init__(self, segmenter, options, plan, record, values):
    """Takes the network, options of `inference.predict`, the files to make, and the flags."""
    self._segmenter, self._plan, self._record = segmenter, plan, record
    self._options = options | {'canvases': inference.Canvases()}
    self._workers, self._watching = values.workers, values.watch
    self._skips, self._with_scores = values.skip_existing or values.watch, 'scores' in values.save
    self._start, self._pixels = time.monotonic(), np.zeros(256, np.int64)
    self._done, self._failed, self._before = set(), set(), set()
    self._frames = 0

  def watch(self, find, output) -> None:
    """Labels what `find` lists, but results in `output`, until Ctrl-C or SIGTERM."""
    own = output.resolve()
    logging.info('watching; Ctrl-C ends')
    try:
      for paths in watching.watch(
        lambda: (path for path in find() if own not in path.resolve().parents)
      ):
        if paths:
          self.label(paths)
          self._record.write()
    except (KeyboardInterrupt, SystemExit):  # SIGTERM is the latter, see `cli`.
      logging.info('stopped')

  def label(self, paths) -> None:
    """Labels pictures, then videos; what can't be labeled is told and counted."""
    made = {}
    for path in paths:
      with self._telling(path):
        files = self._plan.files(path)
        if self._skips and self._record.has(path, files):
          self._before.add(path)
        else:
          made[path] = files
    self._label_pictures({path: made[path] for path in made if not video.is_video(path)})
    for path in filter(video.is_video, made):
      with self._telling(path):
        self._label_video(path, made[path])

  def _label_pictures(self, made) -> None:
    found = background.ahead(_read_picture, made, self._workers)
    with contextlib.closing(found), background.Behind(self._workers) as writing:
      shown = found if self._watching else progress.track(found, len(made), 'pictures')
      for path, read in shown:
        with self._telling(path):
          state, image = read()
          labels, scores = self._predicted(image)
          self._pixels += np.bincount(labels.ravel(), minlength=256)
          writing.submit(self._write, path, state, made[path], image, labels, scores)

  def _predicted(self, image):
    """Labels of a picture, and its scores if they are wanted: of all classes they take far more."""
    if not self._with_scores:
      return inference.label_maps(self._segmenter, image[None], **self._options)[0], {}
    found = inference.predict(self._segmenter, image, **self._options)
    return found.labels, dict(logits=found.logits, probabilities=found.probabilities)

  def _write(self, path, state, made, image, labels, scores) -> None:
    """Writes the files of a picture; called in threads."""
    prediction_files.write_picture(made, image, labels, scores, self._segmenter.spec)
    self._finish(path, state, made)

  def _label_video(self, path, made) -> None:
    state, source = prediction_record.state_of(path), video.open_video(path)
    height, width = source.size
    logging.info(
      '%s: %d x %d, %.2f frames/s%s', path, width, height, source.rate,
      '; its sound is left out' if source.has_sound else '',
    )  # fmt: skip
    with (
      prediction_files.video_files(made, source, self._segmenter.spec) as add,
      background.Behind(min(1, self._workers)) as writing,
      contextlib.closing(_frames_ahead(source, self._workers)) as frames,
    ):
      for frame in progress.track(frames, source.frames, 'frames'):
        labels = inference.label_maps(self._segmenter, frame[None], **self._options)[0]
        self._pixels += np.bincount(labels.ravel(), minlength=256)
        writing.submit(add, frame, labels)
        self._frames += 1
    self._finish(path, state, made)

  def _finish(self, path, state, made) -> None:
    self._record.add(path, state, made)
    self._done.add(path)
    self._failed.discard(path)
    if self._watching:
      logging.info('%s: labeled', path)

  @contextlib.contextmanager
  def _telling(self, path):
    """Tells of an input that can't be labeled, and goes on."""
    try:
      yield
    except InputError as error:
      if self._watching and not path.exists():
        logging.info('%s: was removed', path)
        return
      message = str(error) if str(error).startswith(f'{path}: ') else f'{path}: {error}'
      print(f'error: {cli.as_typed(message)}', file=sys.stderr)
      self._failed.add(path)

  def summarize(self, output, programs) -> None:
    """Tells what was done.

    Raises:
      InputError: something could not be labeled.
    """
    total, seconds = len(self._done | self._failed), time.monotonic() - self._start
    videos = sum(map(video.is_video, self._done))
    if self._done:
      units = {'pictures': len(self._done) - videos, 'frames': self._frames}
      told = ' and '.join(f'{count} {unit}' for unit, count in units.items() if count)
      rate = '' if self._watching else f', {sum(units.values()) / seconds:.2f}/s'
      logging.info('%s in %.1f s%s; %s', told, seconds, rate, programs)
    what = 'files' if any(map(video.is_video, self._done | self._failed)) else 'pictures'
    order = [index for index in np.argsort(-self._pixels, kind='stable') if self._pixels[index]]
    classes, pixels = self._segmenter.spec.classes, self._pixels.sum()
    shares = ', '.join(f'{classes[index]} {self._pixels[index] / pixels:.1%}' for index in order)
    before = f'; {len(self._before)} were labeled before' if self._before else ''
    if self._done or self._before:
      print(
        f'{len(self._done)} of {total} {what} labeled in {output}{shares and f": {shares}"}{before}'
      )
    if self._failed:
      raise InputError(f'{len(self._failed)} of {total} {what} could not be labeled, see above')


def _read_picture(path):
  """The state of a file, and the picture in it."""
  return prediction_record.state_of(path), images.files.read_image(path)


def _frames_ahead(source, workers: int):
  """The frames of a video, read by a thread if there are workers."""
  with contextlib.closing(video.read_frames(source)) as frames:
    calls = background.ahead(lambda _: next(frames, None), itertools.count(), min(1, workers))
    with contextlib.closing(calls):
      for _, read in calls:
        frame = read()
        if frame is None:
          return
        yield frame


if __name__ == '__main__':
  define_flags()
  cli.run(main)
