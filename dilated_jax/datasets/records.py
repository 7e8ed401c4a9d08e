"""What every data set of ours looks like on disk: a picture, its label map and its name."""

import tensorflow_datasets as tfds


class _Info(tfds.core.DatasetInfo):
  def initialize_from_bucket(self):
    """Does nothing: none of ours is in TFDS's bucket, and looking leaves a folder behind."""


def info(
  builder, height: int | None = None, width: int | None = None, instances: bool = False
) -> tfds.core.DatasetInfo:
  """The TFDS description of a data set of pictures and label maps, both PNG.

  Args:
    builder: the data set's builder; its docstring is the description.
    height: of all pictures, in pixels; None where they differ.
    width: likewise.
    instances: whether examples may have an instance map too, as the content of a PNG file, or None.

  Returns:
    For `builder._info`.
  """
  features = {
    'image': tfds.features.Image(shape=(height, width, 3), encoding_format='png'),
    'label': tfds.features.Image(shape=(height, width, 1), encoding_format='png'),
    'name': tfds.features.Text(),
  }
  if instances:  # As text: only text can be missing in some examples, and it holds any bytes.
    features['instances'] = tfds.features.Text(optional=True)
  return _Info(
    builder=builder,
    features=tfds.features.FeaturesDict(features),
    description=builder.__doc__,
    disable_shuffling=True,
  )
