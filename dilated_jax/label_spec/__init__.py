"""What the labels of a data set mean: class names, palette, raw ids, and the value to ignore.

`LabelSpec` describes the classes of one data set and turns raw label files into class ids. The
specs of all published data sets are constants: SCENES, CAMVID, CAMVID_DILATION8, KITTI, VOC and
CITYSCAPES. Class ids are 0..C-1 everywhere, and `IGNORE` (255) marks pixels that count neither in
a loss nor in a score.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
