"""Labels pictures with a network: label maps, colors, overlays and scores.

  dilated-jax predict --weights=DIR --inputs=photos --output=labeled
  dilated-jax predict --weights=DIR --inputs='a.jpg,more/**/*.png' --output=labeled \
      --save=labels,scores --scales=0.75,1,1.25 --flip

Weights converted from published ones are fed tiles of the size that the authors' networks have,
each by itself, as for the published scores. All others see the whole picture; where it does not fit
into memory, or into --tile, they are fed overlapping pieces of it that give the same answer.

For a picture STEM.jpg it writes, as --save asks, STEM.png (class ids, 8-bit gray),
STEM_color.png, STEM_overlay.png (with a legend of the classes that occur) and STEM.npz (`logits`
and `probabilities`); beside them predictions.json says what the ids mean. A picture that can't be
read is reported and the others are done.
"""

import io
import json
import pathlib
import sys
import time

from absl import flags, logging
import numpy as np

from dilated_jax import files, images, inference, models, progress
from dilated_jax.errors import InputError

from . import cli, path_flags, prediction_flags

# What --save names, and the file that it makes.
OUTPUTS = {
  'labels': '{}.png',
  'colors': '{}_color.png',
  'overlays': '{}_overlay.png',
  'scores': '{}.npz',
}


def define_flags(values=flags.FLAGS):
  string = {'flag_values': values}
  path_flags.define('weights', None, 'Weights folder.', required=True, **string)
  path_flags.define_inputs(
    'inputs', None, 'Pictures: FILE, FOLDER or GLOB (** for subfolders), comma-separated.',
    required=True, **string,
  )  # fmt: skip
  path_flags.define('output', None, 'Folder for the results.', required=True, **string)
  flags.DEFINE_list('save', ['labels', 'colors', 'overlays'],
                    f'What to write: {", ".join(OUTPUTS)}.', **string)  # fmt: skip
  flags.register_validator(
    'save', lambda save: save and set(save) <= set(OUTPUTS),
    f'takes any of {", ".join(OUTPUTS)}', flag_values=values,
  )  # fmt: skip
  prediction_flags.define_flags(values)


def main(values=flags.FLAGS):
  inputs = images.matching.find_images(values.inputs)
  output = pathlib.Path(values.output)
  plan = planned(inputs, output, values.save)
  segmenter = models.load_weights(values.weights).on_device()
  spec, options = segmenter.spec, prediction_flags.options(values)
  if isinstance(options['tile'], tuple):
    inference.tiling.check_tile(segmenter.model, options['tile'])
  output.mkdir(parents=True, exist_ok=True)

  start, failed, counts = time.monotonic(), 0, np.zeros(256, np.int64)
  for path in progress.track(inputs, unit='pictures'):
    try:
      image = images.files.read_image(path)
      labels, scores = predicted(segmenter, image, 'scores' in values.save, options)
    except InputError as error:
      message = str(error) if str(error).startswith(f'{path}: ') else f'{path}: {error}'
      print(f'error: {cli.as_typed(message)}', file=sys.stderr)
      failed += 1
      continue
    for kind, file in plan[path].items():
      files.write_atomic(file, content(kind, image, labels, scores, spec))
    counts += np.bincount(labels.ravel(), minlength=256)

  about = dict(
    weights=values.weights,
    dataset=spec.dataset,
    classes=spec.classes,
    palette=spec.palette,
    flags={name: values[name].value for name in prediction_flags.NAMES},
  )
  files.write_atomic(output / 'predictions.json', json.dumps(about, indent=2).encode() + b'\n')

  done, seconds = len(inputs) - failed, time.monotonic() - start
  if done:
    logging.info('%d pictures in %.1f s, %.2f pictures/s', done, seconds, done / seconds)
    order = [index for index in np.argsort(-counts, kind='stable') if counts[index]]
    shares = [f'{spec.classes[index]} {counts[index] / counts.sum():.1%}' for index in order]
    print(f'{done} of {len(inputs)} pictures labeled in {output}: {", ".join(shares)}')
  if failed:
    raise InputError(f'{failed} of {len(inputs)} pictures could not be labeled, see above')


def planned(inputs, output, save) -> dict:
  """The files that each input will make; refuses to write one twice or over an input.

  Args:
    inputs: picture files.
    output: folder.
    save: keys of `OUTPUTS`.

  Returns:
    {input: {key of `OUTPUTS`: file}}.

  Raises:
    InputError: with the two inputs, or the input, that are in the way.
  """
  if output.exists() and not output.is_dir():
    raise InputError(f'--output={output}: is a file; name a folder')
  originals = {path.resolve() for path in inputs}
  plan, owner = {}, {}
  for path in inputs:
    plan[path] = {kind: output / OUTPUTS[kind].format(path.stem) for kind in dict.fromkeys(save)}
    for file in plan[path].values():
      if file in owner:
        raise InputError(f'{owner[file]} and {path} would both be written to {file}: rename one')
      if file.resolve() in originals:
        raise InputError(f'{file}: would overwrite an input picture; choose another --output')
      owner[file] = path
  return plan


def predicted(segmenter, image, scores: bool, options: dict):
  """Labels of a picture, and its scores if they are wanted: of all classes they take far more."""
  if not scores:
    return inference.label_maps(segmenter, image[None], **options)[0], {}
  prediction = inference.predict(segmenter, image, **options)
  return prediction.labels, dict(logits=prediction.logits, probabilities=prediction.probabilities)


def content(kind: str, image, labels, scores: dict, spec) -> bytes:
  """What goes into one file."""
  palette = spec.palette
  if kind == 'labels':
    return images.files.encode_png(labels)
  if kind == 'colors':
    return images.files.encode_png(images.visualization.colorize(labels, palette))
  if kind == 'overlays':
    blended = images.visualization.overlay(image, labels, palette)
    return images.files.encode_png(
      images.visualization.with_legend(blended, labels, spec.classes, palette)
    )
  packed = io.BytesIO()
  np.savez(packed, **scores)
  return packed.getvalue()


if __name__ == '__main__':
  define_flags()
  cli.run(main)
