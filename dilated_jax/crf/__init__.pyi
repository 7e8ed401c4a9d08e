from . import (
  dense as dense,
  exact as exact,
  lattice as lattice,
  points as points,
  pydensecrf as pydensecrf,
  rnn as rnn,
)
from .dense import NORMALIZATIONS as NORMALIZATIONS, DenseCrf as DenseCrf, dense_crf as dense_crf
from .rnn import CrfRnn as CrfRnn
