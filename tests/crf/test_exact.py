"""The exact sum against NumPy in float64."""

import jax
import numpy as np

from dilated_jax.crf import exact


def test_the_sum_and_its_gradient():
  rng = np.random.default_rng(0)
  features, x = rng.normal(0, 2, (90, 4)).astype(np.float32), rng.normal(size=(90, 3))
  kernel = np.exp(-((features[:, None].astype(np.float64) - features) ** 2).sum(-1) / 2)
  x = x.astype(np.float32)

  def filtered(features, x):
    return exact.apply(exact.ExactKernel(features), x)

  found, pull = jax.vjp(filtered, features, x)
  np.testing.assert_allclose(found, kernel @ x, rtol=1e-5, atol=1e-5)
  to_features, to_x = pull(jax.numpy.ones_like(found))
  np.testing.assert_allclose(to_x, np.repeat(kernel.sum(1)[:, None], 3, 1), rtol=1e-5)
  pulled = kernel * (x.sum(1) + x.sum(1)[:, None])
  expected = pulled @ features - features * pulled.sum(1)[:, None]
  np.testing.assert_allclose(to_features, expected, rtol=1e-4, atol=1e-4)
