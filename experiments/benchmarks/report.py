"""Rows of figures as lines, as tables in Markdown and as a picture."""

import importlib.util
import io
import itertools
import os

from dilated_jax import files
from dilated_jax.errors import InputError

from .. import tables

# Columns that are told otherwise, or that are the same in all rows.
_KNOWN = {
  'suite', 'part', 'what', 'unit', 'theirs', 'ours_ms', 'theirs_ms', 'ratio', 'ours_quartiles_ms',
  'theirs_quartiles_ms', 'ours_min_ms', 'theirs_min_ms', 'flops', 'bytes', 'point', 'curve', 'x',
}  # fmt: skip


def line(row: dict) -> str:
  """A row as it is printed: two times and their ratio, and what else there is."""
  parts = [f'{row["what"]:60}']
  if 'ours_ms' in row:
    parts.append(f'{_time(row, "ours"):>20} {row["unit"]}')
  if 'theirs_ms' in row:
    parts.append(f'{row["theirs"]}: {_time(row, "theirs")} {row["unit"]}  x{row["ratio"]:.2f}')
  return '  '.join(
    [*parts, *(f'{_title(name)} {_short(row[name])}' for name in _others([row]))]
  ).rstrip()


def markdown(content: dict) -> str:
  """All rows as tables, one for each suite and what it is compared with; remarks between them."""
  beside = ''.join(f', beside {version}' for version in content.get('beside', ()))
  spread = f'medians and, in parentheses, quartiles of {content["repeats"]}'
  lines = [f'{content["machine"]}{beside}; {spread}.']
  told = None
  for (suite, *_), group in itertools.groupby(content['rows'], _table_of):
    group = list(group)
    if suite is None:
      lines += ['', *(f'{row["what"]}.' for row in group)]
      continue
    lines += ['', f'`--suite={suite}`'] * (suite != told) + ['', *_table(group)]
    told = suite
  return '\n'.join(lines)


def _table_of(row: dict):
  """What the rows of one table share; None for remarks."""
  if not row.keys() - {'suite', 'unit', 'part', 'what'}:
    return (None,)
  return row['suite'], row.get('part'), row.get('curve'), row.get('theirs'), row['unit']


def _table(rows: list[dict]) -> list[str]:
  """Rows of one table."""
  others = _others(rows)
  timed, compared = (any(name in row for row in rows) for name in ('ours_ms', 'theirs_ms'))
  head = [rows[0].get('curve', rows[0].get('part', 'what'))]
  head += [f'ours, {rows[0]["unit"]}'] if timed else []
  head += [f'{rows[0]["theirs"]}, {rows[0]["unit"]}', 'ratio'] if compared else []
  cells = []
  for row in rows:
    found = [_time(row, 'ours')] if timed else []
    found += [_time(row, 'theirs'), f'x{row["ratio"]:.2f}' if 'ratio' in row else ''] * compared
    cells.append((row['what'], found + [_short(row.get(name, '')) for name in others]))
  return tables.markdown([*head, *map(_title, others)], cells)


def _others(rows: list[dict]) -> list[str]:
  """The columns beside the times."""
  return list(dict.fromkeys(name for row in rows for name in row if name not in _KNOWN))


def _title(column: str) -> str:
  """The head of a column."""
  words = {'gflops': 'GFLOP/s', 'tflops': 'TFLOP/s', 'mib': 'MiB', 'gib': 'GiB'}
  return ' '.join(words.get(word, word) for word in column.replace('gb_per_s', 'GB/s').split('_'))


def _time(row: dict, side: str) -> str:
  """A median and its quartiles; nothing where it was not measured."""
  if f'{side}_ms' not in row:
    return ''
  median, spread = row[f'{side}_ms'], row.get(f'{side}_quartiles_ms')
  text = _digits(median)
  return f'{text} ({_digits(spread[0])}-{_digits(spread[1])})' if spread else text


def _digits(value: float) -> str:
  """Three digits, as in 0.123, 4.56, 78.9 and 1234."""
  return f'{value:.{3 if value < 1 else max(0, 3 - len(str(int(value))))}f}'


