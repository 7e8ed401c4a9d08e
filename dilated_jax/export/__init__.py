"""Networks as files for other runtimes.

`onnx` writes ONNX straight from the tables of layers, `stablehlo` programs of JAX. Such files are
for running: no command here reads them back, and the weights folder stays the source.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
