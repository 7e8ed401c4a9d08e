"""What the labels of a data set mean: one table each, and the only place where it is written."""

import dataclasses

import numpy as np

from dilated_jax.errors import InputError

IGNORE = 255  # Label of pixels that count neither in a loss nor in a score.


@dataclasses.dataclass(frozen=True)
class Classes:
  """The classes of a data set.

  Attributes:
    name: of the data set.
    names: of the classes, in the order of their ids.
    palette: one RGB colour a class, 0..255.
    mean: RGB mean of the training pictures, 0..255.
    void: values in raw label files that mean 'ignore', besides 255.
  """

  name: str
  names: tuple[str, ...]
  palette: tuple[tuple[int, int, int], ...]
  mean: tuple[float, float, float]
  void: tuple[int, ...] = ()

  @property
  def num_classes(self) -> int:
    return len(self.names)

  def to_train_ids(self, mask: np.ndarray, path) -> np.ndarray:
    """Checks a raw label map and turns every void value into 255.

    Args:
      mask: integers (H, W), as stored in the label file.
      path: the label file, for the error message.

    Returns:
      uint8 (H, W) with values 0..num_classes-1 and 255 for ignored pixels.

    Raises:
      InputError: `mask` is not a map of integers, or holds other values.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
      raise InputError(
        f'{path}: a label picture of {self.name} has one channel of class ids, found shape '
        f'{mask.shape} of {mask.dtype}; store class ids as 8-bit grey or palette PNG'
      )
    found = np.unique(mask)
    legal = np.r_[np.arange(self.num_classes), self.void, IGNORE]
    illegal = [int(value) for value in found if value not in legal]
    if illegal:
      values = ', '.join(map(str, illegal[:8])) + (', ...' if len(illegal) > 8 else '')
      ignored = ' and '.join(map(str, (*self.void, IGNORE)))
      raise InputError(
        f'{path}: illegal label values {values}; {self.name} has classes '
        f'0..{self.num_classes - 1}, and {ignored} to ignore'
      )
    ignored = np.isin(mask, (*self.void, IGNORE))
    return np.where(ignored, IGNORE, mask).astype(np.uint8)


SCENES = Classes(
  name='scenes',
  names=('sea', 'snow', 'sail', 'tent', 'lighthouse', 'cabin', 'pole'),
  palette=(
    (0, 105, 200),
    (185, 225, 250),
    (255, 205, 0),
    (255, 120, 40),
    (215, 20, 60),
    (125, 70, 25),
    (190, 0, 190),
  ),
  mean=(172.63, 192.18, 206.6),
)

# The order of the label files that SegNet distributes; published CamVid weights use another one.
CAMVID = Classes(
    name='camvid',
    names=(
        'sky', 'building', 'pole', 'road', 'sidewalk', 'tree',
        'sign', 'fence', 'car', 'pedestrian', 'bicyclist',
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    mean=(105.03, 108.41, 110.33),
    void=(11,),
)  # fmt: skip
