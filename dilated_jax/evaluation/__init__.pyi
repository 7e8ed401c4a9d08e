from . import (
  boundaries as boundaries,
  crf_search as crf_search,
  extremes as extremes,
  label_files as label_files,
  metrics as metrics,
  protocols as protocols,
  run as run,
)
from .run import evaluate as evaluate
