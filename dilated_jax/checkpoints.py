"""Checkpoints of a run, and weights folders: what a run leaves behind for everyone else."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import tempfile

from absl import logging
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
import tensorstore as ts

from dilated_jax import models
from dilated_jax.errors import InputError
from dilated_jax.files import replace_folder, uninterrupted, write_atomic


def manager(folder, *, async_save: bool = True) -> ocp.CheckpointManager:
  """Opens the checkpoints of a run; keeps the latest for resuming and the best by mean IoU.

  `max_to_keep` with `best_fn` would delete the latest whenever it is not the best, and with it the
  work since the best; hence the preservation policy.

  Args:
    folder: where they are.
    async_save: write while training goes on.

  Returns:
    Orbax's manager; close it, or use `with`.
  """

  def mean_iou(metrics):
    return metrics['mean_iou']

  options = ocp.CheckpointManagerOptions(
    best_fn=mean_iou,
    enable_async_checkpointing=async_save,
    preservation_policy=checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(1),
        checkpoint_managers.BestN(get_metric_fn=mean_iou, n=1),
      ]
    ),
  )
  return ocp.CheckpointManager(pathlib.Path(folder).absolute(), options=options)


def save(checkpoints: ocp.CheckpointManager, step: int, state, mean_iou: float) -> None:
  """Saves a state; returns before it is written, and later steps may reuse its memory.

  Args:
    checkpoints: from `manager`.
    step: steps done.
    state: a pytree of arrays.
    mean_iou: of the validation split, 0..1; -1 where it was not measured.
  """
  if jax.process_count() > 1:  # Orbax refuses the host-local arrays that pmap returns.
    state = jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, state)
  if step not in checkpoints.all_steps():
    checkpoints.save(step, args=ocp.args.StandardSave(state), metrics={'mean_iou': mean_iou})


def restore(checkpoints: ocp.CheckpointManager, step: int, like):
  """Restores a state.

  Args:
    checkpoints: from `manager`.
    step: `checkpoints.latest_step()` or `checkpoints.best_step()`; others may be half deleted.
    like: a state of the same structure, shapes and dtypes.

  Returns:
    The state.

  Raises:
    InputError: the checkpoint is damaged or of another network.
  """
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  try:
    return checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
  except (ValueError, KeyError, TypeError, OSError) as error:
    raise InputError(
      f'{checkpoints.directory}/{step}: this checkpoint is damaged or of another network '
      f'({_first_line(error)}); remove it, or take another --workdir'
    ) from error


@dataclasses.dataclass(frozen=True)
class Card:
  """What a weights folder says about itself, in `model.json`: all that prediction needs.

  Attributes:
    model: name for `models.create`.
    options: its options.
    classes: names of the classes, in the order of the logits.
    palette: their RGB colours.
    mean: RGB mean that is subtracted from pictures, 0..255.
    channel_order: 'RGB'.
    picture_scale: size at which the network sees pictures, relative to theirs.
    upsampling: 'corner' or 'deconvolution', as the network was trained.
    dataset: what it was trained on; for people.
    input: (height, width) of the input that the published network is fed, tile by tile; None where
      it takes whole pictures.
    source: the file that the weights were converted from; for people.
  """

  model: str
  options: dict
  classes: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  mean: tuple[float, float, float]
  channel_order: str = 'RGB'
  picture_scale: float = 1.0
  upsampling: str = 'corner'
  dataset: str = ''
  input: tuple[int, int] | None = None
  source: str = ''

  def create(self):
    """The network, from `models.create`."""
    return models.create(self.model, len(self.classes), **self.options)

  def front_end(self) -> 'Card':
    """The card of its front end alone."""
    model, options = models.without_context(self.model, self.options)
    return dataclasses.replace(self, model=model, options=options)

  def without_crf(self) -> 'Card':
    """The card of the network that a CRF-RNN refines; of one without, the same."""
    return dataclasses.replace(self, options=models.without_crf(self.options))


def save_weights(folder, card: Card, variables, release=lambda: None) -> None:
  """Writes a weights folder: an Orbax checkpoint and `model.json`.

  A folder that was there is replaced after all is written. Arrays are written piece by piece, so
  that views of a mapped file, transposed or not, are never held in memory as a whole.

  Args:
    folder: where to.
    card: what the weights are.
    variables: of the whole network.
    release: called after each piece.
  """
  check_weights_folder(folder)
  folder = pathlib.Path(folder).resolve()  # A link stays a link.
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f'.{folder.name}.'))
  try:
    variables = jax.tree.map(np.asarray, variables)
    pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=_PIECE), variables)
    with uninterrupted(), _writer(release) as writer:
      writer.save(temporary / 'checkpoint', ocp.args.PyTreeSave(variables, save_args=pieces))
    content = json.dumps(dataclasses.asdict(card), indent=2)
    write_atomic(temporary / 'model.json', content.encode() + b'\n')
    temporary.chmod(0o755)
    replace_folder(temporary, folder)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def check_weights_folder(folder) -> None:
  """Makes sure that a folder may be written or replaced.

  Raises:
    InputError: it is a file, or has something else in it than weights.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and not folder.is_dir():
    raise InputError(f'{folder}: is a file; name a folder for the weights')
  found = {path.name for path in folder.iterdir()} if folder.exists() else set()
  others = sorted(found - {'model.json', 'checkpoint'})
  if others:
    raise InputError(
      f'{folder}: holds other files than weights ({others[0]}) and would be replaced; '
      'choose another folder'
    )


