"""Data sets: images with labels by number, and the batches that training makes of them.

  source = data.load('scenes', 'train')
  source[0]  # {'image': uint8 (H, W, 3), 'label': uint8 (H, W), 'name': str}

Labels are class ids of `classes(name)`, 255 for pixels to ignore. Data sets are prepared once, by
TFDS without TensorFlow, into `data_dir`; a file is read when its image is asked for. A folder of
one's own, 'folder', is read where it is, and may be prepared too. `audit` checks any of them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
