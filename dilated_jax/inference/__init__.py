"""From an image of any size to a label map: whole, in tiles, at several scales.

`predict` labels one image and `label_maps` a batch; `tiling` feeds a network piece by piece.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
