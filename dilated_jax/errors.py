"""The exception for wrong input, the only one that users of a command should ever see."""


class InputError(ValueError):
  """Wrong input from outside: a file, a folder, an argument, a label value.

  The message is one line that names the file or argument, and says what was found and what to do.
  Commands print it and exit with status 1 (`experiments.cli`); in Python it is a `ValueError`.
  Whatever names of files and damaged files hold, it is one line of printable characters.
  """

  def __init__(self, message: object = ''):
    super().__init__(printable(str(message)))


_MOST = 2000  # Characters of a message.


def printable(text: str) -> str:
  """A text in one line, with ? for what could move a terminal's cursor or change its colors."""
  if not text.isprintable():
    # Joiners are part of the names of some scripts.
    text = ''.join(c if c.isprintable() or c in '\u200c\u200d' else '?' for c in _spaced(text))
  return text if len(text) <= _MOST else f'{text[:_MOST]} ...'


def _spaced(text: str) -> str:
  return ' '.join(line.strip() for line in text.splitlines())


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
