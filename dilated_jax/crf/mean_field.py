"""A dense CRF as arrays, and the mean field that solves it.

Source: Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", Algorithm 1; the normalizations are those of their code of 2013.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
from typing import Literal, TypeAlias, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from dilated_jax.crf import lattice
from dilated_jax.crf.kernels import Kernel, apply_kernel
from dilated_jax.typing import AnyArray, DimSize

Normalization: TypeAlias = Literal['none', 'before', 'after', 'symmetric']
Factors: TypeAlias = Float[jax.Array, 'n 1'] | None
NORMALIZATIONS = ('none', 'before', 'after', 'symmetric')


# A pytree: jax.tree.map makes problems of other things than arrays.
@no_type_check
@flax.struct.dataclass
class Problem:
  """A dense CRF of N pixels and C classes.

  Attributes:
    unary: energies.
    kernels: the Gaussian kernels.
    compatibility_matrices: for each kernel, the cost of each pair of labels, (C, C), which the
      filtered marginals are multiplied by from the right; or (C,), its diagonal.
    normalizers: for each kernel, the factors (N, 1) before filtering and those after it; None where
      all are 1.
  """

  unary: Float[AnyArray, 'n c']
  kernels: tuple[Kernel, ...]
  compatibility_matrices: tuple[Float[AnyArray, '...'], ...]
  normalizers: tuple[tuple[Factors, Factors], ...]


def assemble(
  unary: Float[AnyArray, 'n c'],
  kernels: Sequence[Kernel],
  compatibility_matrices: Sequence[Float[AnyArray, '...']],
  normalizations: Sequence[Normalization],
  inside: Bool[AnyArray, ' n'] | None = None,
) -> Problem:
  """Makes a problem from its parts.

  Args:
    unary: see `Problem`, and so are the next two.
    kernels: see there.
    compatibility_matrices: see there.
    normalizations: of each kernel, see `dense_crf`.
    inside: pixels that there are; others neither send nor receive. None: all.
  """
  return Problem(
    unary,
    tuple(kernels),
    tuple(jnp.asarray(matrix, jnp.float32) for matrix in compatibility_matrices),
    tuple(
      _normalizers(kernel, unary.shape[0], normalization, inside)
      for kernel, normalization in zip(kernels, normalizations, strict=True)
    ),
  )


@functools.partial(jax.jit, static_argnums=(1, 2))
def _normalizers(kernel: Kernel, count: DimSize, normalization: str, inside=None):
  """The factors before and after filtering, from n = K 1; 0 at pixels that there are not."""
  there = None if inside is None else jnp.asarray(inside)[:, None].astype(jnp.float32)
  if normalization == 'none':
    return there, there
  ones = jnp.ones((count, 1), jnp.float32) if there is None else there
  total = apply_kernel(kernel, ones) + 1e-20
  if there is not None:
    total = jnp.where(there > 0, total, 1.0)
  factors = jax.lax.rsqrt(total) if normalization == 'symmetric' else 1 / total
  factors = factors if there is None else factors * there
  before = there if normalization == 'after' else factors
  after = there if normalization == 'before' else factors
  return before, after


@jax.jit
def solve(
  problem: Problem,
  iterations: Integer[ArrayLike, ''],
  tolerance: Float[ArrayLike, ''] = 0.0,
  start: Float[AnyArray, 'n c'] | None = None,
) -> Float[jax.Array, 'n c']:
  """Iterates the mean field, not differentiable in reverse mode.

  Args:
    problem: the dense CRF.
    iterations: the largest number of iterations.
    tolerance: stop when no marginal changes by more than this; 0 never stops early.
    start: marginals to continue from; None for softmax(-unary).

  Returns:
    The marginals.
  """
  problem = _with_scaled_kernels(problem)

  def unfinished(carry):
    done, _, change = carry
    return (done < iterations) & (change > tolerance)

  def iterate(carry):
    # The loop carries logits, and each iteration begins with their softmax: if it ended with it,
    # XLA would filter once for each pass of the softmax.
    done, logits, change = carry
    marginals = softmax(logits)
    updated = update(problem, marginals)
    change = jax.lax.cond(  # As expensive as a filter, so only with a tolerance.
      jnp.asarray(tolerance) > 0,
      lambda: abs(softmax(updated) - marginals).max(),
      lambda: change,
    )
    return done + 1, updated, change

  logits = -jnp.asarray(problem.unary) if start is None else jnp.log(start)
  carry = (jnp.int32(0), logits, jnp.float32(jnp.inf))
  return softmax(jax.lax.while_loop(unfinished, iterate, carry)[1])


def _with_scaled_kernels(problem: Problem) -> Problem:
  """The problem with its normalizers as part of the lattices: a pass less for each of them."""
  kernels, normalizers = [], []
  for kernel, factors in zip(problem.kernels, problem.normalizers):
    if isinstance(kernel, lattice.Lattice):
      kernel, factors = lattice.scaled(kernel, *factors), (None, None)
    kernels.append(kernel)
    normalizers.append(factors)
  return dataclasses.replace(problem, kernels=tuple(kernels), normalizers=tuple(normalizers))


def unrolled_logits(problem: Problem, iterations: int) -> Float[jax.Array, 'n c']:
  """The logits of the marginals after some iterations, differentiable in reverse mode.

  Args:
    problem: the dense CRF.
    iterations: their number.
  """

  def iterate(logits, _):
    return update(problem, softmax(logits)), None

  return jax.lax.scan(iterate, -jnp.asarray(problem.unary), length=iterations)[0]


def update(problem: Problem, marginals: Float[AnyArray, 'n c']) -> Float[jax.Array, 'n c']:
  """One iteration: from the marginals to the logits of the next ones."""
  logits = -jnp.asarray(problem.unary)
  for message in _messages(problem, marginals):
    logits = logits - message
  return logits


def _messages(problem: Problem, marginals) -> Iterator[jax.Array]:
  """Yields each kernel's contribution to the energies."""
  for kernel, matrix, (before, after) in zip(
    problem.kernels, problem.compatibility_matrices, problem.normalizers
  ):
    filtered = apply_kernel(kernel, marginals if before is None else marginals * before)
    filtered = filtered if after is None else filtered * after
    yield filtered * matrix[None] if matrix.ndim == 1 else filtered @ matrix


