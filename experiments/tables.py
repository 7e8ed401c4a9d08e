"""Tables in Markdown."""


def markdown(head, rows) -> list[str]:
  """A table in Markdown, its columns aligned for reading as it is."""
  cells = [list(head), *([name, *values] for name, values in rows)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
  lines = [
    '| ' + ' | '.join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ) + ' |'
    for row in cells
  ]  # fmt: skip
  rule = '|' + '|'.join('-' * (w + 1) + (':' if i else '-') for i, w in enumerate(widths)) + '|'
  return [lines[0], rule, *lines[1:]]


def percent(value: float | None) -> str:
  return '-' if value is None else f'{100 * value:.1f}'
