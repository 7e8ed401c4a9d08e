"""The dense CRF of pydensecrf2; this file imports nothing of ours."""

import numpy as np
import pydensecrf.densecrf


def version():
  """Of what is measured."""
  return 'pydensecrf2'


def wait():
  """Nothing is left to wait for when a call returns."""


def plain(result):
  """An array as dtype, shape and bytes."""
  return 'array', result.dtype.name, result.shape, result.tobytes()


def array(given):
  """An array of NumPy, from one or from what `plain` makes of one."""
  if isinstance(given, (list, tuple)):
    _, dtype, shape, content = given
    return np.frombuffer(bytearray(content), dtype).reshape(shape)  # The library writes.
  return np.asarray(given)


def dense_crf(unary, image, bilateral=(80, 13, 10), iterations=10):
  """Marginals of a problem: a call that builds the lattices and runs the iterations.

  unary: energies float32 (H, W, C); image: uint8 (H, W, 3); bilateral: sxy, srgb, compat.
  """
  unary, image = array(unary), np.ascontiguousarray(array(image))
  height, width, classes = unary.shape
  sxy, srgb, compat = bilateral

  def call():
    model = pydensecrf.densecrf.DenseCRF2D(width, height, classes)
    model.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, classes).T))
    model.addPairwiseGaussian(sxy=3, compat=3)
    model.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=image, compat=compat)
    return np.array(model.inference(iterations)).T.reshape(unary.shape)

  return call
