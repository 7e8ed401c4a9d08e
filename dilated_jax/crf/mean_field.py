"""A dense CRF as arrays, and the mean field that solves it.

Source: Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", Algorithm 1; the normalizations are those of their code of 2013.
"""

from collections.abc import Iterator, Sequence
import functools
from typing import Literal, TypeAlias, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Integer

from dilated_jax.crf.kernels import Kernel, apply_kernel
from dilated_jax.typing import AnyArray

Normalization: TypeAlias = Literal['none', 'before', 'after', 'symmetric']
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
    normalizers: for each kernel, the factors (N, 1) before filtering and those after it.
  """

  unary: Float[AnyArray, 'n c']
  kernels: tuple[Kernel, ...]
  compatibility_matrices: tuple[Float[AnyArray, '...'], ...]
  normalizers: tuple[tuple[Float[jax.Array, 'n 1'], Float[jax.Array, 'n 1']], ...]


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
    tuple(_normalizers(*pair, inside) for pair in zip(kernels, normalizations, strict=True)),
  )


@functools.partial(jax.jit, static_argnums=1)
def _normalizers(kernel: Kernel, normalization: str, inside=None):
  """The factors before and after filtering, from n = K 1; 0 at pixels that there are not."""
  one = jnp.ones((jax.tree.leaves(kernel)[0].shape[0], 1), jnp.float32)
  if inside is not None:
    one = jnp.asarray(inside)[:, None].astype(jnp.float32)
  if normalization == 'none':
    return one, one
  total = apply_kernel(kernel, one) + 1e-20
  if inside is not None:
    before, after = _factors(jnp.where(one > 0, total, 1.0), one, normalization)
    return before * one, after * one
  return _factors(total, one, normalization)


def _factors(total, one, normalization: str):
  if normalization == 'symmetric':
    return jax.lax.rsqrt(total), jax.lax.rsqrt(total)
  return (1 / total, one) if normalization == 'before' else (one, 1 / total)


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

  def unfinished(carry):
    done, _, change = carry
    return (done < iterations) & (change > tolerance)

  def iterate(carry):
    # The loop carries energies, and each iteration begins with their softmax: if it ended with it,
    # XLA would filter once for each pass of the softmax.
    done, energies, change = carry
    marginals = jax.nn.softmax(-energies)
    updated = update(problem, marginals)
    change = jax.lax.cond(  # As expensive as a filter, so only with a tolerance.
      jnp.asarray(tolerance) > 0,
      lambda: abs(jax.nn.softmax(-updated) - marginals).max(),
      lambda: change,
    )
    return done + 1, updated, change

  energies = problem.unary if start is None else -jnp.log(start)
  carry = (jnp.int32(0), energies, jnp.float32(jnp.inf))
  return jax.nn.softmax(-jax.lax.while_loop(unfinished, iterate, carry)[1])


def unrolled_energies(problem: Problem, iterations: int) -> Float[jax.Array, 'n c']:
  """The energies after a fixed number of iterations, differentiable in reverse mode.

  Args:
    problem: the dense CRF.
    iterations: their number.

  Returns:
    Energies, whose negatives are logits of the marginals.
  """

  def iterate(energies, _):
    return update(problem, jax.nn.softmax(-energies)), None

  return jax.lax.scan(iterate, jnp.asarray(problem.unary), length=iterations)[0]


def update(problem: Problem, marginals: Float[AnyArray, 'n c']) -> Float[jax.Array, 'n c']:
  """One iteration: from the marginals to the energies of the next ones."""
  energies = jnp.asarray(problem.unary)
  for message in _messages(problem, marginals):
    energies = energies + message
  return energies


def _messages(problem: Problem, marginals) -> Iterator[jax.Array]:
  """Yields each kernel's contribution to the energies."""
  for kernel, matrix, (before, after) in zip(
    problem.kernels, problem.compatibility_matrices, problem.normalizers
  ):
    filtered = apply_kernel(kernel, marginals * before) * after
    yield filtered * matrix[None] if matrix.ndim == 1 else filtered @ matrix


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
  return (entropy + marginals * update(problem, marginals)).sum()
