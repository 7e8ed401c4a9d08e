from . import (
  canvases as canvases,
  prediction as prediction,
  tiling as tiling,
  upsampling as upsampling,
  windows as windows,
)
from .canvases import Canvases as Canvases
from .prediction import (
  Prediction as Prediction,
  label_maps as label_maps,
  memory as memory,
  predict as predict,
)
