"""Data sets: images with labels by index, and batches of them for training.

  source = data.load('scenes', 'train')
  source[0]  # {'image': uint8 (H, W, 3), 'label': uint8 (H, W), 'name': str}

Labels are class ids of `data.classes(name)`, and 255 for pixels to ignore. TFDS writes a data set
to `data_dir` once, and files are then read when their examples are accessed. The data set 'folder'
is a folder of your own images and labels, which is used without copying it.

`registry` has all data sets by name, `builders` read the raw files of each, `folder` reads yours,
and `audit` checks any of them. `pipeline` makes batches with the transforms of `augmentation`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
