"""Starting from other weights: which layers a network takes of them, and which start afresh.

Weights of ImageNet, or of a network for other classes, fit but for the layers whose shapes depend
on the number of classes. Which these are is told by the shapes that the network has with another
number of classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import dataclasses
import re
from typing import Any, NamedTuple

from absl import logging
import jax
import numpy as np

from dilated_jax.errors import InputError
from dilated_jax.models import deeplab
from dilated_jax.models.segmenter import Segmenter
from dilated_jax.models.spec import ModelSpec
from dilated_jax.models.trunk import trunk
from dilated_jax.models.weights_folder import abstract_variables, load_weights


class Pretrained(NamedTuple):
  """A network that starts from other weights.

  Attributes:
    variables: of the network.
    fresh: layers that start afresh, wholly or for some classes, such as 'front_end/final'.
  """

  variables: Any
  fresh: frozenset[str]


# What becomes of a layer, as the log says it; of those that are wholly taken it says nothing.
_TAKEN = ''
_REORDERED = 'take the rows of their classes by name'
_DECIMATED = 'start from every n-th tap and channel of larger ones in these weights'
_SOME_CLASSES = 'start afresh for the other classes'
_OTHER_CLASSES = 'start afresh: they depend on the classes, which are others'
_MISSING = 'start afresh: they are not in these weights'
_UNTRAINED = 'start afresh: they are untrained in these weights'
_MISFIT = 'start afresh: they have other shapes in these weights'


def load_pretrained(
  spec: ModelSpec, variables: Any, folder, *, weights: Segmenter | None = None
) -> Pretrained:
  """Puts the layers of a weights folder in place of a network's own of the same names.

  Both must stand on the same trunk, or the network on the first blocks of the other's VGG.

  A layer whose shapes depend on the number of classes is taken whole where both networks have the
  same classes in the same order. Otherwise classes are matched by name, see `match_classes`: what
  such a layer holds for the classes of both is taken, and what it holds for others starts afresh.
  So do layers that the weights lack (as those of FCN-32s lack the skips of FCN-16s), that are
  untrained in them (as the last one of VGG), or that have other shapes in another network. Of
  DeepLab, fc6 and fc7 start from larger ones by `deeplab.decimate`. The log says which.

  Args:
    spec: of the network.
    variables: of the network or of some of its parts, as at the start of training.
    folder: a weights folder; its network may have fewer parts.
    weights: what to take instead of reading the folder, such as a converted file; `folder` is then
      what messages call it.

  Returns:
    Variables of the same structure, and the layers that start afresh.

  Raises:
    InputError: nothing fits; the trunks are different ones; or a part has the same layers in both
      networks, and one of them has other shapes for another reason than the number of classes;
      says which.
  """
  _, given, source = weights or load_weights(folder, to_use=False)
  _check_trunk(spec, source, folder)
  classes = _Classes.of(spec, source)
  per_class = _entries_per_class(spec)
  result: dict[str, dict] = {kind: dict(parts) for kind, parts in variables.items()}
  outcomes: dict[str, list[str]] = {}  # Layers by what became of them.
  misfits = []
  parts = [(kind, part, own) for kind, tree in variables.items() for part, own in tree.items()]
  for kind, part, own in parts:
    theirs, result[kind][part] = given.get(kind, {}).get(part, {}), dict(own)
    for name, layer in own.items():
      new, outcome = layer, _MISSING
      if name in theirs and name in source.untrained:
        outcome = _UNTRAINED
      elif name in theirs:
        new, outcome = _start(layer, theirs[name], per_class[kind][part][name], classes)
      if outcome in (_MISSING, _MISFIT):
        smaller = _decimated(spec, source, name, layer, theirs)
        new, outcome = (smaller, _DECIMATED) if smaller else (layer, outcome)
      if outcome == _MISFIT:
        misfits.append(
          f'{part}/{name} of this {source.model} has shapes {_shapes(theirs[name])} and the '
          f'network wants {_shapes(layer)}; start from weights of the same options'
        )
        if own.keys() == theirs.keys():
          earlier = '' if part == 'front_end' else f', or from those of a stage before the {part}'
          raise InputError(f'{folder}: {misfits[-1]}{earlier}')
      result[kind][part][name] = new
      outcomes.setdefault(outcome, []).append(f'{part}/{name}')
  if not outcomes.keys() & {_TAKEN, _REORDERED, _DECIMATED, _SOME_CLASSES}:
    why = f': {misfits[0]}' if misfits else ''
    raise InputError(f'{folder}: nothing of this {source.model} fits into the network{why}')
  _log(folder, outcomes, classes)
  afresh = outcomes.keys() - {_TAKEN, _REORDERED, _DECIMATED}
  return Pretrained(result, frozenset(layer for outcome in afresh for layer in outcomes[outcome]))


def _check_trunk(spec: ModelSpec, source: ModelSpec, folder) -> None:
  """Refuses weights of another trunk, of which only some layers would be taken."""
  own, theirs = (trunk(one.create().front_end_table) for one in (spec, source))
  if not own or not theirs:
    return
  count = len(own.blocks)
  if own.kind == 'VGG':  # The last blocks may be left out, and so may what ends the last one.
    fits = (
      own.blocks[:-1] == theirs.blocks[: count - 1]
      and own.blocks[-1:] <= theirs.blocks[count - 1 : count]
    )
  else:
    fits = own.blocks == theirs.blocks
  if own.kind != theirs.kind or own.unit != theirs.unit or not fits:
    raise InputError(f'{folder}: holds a {theirs}, and the network stands on a {own}')
  if own.norm == 'none' and theirs.norm != 'none':
    raise InputError(
      f'{folder}: its layers are normalized; give the network `norm={theirs.norm!r}`'
    )


def match_classes(own: Sequence[str], given: Sequence[str]) -> dict[int, int]:
  """Finds the classes of a network among those of other weights.

  Names are the same in upper and lower case, and with spaces, hyphens or underscores between their
  words. Where the names of one side are only numbers (class 0, class 1, ...), they tell nothing:
  as many classes as the other side has are then matched in order.

  Args:
    own: names of the network's classes, in the order of its logits.
    given: those of the weights.

  Returns:
    By index of a class of the network, the index of the same class of the weights.

  >>> match_classes(['sky', 'road', 'traffic light'], ['Road', 'traffic_light', 'car'])
  {1: 0, 2: 1}
  """
  ours, theirs = (
    [re.sub(r'[\s_-]+', ' ', name.casefold().strip()) for name in names] for names in (own, given)
  )
  if len(ours) == len(theirs) and (_are_numbers(ours) or _are_numbers(theirs)):
    return {index: index for index in range(len(ours))}
  return {index: theirs.index(name) for index, name in enumerate(ours) if name in theirs}


def _are_numbers(names: Iterable[str]) -> bool:
  return all(re.fullmatch(r'(class )?\d+', name) for name in names)


@dataclasses.dataclass(frozen=True)
class _Classes:
  """The classes of a network and those of the weights.

  Attributes:
    own: names of the network's.
    given: names of those of the weights.
    matches: the index of one by the index of the other.
  """

  own: tuple[str, ...]
  given: tuple[str, ...]
  matches: dict[int, int]

  @classmethod
  def of(cls, spec: ModelSpec, source: ModelSpec) -> _Classes:
    return cls(spec.classes, source.classes, match_classes(spec.classes, source.classes))

  @property
  def are_the_same(self) -> bool:
    """In the same order too."""
    in_order = {index: index for index in range(len(self.own))}
    return len(self.own) == len(self.given) and self.matches == in_order


def _entries_per_class(spec: ModelSpec):
  """How many entries each axis of each array has for one class; 0 where all classes share them.

  Shapes of the network with another number of classes tell it.
  """
  count = len(spec.classes)
  other = count + 1 if count < 255 else count - 1
  shapes, others = (
    abstract_variables(dataclasses.replace(spec, classes=('',) * number).create())
    for number in (count, other)
  )
  return jax.tree.map(
    lambda a, b: (np.array(b.shape, int) - np.array(a.shape, int)) // (other - count),
    shapes, others,
  )  # fmt: skip


def _start(own, given, per_class, classes: _Classes):
  """A layer as it starts, and what became of it.

  Args:
    own: its arrays in the network.
    given: those in the weights.
    per_class: from `_entries_per_class`, for its arrays.
    classes: of both.
  """
  if jax.tree.structure(own) != jax.tree.structure(given):
    return own, _MISFIT
  count, more = len(classes.own), len(classes.given) - len(classes.own)
  fits = jax.tree.map(
    lambda a, b, each: b.shape == (*(a.shape + more * each),), own, given, per_class
  )
  if not all(jax.tree.leaves(fits)):
    return own, _MISFIT
  if classes.are_the_same or not any(each.any() for each in jax.tree.leaves(per_class)):
    return given, _TAKEN
  grouped = jax.tree.map(
    lambda a, each: all((each == 0) | (each * count == a.shape)), own, per_class
  )
  if not classes.matches or not all(jax.tree.leaves(grouped)):
    return own, _OTHER_CLASSES
  new = jax.tree.map(
    lambda a, b, each: _with_rows(a, b, each, classes.matches), own, given, per_class
  )
  return new, _REORDERED if len(classes.matches) == count else _SOME_CLASSES


def _decimated(spec: ModelSpec, source: ModelSpec, name: str, own, theirs):
  """fc6 or fc7 of a DeepLab, or of a branch of it (fc6_1), out of a larger one; else None."""
  larger = name.partition('_')[0]
  if not spec.model.startswith('deeplab') or larger not in ('fc6', 'fc7'):
    return None
  given = theirs.get(larger)
  if larger in source.untrained or jax.tree.structure(own) != jax.tree.structure(given):
    return None
  smaller = {
    leaf: deeplab.decimate(np.asarray(given[leaf]), array.shape) for leaf, array in own.items()
  }
  return None if any(array is None for array in smaller.values()) else smaller


def _with_rows(own, given, per_class, matches: dict[int, int]) -> np.ndarray:
  """An array with what another one holds for the classes of both.

  The entries of a class stand together, as the identity initialization groups channels.

  Args:
    own: the array.
    given: the other one.
    per_class: how many entries each of its axes has for a class.
    matches: from `match_classes`.
  """

  def entries(classes, each, length):
    return [index * each + i for index in classes for i in range(each)] if each else range(length)

  here, there = (
    np.ix_(*(entries(of, *axis) for axis in zip(per_class, array.shape, strict=True)))
    for of, array in ((matches.keys(), own), (matches.values(), given))
  )
  new = np.array(own)
  new[here] = np.asarray(given)[there]
  return new


def _shapes(layer):
  return jax.tree.map(np.shape, layer)


def _log(folder, outcomes: dict[str, list[str]], classes: _Classes) -> None:
  """Says what became of the layers."""
  if outcomes.keys() & {_REORDERED, _SOME_CLASSES, _OTHER_CLASSES}:
    found = [classes.own[index] for index in classes.matches]
    others = [name for index, name in enumerate(classes.own) if index not in classes.matches]
    logging.info(
      '%s: classes that these weights know: %s; others: %s',
      folder, ', '.join(found) or 'none', ', '.join(others) or 'none',
    )  # fmt: skip
  layers = {layer for found in outcomes.values() for layer in found}
  logging.info(
    '%s: %d of %d layers are taken', folder, len(set(outcomes.get(_TAKEN, ()))), len(layers)
  )
  for outcome, layers in outcomes.items():
    if outcome != _TAKEN:
      logging.info('%s: %s: %s', folder, ', '.join(dict.fromkeys(layers)), outcome)