def load_weights(folder):
  """Reads a weights folder.

  Args:
    folder: written by `save_weights`.

  Returns:
    (card, variables): a Card and the variables of `card.create()`.

  Raises:
    InputError: the folder is none, is damaged, or does not fit its own description.
  """
  folder = pathlib.Path(folder).absolute()
  card = load_card(folder)
  model = card.create()
  side = 2 * model.margin + model.stride
  like = jax.eval_shape(
    model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, 3), 'float32')
  )
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
  try:
    with _reader() as reader:
      return card, reader.restore(folder / 'checkpoint', like)
  except Exception as error:  # Orbax and TensorStore have many ways to say it.
    raise InputError(
      f'{folder}/checkpoint: these weights are damaged or not those of a {card.model} '
      f'({_first_line(error)})'
    ) from error


_PIECE = 8 << 20  # Bytes.


class _Piecewise(ocp.type_handlers.NumpyHandler):
  """Writes an array in pieces; Orbax would copy it first, and write all arrays at a time."""

  def __init__(self, release):
    super().__init__(deepcopy_host_arrays=False)
    self._release = release

  async def _open_and_write(self, value, tspec, ts_context):
    store = await ts.open(ts.Spec(tspec), create=True, open=True, context=ts_context)
    pieces = [...]
    if value.ndim:
      # Along the output channels, the first axis in most files: so a piece is read in one go.
      step = store.chunk_layout.write_chunk.shape[-1]
      pieces = [(..., slice(i, i + step)) for i in range(0, value.shape[-1], step)]
    for piece in pieces:
      await store[piece].write(np.asarray(value[piece], order='C'))
      self._release()


def _writer(release) -> ocp.Checkpointer:
  handler = ocp.PyTreeCheckpointHandler(
    type_handler_registry=ocp.type_handlers.create_type_handler_registry(
      (np.ndarray, _Piecewise(release)),
      (jax.Array, ocp.type_handlers.ArrayHandler()),  # Orbax warns without one.
    ),
    multiprocessing_options=_alone(),
  )
  return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def _reader() -> ocp.StandardCheckpointer:
  return ocp.StandardCheckpointer(multiprocessing_options=_alone())


def _alone() -> ocp.options.MultiprocessingOptions:
  """For this process alone: Orbax would wait for all processes to join in."""
  return ocp.options.MultiprocessingOptions(
    primary_host=jax.process_index(),
    active_processes={jax.process_index()},
    barrier_sync_key_prefix=f'weights_{jax.process_index()}',
  )


