"""The authors' released training programs, acted out in NumPy from reading them.

fyu/dilation (train.py, test.py, network.py) and fyu/caffe-dilation: image_label_data_layer.cpp,
bin_label_data_layer.cpp, data_transformer.cpp, filler.hpp and sgd_solver.cpp. Every function says
which lines it acts out. What is left to chance there is an argument here. Images are (H, W, 3).
"""

import numpy as np

IGNORE = 255


def border(array, top, bottom, left, right, value=None):
  """OpenCV's copyMakeBorder: a constant, or reflection without the border pixel as often as needed.

  Written pixel by pixel: a position outside is turned at the border that it passed, until it is
  inside.
  """

  def inside(position, size):
    while not 0 <= position < size:
      if size == 1:
        return 0
      position = -position if position < 0 else 2 * (size - 1) - position
    return position

  height, width = array.shape[:2]
  if value is None:
    rows = [inside(y, height) for y in range(-top, height + bottom)]
    columns = [inside(x, width) for x in range(-left, width + right)]
    return array[rows][:, columns]
  shape = (height + top + bottom, width + left + right, *array.shape[2:])
  result = np.full(shape, value, array.dtype)
  result[top : top + height, left : left + width] = array
  return result


# Images, image_label_data_layer.cpp.


def extend_and_pad(array, margin, crop, value=None):
  """Lines 22-59 and 336-347: the margin on each side, then what is missing to the crop.

  Half of it is above. Line 39 hands the amount on the right to the parameter for the left.
  """
  array = border(array, margin, margin, margin, margin, value)
  missing = [max(0, crop - n) for n in array.shape[:2]]
  top, left = (n // 2 for n in missing)
  bottom, right = missing[0] - top, missing[1] - left
  return border(array, top, bottom, right, left, value)


def image_label_example(image, label, *, crop, margin, stride, mean, h_off, w_off, mirror):
  """One item of ImageLabelData: the image without its mean, and the labels of its cells.

  Lines 325-377, with the crop, the mirror and the mean of data_transformer.cpp, lines 356-462.

  Args:
    image: (H, W, 3) uint8.
    label: (H, W) uint8.
    crop: side of the input.
    margin: the layer's label_slice.offset.
    stride: its label_slice.stride.
    mean: of the channels.
    h_off: first row of the crop.
    w_off: first column.
    mirror: whether it is turned.

  Returns:
    (crop, crop, 3) float32, ((crop - 2 margin) / stride,) * 2 uint8.
  """
  image = extend_and_pad(image, margin, crop)
  label = extend_and_pad(label, margin, crop, IGNORE)
  window = slice(h_off, h_off + crop), slice(w_off, w_off + crop)
  image, label = image[window].astype(np.float32) - np.float32(mean), label[window]
  if mirror:
    image, label = image[:, ::-1], label[:, ::-1]
  cells = (crop - 2 * margin) // stride
  slices = (slice(margin, margin + cells * stride, stride),) * 2
  return image, label[slices]


# Features, test.py and bin_label_data_layer.cpp.


def tile(image, margin, side):
  """test.py, 133-157: the image with its margins, then reflected at the bottom and right."""
  image = border(image, margin, margin, margin, margin)
  return border(image, 0, side[0] - image.shape[0], 0, side[1] - image.shape[1])


def cut_features(features, image_size, canvas, stride=8):
  """test.py, 252-276: features beyond the cells of the image are zeros."""
  rows, columns = (-(-n // stride) for n in image_size)
  features = features[:rows, :columns]
  return border(features, 0, canvas[0] - rows, 0, canvas[1] - columns, 0)


def slice_matrix(label, cells, stride=8):
  """bin_label_data_layer.cpp, 173-211: every 8th label from the first on, 255 beyond the image."""
  result = np.full(cells, IGNORE, label.dtype)
  for row in range(cells[0]):
    for column in range(cells[1]):
      if row * stride < label.shape[0] and column * stride < label.shape[1]:
        result[row, column] = label[row * stride, column * stride]
  return result


def mirror_image(array):
  """bin_label_data_layer.cpp, 133-161: exchanges the cells of each row, pair by pair."""
  array = array.copy()
  width = array.shape[1]
  for w in range(width // 2):
    array[:, w], array[:, width - w - 1] = array[:, width - w - 1].copy(), array[:, w].copy()
  return array


def bin_label_example(features, label, *, mirror, stride=8):
  """One item of BinLabelData, 523-546: labels are sliced, and then both are mirrored."""
  label = slice_matrix(label, features.shape[:2], stride)
  return (mirror_image(features), mirror_image(label)) if mirror else (features, label)


# Initialization, network.py and filler.hpp.


def context_noise(layers, multipliers=None):
  """network.py, 131-192: the standard deviation for each layer of a context module.

  Args:
    layers: of the module.
    multipliers: of the channels, one for each 3x3 layer; None: 1, as the code has it.

  Returns:
    The standard deviations, the last one's included, which divides by the multiplier before.
  """
  multipliers = multipliers or [1] * (layers - 1)
  return [0.01, 0.01, *(0.01 / m for m in multipliers[2:]), 0.01 / multipliers[-1]]


def identity_filler(noise, num_groups):
  """filler.hpp, 271-301, on a blob (out, in, height, width) that was filled with noise before."""
  blob = noise.copy()
  outputs, inputs, height, width = blob.shape
  assert outputs >= num_groups and outputs % num_groups == 0
  out_size, in_size = outputs // num_groups, inputs // num_groups
  for i in range(num_groups):
    for j in range(i * out_size, (i + 1) * out_size):
      for k in range(i * in_size, (i + 1) * in_size):
        blob[j, k, height // 2, width // 2] = num_groups / outputs
  return blob


# Training, sgd_solver.cpp and softmax_loss_layer.cpp.


class Sgd:
  """sgd_solver.cpp, 101-243, with the policy 'step' (27-77) and what train.py, 21-45, sets.

  Attributes:
    multipliers: (lr_mult, decay_mult) of each array.
  """

  def __init__(
    self, arrays, multipliers, *, lr, momentum, weight_decay=5e-4, gamma=0.1, stepsize=100_000,
    iter_size=1,
  ):  # fmt: skip
    self.arrays = [np.array(array, np.float64) for array in arrays]
    self.multipliers, self.iter_size = multipliers, iter_size
    self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
    self.gamma, self.stepsize = gamma, stepsize
    self.history = [np.zeros_like(array) for array in self.arrays]
    self.iteration = 0

  def step(self, *gradients):
    """One update; with iter_size, the gradients of as many passes, each of all arrays."""
    passes = gradients if self.iter_size > 1 else [gradients]
    assert len(passes) == self.iter_size
    rate = self.lr * self.gamma ** (self.iteration // self.stepsize)
    for i, array in enumerate(self.arrays):
      lr_mult, decay_mult = self.multipliers[i]
      diff = sum(np.asarray(one[i], np.float64) for one in passes) / self.iter_size
      diff = diff + self.weight_decay * decay_mult * array
      self.history[i] = self.momentum * self.history[i] + rate * lr_mult * diff
      array -= self.history[i]
    self.iteration += 1


def softmax_loss(scores, label):
  """network.py, 50-53: the mean over labels other than 255, with VALID's count of 1 or more."""
  total, count = 0.0, 0
  for score, wanted in zip(scores.reshape(-1, scores.shape[-1]).astype(np.float64), label.ravel()):
    if wanted != IGNORE:
      shifted = score - score.max()
      total -= shifted[wanted] - np.log(np.exp(shifted).sum())
      count += 1
  return total / max(count, 1)
