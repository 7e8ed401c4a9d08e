from . import (
  crf_rnn as crf_rnn,
  deeplab as deeplab,
  dilation as dilation,
  fcn as fcn,
  pspnet as pspnet,
  registry as registry,
  resnet as resnet,
  spec as spec,
  weights_folder as weights_folder,
)
from .registry import NAMES as NAMES, create as create
from .spec import Card as Card, load_card as load_card
from .weights_folder import (
  graft as graft,
  load_weights as load_weights,
  save_weights as save_weights,
)
