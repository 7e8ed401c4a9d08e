"""Slices of splits in the notation of TFDS, such as 'train[:10%]'."""

from dilated_jax.errors import InputError


def resolve_slice(split: str, count: int, owner) -> slice:
  """Returns the examples that a slice such as 'train[:10%]' or 'train[5:20]' selects.

  Args:
    split: name of the split, and the slice in brackets.
    count: number of examples in the whole split.
    owner: data set, for messages.

  Raises:
    InputError: the slice is not valid, or selects nothing.
  """
  import tensorflow_datasets as tfds

  name = split.split('[')[0]
  infos = {name: tfds.core.SplitInfo(name, [count], 0, None)}
  try:
    (part,) = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
  except Exception as error:  # TFDS raises several types, for wrong syntax and for a wrong range.
    raise InputError(
      f'{owner}: {split!r} is not a slice; write train[:10%] or train[5:20]'
    ) from error
  if not range(count)[part.from_ : part.to]:
    raise InputError(f'{owner}: the slice {split!r} has no images')
  return slice(part.from_, part.to)
