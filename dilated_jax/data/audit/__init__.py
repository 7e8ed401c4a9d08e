"""Checks a data set before training: every image and label file is read, and every issue named.

  pairing = folder.pair_folders('images', 'labels')
  report = audit.audit_files(pairing, classes=audit.numbered_classes(11))
  report.valid, report.findings
  print(audit.format_table(report))

A report is valid if it has no errors. Each finding has a kind, a severity, advice, and the issues:
the files, and what is wrong with each. `pair_stats` reads one image and its label; `encoding`,
`label_checks` and `image_checks` look at all of them together; `findings` lists every kind of
issue; `report` formats the result as a table, as JSON, and as an image of examples.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