def _short(value) -> str:
  """Three digits of a number that is not whole; anything else as it is."""
  if not isinstance(value, float):
    return f'{value}'
  return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def check_plot(path: str) -> None:
  """Refuses to go on without matplotlib, or with a picture that it cannot write.

  Args:
    path: of the picture.

  Raises:
    InputError: matplotlib is not installed, or does not know the ending.
  """
  if not importlib.util.find_spec('matplotlib'):
    raise InputError('a picture needs matplotlib; pip install dilated_jax[plot]')
  from matplotlib.backend_bases import FigureCanvasBase

  known = sorted(FigureCanvasBase.get_supported_filetypes())
  if _ending(path) not in known:
    raise InputError(f'--plot={path}: the name must end in one of {", ".join(known)}')


def plot(path: str, content: dict) -> None:
  """Draws the roofline of a machine with a point for each row that tells its FLOPs and bytes.

  Beside it the curves of rows that belong to one: time against what grows.

  Args:
    path: of the picture; its ending says its format.
    content: as it is written in JSON; rows of the suite peaks are the roof.
  """
  from matplotlib.figure import Figure

  rows = content['rows']
  curves = {row['curve']: None for row in rows if 'curve' in row}
  panels = 1 + len(curves)
  across, down = min(panels, 3), -(-panels // 3)
  figure = Figure(figsize=(3 + 5 * across, 6 * down), layout='constrained')
  roof, *others = figure.subplots(down, across, squeeze=False).ravel()
  _roofline(roof, rows)
  for axes, name in zip(others, curves, strict=False):
    _curve(axes, name, [row for row in rows if row.get('curve') == name])
  for axes in others[len(curves) :]:
    axes.set_axis_off()
  figure.suptitle(content['machine'])
  picture = io.BytesIO()
  figure.savefig(picture, format=_ending(path), dpi=120)
  files.write_atomic(path, picture.getvalue())


def _ending(path: str) -> str:
  """The format that the name of a picture says; PNG if none."""
  return os.path.splitext(path)[1][1:].lower() or 'png'


def _roofline(axes, rows: list[dict]) -> None:
  """GFLOP/s against FLOPs a byte: the peaks, ours filled, others hollow."""
  top = max(row['peak_gflops'] for row in rows if 'peak_gflops' in row)
  slope = max(row['peak_gb_per_s'] for row in rows if 'peak_gb_per_s' in row)
  points = [row for row in rows if row.get('bytes')]
  intensities = [row['flops'] / row['bytes'] for row in points]
  ends = [min([top / slope / 4, *intensities]) / 2, max([top / slope * 16, *intensities]) * 2]
  axes.plot(
    [ends[0], top / slope, ends[1]], [ends[0] * slope, top, top], color='black',
    label=f'peaks: {top:.0f} GFLOP/s, {slope:.0f} GB/s',
  )  # fmt: skip
  kinds = list(dict.fromkeys(map(_kind, points)))
  for row, x in zip(points, intensities, strict=True):
    color, rates = f'C{kinds.index(_kind(row)) % 10}', row['flops'] / 1e6
    marker = 'os^Dv<>ph*'[kinds.index(_kind(row)) // 10 % 10]
    axes.plot(x, rates / row['ours_ms'], marker, color=color)
    if 'theirs_ms' in row:
      axes.plot(x, rates / row['theirs_ms'], marker, color=color, markerfacecolor='none')
  for index, kind in enumerate(kinds):
    axes.plot([], [], 'os^Dv<>ph*'[index // 10 % 10], color=f'C{index % 10}', label=kind)
  axes.set(
    xscale='log', yscale='log', xlabel='FLOPs a byte', ylabel='GFLOP/s',
    title='filled: ours; hollow: what it is compared with',
  )  # fmt: skip
  axes.legend(fontsize='small')
  axes.grid(alpha=0.3)


def _kind(row: dict) -> str:
  """What a row is a point of."""
  return row.get('point', row['what'].partition(',')[0])


def _curve(axes, name: str, rows: list[dict]) -> None:
  """Time against what grows, ours and theirs."""
  axes.plot([row['x'] for row in rows], [row['ours_ms'] for row in rows], 'o-', label='ours')
  theirs = [row for row in rows if 'theirs_ms' in row]
  if theirs:
    times = [row['theirs_ms'] for row in theirs]
    axes.plot([row['x'] for row in theirs], times, 's--', label=theirs[0]['theirs'])
  what, _, where = name.partition(', ')
  axes.set(xscale='log', yscale='log', xlabel=what, ylabel=rows[0]['unit'], title=where)
  axes.set_xticks([row['x'] for row in rows], [f'{row["x"]}' for row in rows])
  axes.yaxis.set_major_formatter('{x:g}')
  axes.minorticks_off()
  axes.legend()
  axes.grid(alpha=0.3)
