"""Networks as tables of layers, what follows from a table, and the operations that run it.

`table` has the tables of the paper, tuples of `Layer` rows, and its rule of dilation. `geometry`
derives sizes, receptive fields and margins from a table, `costs` parameters, FLOPs and memory.
`ops` has the pure functions of arrays (dilated convolution, pooling, upsampling), `initializers`
the identity initialization of the paper and others, and `stack.Stack` runs a table as a Flax
module.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
