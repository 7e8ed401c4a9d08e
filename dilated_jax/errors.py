"""The one exception that a user may see."""


class InputError(ValueError):
  """Something that came from outside is wrong: a file, a folder, a flag, a label value.

  The message is one line that names the thing, says what was found and what to do about it.
  Commands print it and exit with status 1 (`experiments.cli`); notebooks get it as a `ValueError`.
  """
