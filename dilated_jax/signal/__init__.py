"""Relatives of the paper that work along time: WaveNet, and the algorithme à trous.

`wavenet` is a causal network of dilated convolutions for audio, with generation by queues; `audio`
reads and writes what it needs; `wavelets` is the starlet transform, the undecimated wavelet
transform from which dilated convolution takes its other name, and denoising by it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
