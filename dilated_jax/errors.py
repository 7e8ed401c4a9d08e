"""The exception for wrong input, the only one that users of a command should ever see."""


class InputError(ValueError):
  """Wrong input from outside: a file, a folder, an argument, a label value.

  The message is one line that names the file or argument, and says what was found and what to do.
  Commands print it and exit with status 1 (`experiments.cli`); in Python it is a `ValueError`.
  """


def one_line(error, limit: int = 200) -> str:
  """Returns the message of another library's exception, for use inside an `InputError`.

  Args:
    error: exception, or a text.
    limit: largest number of characters.

  Returns:
    the message in one line, or the name of the exception's type if it has no message.
  """
  return ' '.join(str(error).split())[:limit] or type(error).__name__


def first_line(error: BaseException) -> str:
  """Returns the first sentence of an exception's message, for libraries that print long advice."""
  return (str(error).splitlines() or [''])[0].split('. ')[0][:200]
