"""The search for the deviations and weights of a dense CRF, on images whose labels are known.

Nobody can guess them: they depend on the network, the size of its images and their sharpness, and
wrong ones make labels worse. Every trial sees the same probabilities, and trials that share a
lattice share its construction.
"""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import itertools
import json
import math
import pathlib

import jax
import numpy as np

from dilated_jax import progress
from dilated_jax.crf import DenseCrf, dense, mean_field
from dilated_jax.crf.lattice import room_for
from dilated_jax.errors import InputError
from dilated_jax.evaluation import metrics
from dilated_jax.files import decode_json, write_atomic
from dilated_jax.inference.canvases import Canvases
from dilated_jax.inference.prediction import predict
from dilated_jax.label_spec import LabelSpec
from dilated_jax.models import weights_folder
from dilated_jax.models.segmenter import Segmenter


def grid(gaussian_sxy, gaussian_compat, sxy, srgb, compat, iterations) -> list[DenseCrf]:
  """All combinations of the values given; those that share a lattice stand together.

  A weight of 0 leaves its kernel out, whatever the deviations: that is one trial, not one for each
  of them. Without any kernel there is no CRF, and no trial.
  """

  def term(*values):
    return values if values[-1] else None

  trials = [
    DenseCrf(term(near, weight), term(wide, color, strength), count)
    for near, wide, color, weight, strength, count in itertools.product(
      gaussian_sxy, sxy, srgb, gaussian_compat, compat, sorted(iterations)
    )
  ]
  return list(dict.fromkeys(each for each in trials if each.gaussian or each.bilateral))


def search(
  segmenter: Segmenter,
  source: Sequence[dict],
  classes: LabelSpec,
  trials: Sequence[DenseCrf],
  path,
  **passes,
) -> list[tuple[DenseCrf | None, dict]]:
  """Scores a dense CRF of every setting behind a network; see `rank`.

  Args:
    segmenter: from `dilated_jax.load`.
    source: examples with 'image', 'label' and 'name'.
    classes: of the data set; the same names as the network's, in any order.
    trials: the settings, from `grid`.
    path: JSON file that keeps the counts after each image; a search that was interrupted continues
      from it.
    **passes: `scales`, `flip`, `tile` and `window` of `predict`: the search is for what they make.

  Returns:
    As `rank`.

  Raises:
    InputError: the classes differ, or as `rank`.
  """
  columns = np.argsort(classes.class_order(segmenter.spec.classes, 'the weights'))
  digest = weights_folder.fingerprint(segmenter.variables).hexdigest()
  network = f'{segmenter.spec} {sorted(passes.items())} {digest}'
  canvases = Canvases()

  def probabilities_of(image):
    return predict(segmenter, image, canvases=canvases, **passes).probabilities[..., columns]

  return rank(probabilities_of, source, classes, trials, path, network)


def rank(
  probabilities_of: Callable[[np.ndarray], np.ndarray],
  source: Sequence[dict],
  classes: LabelSpec,
  trials: Sequence[DenseCrf],
  path,
  network: str = '',
) -> list[tuple[DenseCrf | None, dict]]:
  """Scores every trial on every image; continues where it stopped.

  Args:
    probabilities_of: from an image, uint8 (H, W, 3), to the network's (H, W, C) float32.
    source: examples with 'image', 'label' and 'name'.
    classes: of the data set.
    trials: the settings, from `grid`.
    path: JSON file that keeps the counts after each image.
    network: tells it from others, such as a digest of its weights.

  Returns:
    (trial, scores as of `metrics.scores`) each, the best mean IoU first; the trial is None for the
    network alone.

  Raises:
    InputError: the file is of another network, of other images, labels or trials.
  """
  path, count = pathlib.Path(path), classes.num_classes
  search_id = _fingerprint(source, classes, trials, network)
  counts = np.zeros((1 + len(trials), count, count), np.int64)
  done = 0
  if path.exists():
    done, counts = _resumed(path, search_id, counts)
  for index in progress.track(range(done, len(source)), unit='images'):
    example = source[index]
    probabilities = probabilities_of(example['image'])
    results = itertools.chain([probabilities], _refined(probabilities, example['image'], trials))
    for total, marginals in zip(counts, results, strict=True):
      total += metrics.confusion_matrix(example['label'], marginals.argmax(-1), count)
    state = {'search': search_id, 'done': index + 1, 'counts': counts.tolist()}
    write_atomic(path, json.dumps(state).encode())
  scores = [metrics.scores(total, classes.names) for total in counts]
  return sorted(
    zip([None, *trials], scores, strict=True), key=lambda each: -(each[1]['mean_iou'] or 0.0)
  )


def _refined(probabilities, image, trials):
  """Marginals (H, W, C) of every trial."""
  unary = dense.unary_energies(probabilities)
  shape = height, width, classes = probabilities.shape
  pixels = height * width
  for _, sharing in itertools.groupby(trials, _deviations):
    sharing = list(sharing)
    options = dict(gaussian=sharing[0].gaussian, bilateral=sharing[0].bilateral)
    normalization = sharing[0].normalization
    posed = dense.build_problem(
      unary, image, **options, normalization=normalization, room=room_for(pixels)
    )
    for compats, alike in itertools.groupby(sharing, _compats):
      problem = dataclasses.replace(
        posed,
        compatibility_matrices=tuple(
          dense.compatibility_matrix(compat, classes) for compat in compats
        ),
      )
      done = math.inf
      for trial in alike:
        if trial.iterations < done:
          # Given, not left out: one program instead of two.
          marginals, done = jax.nn.softmax(-problem.unary), 0
        marginals = mean_field.solve(problem, trial.iterations - done, start=marginals)
        done = trial.iterations
        yield np.asarray(marginals)[:pixels].reshape(shape)


def _deviations(trial) -> tuple:
  """What decides a trial's lattices."""
  return *(term and term[:-1] for term in _terms(trial)), trial.normalization


def _compats(trial) -> tuple:
  return tuple(term[-1] for term in _terms(trial) if term)


def _terms(trial) -> tuple:
  return trial.gaussian, trial.bilateral


def _fingerprint(source, classes, trials, network) -> str:
  about = [[dataclasses.asdict(trial) for trial in trials], len(source), classes.names, network]
  digest = hashlib.sha256(json.dumps(about).encode())
  for index in range(len(source)):
    example = source[index]
    digest.update(np.ascontiguousarray(example['image']))
    digest.update(np.ascontiguousarray(example['label']))
  return digest.hexdigest()[:16]


def _resumed(path, search_id, counts):
  try:
    state = decode_json(path.read_text())
    if state['search'] == search_id:
      return int(state['done']), np.array(state['counts'], np.int64).reshape(counts.shape)
  except (ValueError, KeyError, TypeError, OverflowError):
    raise InputError(f'{path}: is damaged; remove it to begin anew') from None
  raise InputError(
    f'{path}: is of another network or of other images, passes or trials; take another '
    '`output`, or remove it'
  )
