"""Structured prediction: the dense CRF, on the permutohedral lattice or by the exact sum."""

from dilated_jax.crf.dense import NORMALIZATIONS, DenseCrf, dense_crf

__all__ = ['NORMALIZATIONS', 'DenseCrf', 'dense_crf']