def hashed(variables, about: str = ''):
  """A SHA-256 of variables and their names, and what else tells them apart; to be continued."""
  digest = hashlib.sha256(about.encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
  return digest


def graft(variables, folder):
  """Puts the parts of a weights folder (front end, context module) in place of a network's own.

  Where a part has other layers than the network's, as that of FCN-32s has for FCN-16s or VGG's for
  DeepLab, layers of the same name and shapes are taken; the log says which stay as they are.

  Args:
    variables: of the whole network.
    folder: a weights folder; its network may have fewer parts.

  Returns:
    Variables of the same structure.

  Raises:
    InputError: nothing fits, or a part of the same layers has other shapes; says which array.
  """
  card, given = load_weights(folder)
  result, taken = dict(variables), 0
  for kind in variables:
    for part in variables[kind].keys() & given.get(kind, {}).keys():
      old, new = variables[kind][part], given[kind][part]
      shapes = [jax.tree.map(jax.numpy.shape, tree) for tree in (old, new)]
      fitting = {name for name in old.keys() & new.keys() if shapes[0][name] == shapes[1][name]}
      for name in sorted(old.keys() - fitting):
        if old.keys() == new.keys():
          raise InputError(
            f'{folder}: {part}/{name} of this {card.model} has shapes {shapes[1][name]} and the '
            f'network wants {shapes[0][name]}; start from weights of the same classes and options'
          )
        logging.info('%s: %s/%s is not in these weights and stays as it is', folder, part, name)
      result[kind] = {**result[kind], part: {**old, **{name: new[name] for name in fitting}}}
      taken += len(fitting)
  if not taken:
    raise InputError(f'{folder}: nothing of this {card.model} fits into the network')
  return result


def load_card(folder) -> Card:
  """Reads `model.json` of a weights folder.

  Raises:
    InputError: there is none, or it is not what `save_weights` writes, or of no network of ours.
  """
  path = pathlib.Path(folder) / 'model.json'
  if not path.exists():
    raise InputError(
      f'{folder}: is not a weights folder (it has no model.json); training leaves one in its '
      '--workdir, named weights'
    )
  try:
    content = json.loads(path.read_text())
    content['classes'] = tuple(content['classes'])
    content['palette'] = tuple(tuple(colour) for colour in content['palette'])
    content['mean'] = tuple(content['mean'])
    if content.get('input') is not None:
      content['input'] = tuple(content['input'])
    card = Card(**content)
    _check(card)
    return card
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise InputError(f'{path}: not a description of weights ({_first_line(error)})') from error


def _check(card) -> None:
  """Raises a ValueError or TypeError where a card says what it can't."""
  if card.channel_order != 'RGB':
    raise ValueError(f'channel_order is {card.channel_order!r}, not RGB')
  if card.upsampling not in ('corner', 'deconvolution'):
    raise ValueError(f'upsampling is {card.upsampling!r}, not corner or deconvolution')
  if not 0 < card.picture_scale <= 1:
    raise ValueError(f'picture_scale is {card.picture_scale}, not above 0 and at most 1')
  if not all(isinstance(name, str) for name in card.classes):
    raise ValueError('a class has no name')
  if len(card.palette) != len(card.classes):
    raise ValueError(f'{len(card.classes)} classes and {len(card.palette)} colours')
  for colour in card.palette:
    if len(colour) != 3 or not all(value in range(256) for value in colour):
      raise ValueError(f'{colour} is no RGB colour')
  if len(card.mean) != 3 or not all(0 <= value <= 255 for value in card.mean):
    raise ValueError(f'mean is {card.mean}, not three numbers of 0 to 255')
  if card.model == 'wavenet':
    raise ValueError('a WaveNet hears and labels no pictures')
  model = card.create()
  least = 2 * model.margin + model.stride
  if card.input and not (
    len(card.input) == 2 and all(side in range(least, 1 << 16) for side in card.input)
  ):
    raise ValueError(f'input is {card.input}, not a height and a width of {least} or more')


def _first_line(error) -> str:
  """The first sentence of an error's message, shortened: Orbax prints whole trees, and advice."""
  return (str(error).splitlines() or [''])[0].split('. ')[0][:200]
