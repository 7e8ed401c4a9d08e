"""What `compare` has found in pictures: bars of the classes, and what each system sees."""

import statistics

from absl import flags
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dilated_jax import data, inference, models
from dilated_jax.images import visualization

from . import prediction_flags
from .tables import percent


def bars(cells, width: int = 320) -> np.ndarray:
  """The IoU of every class, a bar for each system; (H, W, 3) uint8."""
  systems = {}
  for each in cells:
    systems.setdefault(title(each), []).append(each['per_class_iou'])
  classes, font, step = list(cells[0]['per_class_iou']), ImageFont.load_default(size=13), 16
  left = 16 + int(max(font.getlength(text) for text in (*classes, *systems)))
  height = len(classes) * (step * len(systems) + 28) + 16
  page = Image.new('RGB', (2 * left + width + 60, height), 'white')
  draw, top = ImageDraw.Draw(page), 8
  for name in classes:
    draw.text((8, top), name, 'black', font)
    for index, (system, scores) in enumerate(systems.items()):
      found = [score[name] for score in scores if score[name] is not None]
      value = statistics.mean(found) if found else 0.0
      y = top + index * step
      shade = 40 + 150 * index // max(1, len(systems) - 1) if len(systems) > 1 else 90
      draw.text((left, y), system, (90, 90, 90), font)
      draw.rectangle(
        (2 * left, y + 2, 2 * left + round(width * value), y + step - 2),
        (shade, 90, 190 - shade // 2),
      )
      draw.text((2 * left + width + 8, y), percent(value), 'black', font)
    top += step * len(systems) + 28
  return np.asarray(page)


def image_grid(values, cells) -> np.ndarray:
  """Pictures, truths and what each system says; (H, W, 3) uint8."""
  name = cells[0]['dataset']
  source = data.load(name, values.split, values.data_dir, values.manual_dir)
  classes = data.classes(name, values.data_dir, values.manual_dir)
  chosen = np.linspace(0, len(source) - 1, min(values.num_images, len(source))).astype(int)
  examples = [source[int(index)] for index in chosen]
  rows = [
    [each['image'], visualization.colorize(each['label'], classes.palette)] for each in examples
  ]
  for each in cells:
    segmenter = models.load_weights(each['weights']).on_device()
    order = classes.class_order(segmenter.spec.classes, 'the weights')
    refine = refinement(each['flags'])
    for row, example in zip(rows, examples, strict=True):
      found = inference.predict(segmenter, example['image'], refine=refine).labels
      row.append(visualization.colorize(order[found], classes.palette))
  page = visualization.image_grid(rows, ['picture', 'truth', *map(title, cells)])
  legend = visualization.legend(classes.names, classes.palette, width=page.shape[1])
  return np.concatenate([page, legend])


def refinement(lines):
  """The dense CRF of flags that `tune` has left, or None."""
  if not lines:
    return None
  values = flags.FlagValues()
  prediction_flags.define_flags(values)
  values(['compare', *lines])
  return prediction_flags.refinement(values)


def title(each) -> str:
  return ' + '.join(each[part] for part in ('model', 'context', 'crf') if each[part] != 'none')
