"""Published weights, in the files they came in, as variables of our networks; see `convert`."""
