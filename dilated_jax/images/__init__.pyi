from . import (
  checks as checks,
  files as files,
  matching as matching,
  preprocessing as preprocessing,
  visualization as visualization,
)
