"""Networks as tables of layers, what follows from a table, and the operations behind it.

`table` states networks: a tuple of `Layer` rows, the tables of the paper, its rule of dilation.
`geometry` derives sizes, receptive fields, margins, parameters and FLOPs from a table. `ops` holds
the pure functions of arrays (dilated convolution, poolings, upsamplings), `initializers` the
identity initialization of the paper and others, and `stack.Stack` runs a table as a Flax module.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
