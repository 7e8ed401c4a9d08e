"""Published weight files of other frameworks, as variables of the networks here.

`convert` is the whole of it: it detects the format and the network from the content of a file, and
gives every array its place. A reader each: `caffe` (over `protobuf`), `torch` (over `pickles`),
`safetensors` and `keras`; `layouts` says which layer an array is, `structure` which network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
