"""Networks by name, and the folders in which their weights are kept.

`create` makes every network: those of the paper and those that it is compared with. A `ModelSpec`
is what a weights folder says about itself; `load_weights` and `save_weights` read and write one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
