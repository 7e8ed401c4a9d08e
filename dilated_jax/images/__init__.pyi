from . import (
  files as files,
  matching as matching,
  preprocessing as preprocessing,
  visualization as visualization,
)
