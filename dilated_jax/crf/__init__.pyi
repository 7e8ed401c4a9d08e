from . import (
  checks as checks,
  dense as dense,
  exact as exact,
  kernels as kernels,
  lattice as lattice,
  mean_field as mean_field,
  points as points,
  pydensecrf as pydensecrf,
  rnn as rnn,
)
from .dense import DenseCrf as DenseCrf, dense_crf as dense_crf
from .mean_field import NORMALIZATIONS as NORMALIZATIONS
from .rnn import CrfRnn as CrfRnn
