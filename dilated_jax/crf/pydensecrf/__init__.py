"""The names, argument order and conventions of pydensecrf, for programs written for it.

  from dilated_jax.crf.pydensecrf import densecrf as dcrf, utils

  crf = dcrf.DenseCRF2D(width, height, classes)
  crf.setUnaryEnergy(utils.unary_from_softmax(probabilities))  # (classes, height, width)
  crf.addPairwiseGaussian(sxy=3, compat=3)
  crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
  marginals = crf.inference(5)  # (classes, height * width)

`import pydensecrf.densecrf as dcrf` and `from pydensecrf.utils import ...` go on working with
`dilated_jax.crf.` in front; all names are here at the top, too.

As in pydensecrf, a scalar compat rewards equal labels, whereas the entries of a vector or a matrix
are costs. New programs better use `dense_crf`, which catches wrong signs. Arrays may have any dtype
and memory order.
"""

from dilated_jax.crf.pydensecrf import densecrf as densecrf, utils as utils
from dilated_jax.crf.pydensecrf.densecrf import (
  CONST_KERNEL as CONST_KERNEL,
  DIAG_KERNEL as DIAG_KERNEL,
  FULL_KERNEL as FULL_KERNEL,
  NO_NORMALIZATION as NO_NORMALIZATION,
  NORMALIZE_AFTER as NORMALIZE_AFTER,
  NORMALIZE_BEFORE as NORMALIZE_BEFORE,
  NORMALIZE_SYMMETRIC as NORMALIZE_SYMMETRIC,
  ConstUnary as ConstUnary,
  DenseCRF as DenseCRF,
  DenseCRF2D as DenseCRF2D,
  LogisticUnary as LogisticUnary,
)
from dilated_jax.crf.pydensecrf.utils import (
  compute_unary as compute_unary,
  create_pairwise_bilateral as create_pairwise_bilateral,
  create_pairwise_gaussian as create_pairwise_gaussian,
  softmax_to_unary as softmax_to_unary,
  unary_from_labels as unary_from_labels,
  unary_from_softmax as unary_from_softmax,
)
