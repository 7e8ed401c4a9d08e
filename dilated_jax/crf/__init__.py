"""Dense conditional random fields and the CRF-RNN.

`dense_crf` refines the class scores of one image, `CrfRnn` is the same mean field as a layer that
is trained. Gaussian filtering runs on the permutohedral `lattice`, or as the `exact` sum;
`pydensecrf` has the names of that library.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
