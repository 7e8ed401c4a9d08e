from . import (
  borders as borders,
  duplicates as duplicates,
  encoding as encoding,
  findings as findings,
  image_checks as image_checks,
  label_checks as label_checks,
  pair_stats as pair_stats,
  report as report,
  run as run,
)
from .findings import Finding as Finding, Issue as Issue
from .pair_stats import PairStats as PairStats
from .report import draw_examples as draw_examples, format_table as format_table, to_json as to_json
from .run import (
  Report as Report,
  audit_files as audit_files,
  audit_prepared as audit_prepared,
  numbered_classes as numbered_classes,
)
