from . import (
  checks as checks,
  files as files,
  label_images as label_images,
  matching as matching,
  preprocessing as preprocessing,
  similar_names as similar_names,
  visualization as visualization,
)
