"""The one exception that a user may see."""


class InputError(ValueError):
  """Something that came from outside is wrong: a file, a folder, a flag, a label value.

  The message is one line that names the thing, says what was found and what to do about it.
  Commands print it and exit with status 1 (`experiments.cli`); notebooks get it as a `ValueError`.
  """


def first_line(error: BaseException) -> str:
  """The first sentence of an error's message, shortened: some libraries print pages of advice."""
  return (str(error).splitlines() or [''])[0].split('. ')[0][:200]
