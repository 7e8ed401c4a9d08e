"""Images: reading and writing files, finding and pairing them, preprocessing, visualization.

`files` reads images, label maps and color masks, and writes PNG. `matching` finds image files and
pairs predictions with labels by file name. `preprocessing` pads images by reflection and scales
them down. `visualization` draws label maps: colors, overlays, legends, grids of images.

Images are uint8 (H, W, 3) RGB everywhere, and label maps uint8 (H, W).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