@jax.custom_jvp
def softmax(logits: Float[AnyArray, 'n c']) -> Float[jax.Array, 'n c']:
  """The softmax over classes.

  On CPUs a maximum over the last axis takes as long as a filter: each comparison waits for the one
  before. Halves of the classes, which may overlap, are compared side by side first.
  """
  largest = jnp.asarray(logits)
  while (classes := largest.shape[1]) > 4:
    half = (classes + 1) // 2
    largest = jnp.maximum(largest[:, :half], largest[:, -half:])
  exponentials = jnp.exp(logits - largest.max(1, keepdims=True))
  return exponentials / exponentials.sum(1, keepdims=True)


@softmax.defjvp
def _softmax_jvp(primals, tangents):
  (logits,), (change,) = primals, tangents
  marginals = softmax(logits)
  return marginals, marginals * (change - (marginals * change).sum(1, keepdims=True))


@jax.jit
def free_energy(problem: Problem, marginals: Float[AnyArray, 'n c']) -> Float[jax.Array, '']:
  """What the mean field minimizes: the divergence KL(Q || P), up to a constant.

  Args:
    problem: the dense CRF.
    marginals: Q.

  Returns:
    The sum of Q log Q + Q unary + Q mu (K Q).

  Source: Krähenbühl and Koltun 2013, `klDivergence` of their code, which does not halve the pairs.
  """
  entropy = marginals * jnp.log(jnp.maximum(marginals, 1e-20))
  return (entropy - marginals * update(problem, marginals)).sum()
