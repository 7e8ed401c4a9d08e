"""Image files and arrays: reading, writing, finding, pairing, preprocessing, drawing.

`files` reads and writes images and label maps, `matching` finds files and pairs them by name,
`preprocessing` reflects margins and scales down, `visualization` makes colors, overlays, legends
and grids.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
