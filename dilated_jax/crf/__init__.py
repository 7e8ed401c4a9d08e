"""Structured prediction: the dense CRF, on the permutohedral lattice or by the exact sum."""

from dilated_jax.crf.dense import NORMALIZATIONS, DenseCrf, dense_crf
from dilated_jax.crf.rnn import CrfRnn

__all__ = ['NORMALIZATIONS', 'CrfRnn', 'DenseCrf', 'dense_crf']
