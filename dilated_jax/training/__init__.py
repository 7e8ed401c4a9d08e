"""Training in the stages of the paper: loop, step, losses, optimizers, devices, checkpoints.

A run is a list of stages (`stages`); `loop` takes them one after the other, `step` is one pure
training step, `parallel` the one file that knows devices, `feature_cache` keeps the maps of a
frozen front end on disk.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
