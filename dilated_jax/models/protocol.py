"""What the rest of the package needs of a network.

`Dilation` (every network that labels images) and `CrfRnnModel` (one of them with a CRF-RNN behind
it) are a `SegmentationModel`; `signal.wavenet.WaveNet` is a `Network`. A new kind of module that
has these members can be trained, evaluated, tiled and explored like them.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from dilated_jax.nn.table import Table


@runtime_checkable
class Network(Protocol):
  """A Flax module whose layers are stated by a table.

  `model.init(key, inputs) -> variables` and `model.apply(variables, inputs, train=False) -> logits`
  are pure functions. `nn.geometry` derives receptive field and sizes from `table`.
  """

  @property
  def num_classes(self) -> int:
    """Channels of the logits."""
    ...

  @property
  def table(self) -> Table:
    """All layers from the input to the logits."""
    ...

  def init(self, *args: Any, **kwargs: Any) -> Any: ...

  def apply(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class SegmentationModel(Network, Protocol):
  """A network that labels images in up to three steps: front end, context module, CRF-RNN.

  Calling it runs all steps; each can be run alone with `model.apply(variables, x, method=NAME)`.
  Variables are grouped by the same `parts`: `params/front_end/...`, `params/context/...`,
  `params/crf/...`.
  """

  @property
  def dtype(self) -> Any:
    """Of the computation; logits are float32."""
    ...

  @property
  def scales(self) -> tuple[float, ...]:
    """Sizes at which the front end sees an image, relative to it."""
    ...

  @property
  def parts(self) -> tuple[str, ...]:
    """Those of 'front_end', 'context' and 'crf' that have weights, in the order they run."""
    ...

  @property
  def front_end_table(self) -> Table:
    """Layers of the front end: up to the class scores."""
    ...

  @property
  def context_table(self) -> Table:
    """Layers of the context module and of the upsampling behind it; may be empty."""
    ...

  @property
  def auxiliary_table(self) -> Table:
    """Layers behind those of the front end for an auxiliary loss in training; may be empty."""
    ...

  @property
  def stride(self) -> int:
    """Input pixels between cells of the network's grid."""
    ...

  @property
  def margin(self) -> int:
    """Input pixels lost on each side; 0 for networks that pad inside."""
    ...

  @property
  def full_size(self) -> bool:
    """Whether the logits have one cell for each pixel, not one for `stride` pixels."""
    ...

  def __call__(self, images, train: bool = False, own: Any = None) -> Any:
    """Maps (N, H + 2 margin, W + 2 margin, 3) images to logits.

    Args:
      images: what the network is fed.
      train: whether it is trained.
      own: (2,) integers, how many rows and columns, from the top left, are the images and their
        margins; the other pixels have no effect on the logits of these. None: all.
    """
    ...

  def apply_front_end(self, images, train: bool = False) -> Any:
    """Maps images to class scores (N, h, w, C)."""
    ...

  def apply_context(self, scores, inside: Any = None, train: bool = False) -> Any:
    """Maps class scores to logits; the scores themselves where there is no context module.

    Args:
      scores: (N, h, w, C).
      inside: (N, h, w) bool, which cells there are; None: all. The module treats the others as it
        treats what lies beyond the border.
      train: whether it is trained.
    """
    ...

  def apply_crf(self, logits, images, inside=None, train: bool = False) -> Any:
    """Refines logits by the CRF-RNN; the logits themselves where there is none.

    Args:
      logits: of the network without its CRF-RNN.
      images: (N, H, W, 3) without the margin.
      inside: (N, h, w) cells of `logits` that are an image's own; None: all.
      train: whether to use the number of iterations of training.
    """
    ...

  def without_context(self) -> SegmentationModel:
    """The network without context module and CRF-RNN."""
    ...

  def without_crf(self) -> SegmentationModel:
    """The network without its CRF-RNN; itself where it has none."""
    ...

  def with_axis_name(self, axis_name: str | None) -> SegmentationModel:
    """The network with batch statistics averaged over the devices of an axis of `jax.pmap`."""
    ...
