"""Scores: of a network on a split, or of label images against label images.

`evaluate` runs a network over a split. `metrics` derives everything from one confusion matrix,
`protocols` follows the VOC devkit, cityscapesScripts and SegNet, `boundaries` looks along edges,
`extremes` keeps the best and worst images, `label_files` reads folders of label images, and
`crf_search` tunes a dense CRF.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
