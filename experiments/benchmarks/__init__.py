"""The suites of `benchmark`: a module each, whose `run(values)` returns the rows of its table."""
