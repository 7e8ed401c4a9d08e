from . import (
  caffe as caffe,
  convert as convert,
  crf_rnn as crf_rnn,
  keras as keras,
  layouts as layouts,
  mapped as mapped,
  pickles as pickles,
  protobuf as protobuf,
  published as published,
  safetensors as safetensors,
  structure as structure,
  torch as torch,
)
