from . import (
  architecture as architecture,
  crf_rnn as crf_rnn,
  deeplab as deeplab,
  dilation as dilation,
  fcn as fcn,
  front_end as front_end,
  options as options,
  pretrained as pretrained,
  protocol as protocol,
  pspnet as pspnet,
  registry as registry,
  resnet as resnet,
  segmenter as segmenter,
  spec as spec,
  trunk as trunk,
  upsampling as upsampling,
  weights_folder as weights_folder,
)
from .pretrained import load_pretrained as load_pretrained
from .registry import NAMES as NAMES, create as create
from .segmenter import Segmenter as Segmenter
from .spec import ModelSpec as ModelSpec, load_spec as load_spec
from .weights_folder import (
  load_weights as load_weights,
  save_weights as save_weights,
)
