"""A folder of your own images and labels, used as a data set without changing it.

`scan(folder)` pairs images with labels, reads all of them and returns a `FolderDataset`: classes,
splits, mean, and notes on what was found. `classes.json` in the folder may state what the labels
don't show, such as class names; see `classes_file`. `load_split` gives the examples of a split,
read when they are needed. `builder` writes a folder to `data_dir` like a published data set.

`layouts`, `lists` and `pairing` work on file names; `label_stats`, `encoding` and `classes` on the
values of labels; `dataset` puts both together. `audit` uses the same parts to find errors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
