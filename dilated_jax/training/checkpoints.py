"""Checkpoints of a run, by Orbax, with checksums of their files."""

import asyncio
import errno
import os
import pathlib

from etils import epath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from dilated_jax import checksums, files, temporary
from dilated_jax.errors import InputError, first_line
from dilated_jax.models import stored_arrays


def folder_of(checkpoint_dir, stage: str) -> epath.Path:
  """The folder of the checkpoints of a stage.

  Args:
    checkpoint_dir: folder of the run, or gs://BUCKET/FOLDER.
    stage: name of the stage.
  """
  return epath.Path(checkpoint_dir) / stage / 'checkpoints'


def manager(folder, *, async_save: bool = True) -> ocp.CheckpointManager:
  """Opens the checkpoints of a run; keeps the latest for resuming and the best by mean IoU.

  `max_to_keep` with `best_fn` would delete the latest whenever it is not the best, and with it the
  work since the best; hence the preservation policy.

  Args:
    folder: where they are; may be in a bucket, gs://BUCKET/FOLDER.
    async_save: write while training goes on.

  Returns:
    Orbax's manager; close it, or use `with`.

  Raises:
    InputError: what a checkpoint notes beside its arrays is damaged.
  """
  folder, here = epath.Path(folder), '://' not in str(folder)
  if here:
    folder = folder.absolute()
    for step in folder.glob('[0-9]*'):
      if step.name.isdigit():  # Not one that was being written, which Orbax removes.
        _check_notes(step)

  def mean_iou(metrics):
    return metrics['mean_iou']

  options = ocp.CheckpointManagerOptions(
    best_fn=mean_iou,
    cleanup_tmp_directories=True,  # Of a run that was killed.
    enable_async_checkpointing=async_save,
    temporary_path_class=_Checked if here else None,  # Buckets have checksums of their own.
    todelete_subdir=_REMOVED if here else None,
    preservation_policy=checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(1),
        checkpoint_managers.BestN(get_metric_fn=mean_iou, n=1),
      ]
    ),
  )
  return _Manager(folder, options=options)


def _check_notes(checkpoint) -> None:
  """Checks what Orbax reads of every checkpoint before one is asked for: its score and times."""
  stored_arrays.size_of_files(checkpoint)  # None is a pipe.
  checksums.check_checksums(checkpoint, {'metrics/metrics'}, advice=_advice(checkpoint))
  for name, needed in (('metrics/metrics', 'mean_iou'), ('_CHECKPOINT_METADATA', None)):
    path = checkpoint / name
    try:
      content = dict(files.decode_json(files.read_small(path)))
      _ = needed and float(content[needed])
    except FileNotFoundError:
      continue
    except (ValueError, LookupError, TypeError):
      raise InputError(f'{path}: is damaged; {_advice(checkpoint)}') from None


# Where checkpoints go before they are removed: of one that is half removed when the process is
# killed nobody may think that it is one.
_REMOVED = '.removed'


class _Manager(ocp.CheckpointManager):
  """Keeps nothing but what is to be kept, whenever an earlier process was killed."""

  def __init__(self, folder, **options):
    super().__init__(folder, **options)
    if jax.process_count() == 1:  # Others might be reading them just now.
      for step in {*self.all_steps()} - {self.latest_step(), self.best_step()}:
        self.delete(step)  # Its turn had come, and after the last step of a run no other does.
    self._remove()

  def wait_until_finished(self):  # Called before each save and at the end.
    super().wait_until_finished()
    self._remove()

  def _remove(self):
    if jax.process_index() == 0 and '://' not in str(self.directory):
      temporary.remove(self.directory / _REMOVED)


class _Checked(ocp.path.atomicity.AtomicRenameTemporaryPath):
  """A checkpoint, or a part of one, before it gets its name."""

  async def finalize(self):
    if self.get_final().name.isdigit():  # Not a part.
      folder = pathlib.Path(self.get())
      await asyncio.to_thread(checksums.write_checksums, folder, _STILL_CHANGED)
      await asyncio.to_thread(files.sync_folder, folder)
    await super().finalize()


# What Orbax writes last: times and no values.
_STILL_CHANGED = ('_CHECKPOINT_METADATA', 'commit_success.txt')


def _advice(checkpoint) -> str:
  return f'remove {checkpoint}, or take another `workdir`'


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
    FileNotFoundError: it was removed meanwhile.
  """
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  folder = checkpoints.directory / str(step)
  try:
    if '://' not in str(folder):  # Before, since Orbax leaves threads behind where it meets damage.
      stored_arrays.check_files(folder, abstract)
      checksums.check_checksums(folder, advice=_advice(folder))
      stored_arrays.check_arrays(folder / 'default', abstract)
    return checkpoints.restore(step, args=ocp.args.StandardRestore(abstract))
  except (ValueError, LookupError, TypeError, OSError, RecursionError) as error:
    if not folder.exists():  # Somebody has removed it, or all of the run.
      raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder)) from error
    if isinstance(error, InputError):
      raise
    raise InputError(
      f'{folder}: this checkpoint is damaged or of another network ({first_line(error)}); '
      f'{_advice(folder)}'
    ) from error
