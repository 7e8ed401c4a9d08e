from . import (
  costs as costs,
  geometry as geometry,
  initializers as initializers,
  ops as ops,
  stack as stack,
  table as table,
)
