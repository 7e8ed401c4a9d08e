from . import prediction as prediction, tiling as tiling
from .prediction import (
  Prediction as Prediction,
  label_maps as label_maps,
  memory as memory,
  predict as predict,
)
