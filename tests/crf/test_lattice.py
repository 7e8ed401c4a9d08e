"""The lattice: its algebra, its gradients, and the Gaussian it stands for."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dilated_jax.crf import lattice as lattices, points
from dilated_jax.errors import InputError


def some(count, dimensions, channels, seed=0, spread=3.0):
  rng = np.random.default_rng(seed)
  features = rng.normal(0, spread, (count, dimensions)).astype(np.float32)
  return features, *(rng.normal(size=(count, channels)).astype(np.float32) for _ in range(2))


@hypothesis.given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 3), st.integers(0, 9))
@hypothesis.settings(max_examples=8)
def test_transpose_is_the_adjoint(count, dimensions, channels, seed):
  features, p, q = some(count, dimensions, channels, seed)
  lattice = lattices.build(features)
  np.testing.assert_allclose(lattice.weights.sum(0), 1, atol=1e-5)
  one = np.vdot(p, lattices.apply(lattice, q))
  other = np.vdot(lattices.apply_transposed(lattice, p), q)
  size = np.linalg.norm(p) * np.linalg.norm(lattices.apply(lattice, q))
  assert abs(one - other) <= 1e-5 * size


def test_gradient_to_values_is_the_transpose():
  features, p, q = some(200, 5, 3)
  lattice = lattices.build(features)
  _, pull = jax.vjp(lambda x: lattices.apply(lattice, x), q)
  np.testing.assert_allclose(
    pull(jnp.asarray(p))[0], lattices.apply_transposed(lattice, p), rtol=1e-5
  )


def test_close_to_the_gaussian():
  features, _, q = some(500, 3, 2, spread=1.0)
  apart = ((features[:, None] - features) ** 2).sum(-1)
  exact = np.exp(-apart / 2) @ abs(q)
  found = lattices.apply(lattices.build(features), abs(q))
  # Over its whole field; the lattice's Gaussian is known up to a factor that normalization removes.
  ratio = found / exact
  assert np.std(ratio) / np.mean(ratio) < 0.1


def test_pictures_of_a_size_share_shapes():
  """So that they share a compiled program: four sizes an octave, whatever the pictures."""
  shapes = set()
  for seed, spread in enumerate(np.linspace(0.1, 30, 40)):
    lattice = lattices.build(some(400, 5, 1, seed, spread)[0])
    shapes.add((lattice.neighbors.shape, lattice.rows.shape))
  assert len(shapes) <= 3


def test_pixels_for_whom_there_is_room_change_nothing():
  features, p, q = some(300, 5, 3)
  lattice = lattices.build(features)
  roomy = lattices.build(features, 320)
  assert roomy.neighbors.shape == lattice.neighbors.shape and roomy.num_points == lattice.num_points
  beyond = np.full((20, 3), 1e6, np.float32)  # Whatever is there.
  for one, other in zip(
    pulled(roomy, np.concatenate([q, beyond]), np.concatenate([p, beyond])), pulled(lattice, q, p)
  ):
    pixels = one.shape.index(320)
    mine, others = np.split(np.asarray(one), [300], pixels)
    np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)
    assert not others.any() or pixels == 1  # Weights have derivatives wherever values are.
  with pytest.raises(InputError, match='room for 299 pixels, and the features are of 300'):
    lattices.build(features, 299)


def test_pictures_of_about_one_area_share_a_number_of_pixels():
  pixels = np.arange((1 << 14) + 1, (1 << 17) + 1)
  rooms = np.array([lattices.room_for(int(n)) for n in pixels])
  assert len(set(rooms)) == 3 * 8
  assert (rooms >= pixels).all() and (rooms <= pixels * 9 / 8 + 40).all()
  assert [lattices.room_for(n) for n in (1, 1024, 1025)] == [1064, 1064, 2088]
  assert lattices.room_for(512 * 512) % 4096


def test_far_apart_features_are_hashed():
  features, _, q = some(50, 5, 2, spread=1e6)
  features[1] = features[0]
  lattice = lattices.build(features)
  filtered = lattices.apply(lattice, q)
  # Nobody near but one's equal.
  np.testing.assert_allclose(filtered[0], filtered[1], rtol=1e-5)
  assert np.isfinite(filtered).all()


@pytest.mark.parametrize(
  'features', [np.zeros(3), np.zeros((0, 3)), np.full((2, 2), 1e9), np.eye(2) * np.nan]
)
def test_wrong_features(features, without_type_checks):
  with pytest.raises(InputError):
    lattices.build(features)


@pytest.mark.parametrize('count, dimensions', [(500, 5), (300, 2), (50, 1), (77, 7)])
def test_the_graph_finds_the_same_lattice(count, dimensions):
  features, _, q = some(count, dimensions, 3)
  expected = lattices.apply(lattices.build(features), q)
  inside = jax.jit(lattices.build_traced)(features)
  np.testing.assert_allclose(lattices.apply(inside, q), expected, rtol=1e-5, atol=1e-5)


def test_filters_work_on_the_part_that_is_in_use():
  """A lattice with room for 36,000 points, of which a sixteenth, a quarter or all are there."""
  traced = jax.jit(lattices.build_traced)
  whole = traced(some(6000, 5, 1)[0]).neighbors.shape[-1]
  taken = set()
  for spread in (0.3, 1.0, 3.0):
    features, p, q = some(6000, 5, 2, spread=spread)
    made, inside = lattices.build(features), traced(features)
    taken.add(int(points.which_part(inside.num_points, whole)))
    for ours, theirs in zip(pulled(inside, q, p), pulled(made, q, p), strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * abs(theirs).max())
  assert taken == {0, 1, 2}


@jax.jit
def pulled(lattice, x, gradient):
  """What a filter makes of values, and its derivatives with respect to weights and values."""

  def filtered(weights, x):
    return lattices.apply(dataclasses.replace(lattice, weights=weights), x)

  out, pull = jax.vjp(filtered, jnp.asarray(lattice.weights), x)
  return out, *pull(gradient)


def test_a_batch_of_lattices():
  features, _, q = zip(*(some(40, 3, 2, seed) for seed in range(3)))

  def inside(features, q):
    return lattices.apply(lattices.build_traced(features), q)

  together = jax.jit(jax.vmap(inside))(np.stack(features), np.stack(q))
  for each, f, x in zip(together, features, q, strict=True):
    np.testing.assert_allclose(each, inside(f, x), rtol=1e-5, atol=1e-6)


def test_gradients_in_float64():
  with jax.enable_x64(True):
    rng = np.random.default_rng(0)
    features, x = rng.normal(0, 2, (80, 3)), rng.normal(size=(80, 2))

    @jax.jit
    def loss(features, x):
      return (lattices.apply(lattices.build_traced(features), x) ** 2).sum()

    gradients = jax.grad(loss, (0, 1))(features, x)
    for i, gradient in enumerate(gradients):
      steps = [np.zeros_like(features), np.zeros_like(x)]
      steps[i] = rng.normal(size=gradient.shape)
      ahead, behind = (loss(features + e * steps[0], x + e * steps[1]) for e in (1e-7, -1e-7))
      np.testing.assert_allclose((gradient * steps[i]).sum(), (ahead - behind) / 2e-7, rtol=1e-5)


def test_too_little_room_is_not_silent():
  features, _, q = some(50, 3, 2)
  assert np.isnan(lattices.apply(lattices.build_traced(features, size=20), q)).all()


@pytest.mark.parametrize('make', [lattices.build, lattices.build_traced])
def test_derivative_of_the_transposed_filter(make):
  rng = np.random.default_rng(0)
  made = make(rng.normal(size=(30, 3)).astype(np.float32))
  x = rng.normal(size=(30, 2)).astype(np.float32)
  pulses = np.eye(30, dtype=np.float32)
  columns = [lattices.apply(made, pulse[:, None])[:, 0] for pulse in pulses]
  kernel = np.stack(columns, 1).astype(np.float64)
  np.testing.assert_allclose(lattices.apply_transposed(made, x), kernel.T @ x, atol=1e-5)

  found = jax.grad(lambda x: jnp.sin(lattices.apply_transposed(made, x)).sum())(x)
  np.testing.assert_allclose(found, kernel @ np.cos(kernel.T @ x), atol=1e-4)
  # <y, K' x> = <x, K y>, and so are their derivatives with respect to the lattice.
  y, weights = rng.normal(size=x.shape).astype(np.float32), jnp.asarray(made.weights)

  def to_weights(a, function, b):
    return jax.grad(lambda w: (a * function(made.replace(weights=w), b)).sum())(weights)

  found = to_weights(y, lattices.apply_transposed, x)
  np.testing.assert_allclose(found, to_weights(x, lattices.apply, y), atol=1e-4)
