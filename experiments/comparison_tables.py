"""What `compare` has found in tables: systems, classes, and published figures beside them."""

import datetime
import json
import statistics

from dilated_jax.errors import InputError
from dilated_jax.files import decode_json, write_atomic

from . import about
from .tables import markdown, percent

_TITLES = {'none': 'no CRF', 'dense': 'dense CRF', 'rnn': 'CRF-RNN'}


def write(workdir, published_file, cells):
  """Writes results.json, table.md and classes.md.

  Args:
    workdir: folder for them.
    published_file: JSON of published figures; need not exist.
    cells: of `compare`, a dictionary for each system and seed, in the order of the tables.
  """
  published = figures(published_file)
  note = ['', what_and_where(cells), '']
  text = '\n'.join([*markdown(*by_system(cells, published)), *note])
  write_atomic(workdir / 'table.md', text.encode())
  text = '\n'.join([*markdown(*by_class(cells, published)), *note])
  write_atomic(workdir / 'classes.md', text.encode())
  write_atomic(workdir / 'results.json', json.dumps(cells, indent=2).encode() + b'\n')


def by_system(cells, published) -> tuple[list[str], list]:
  """Head and rows: one for each network and context module, with the scores behind each CRF."""
  systems = {}
  for each in cells:
    row = systems.setdefault((each['model'], each['context']), {})
    row.setdefault(each['crf'], []).append(each)
  crfs = list(dict.fromkeys(each['crf'] for each in cells))
  rows = []
  for (model, context), row in systems.items():
    first = next(iter(row.values()))[0]
    shown = [over_seeds([c['mean_iou'] for c in row.get(crf, [])]) for crf in crfs]
    shown += [over_seeds([c['boundary_f1'] for c in row.get(crf, [])]) for crf in crfs]
    if published:
      shown += [published.get(f'{model} {context} {crf}', {}).get('mean', '-') for crf in crfs]
    rate, memory = first['steps_per_second'], first['memory']
    shown += [
      f'{first["receptive_field"]}', f'{first["parameters"] / 1e6:.3g} M',
      f'{first["gflops"]:.3g}', f'{rate:.3g}' if rate else '-',
      f'{memory / 2**30:.2g} GiB' if memory else '-',
    ]  # fmt: skip
    rows.append((model if context == 'none' else f'{model} + {context}', shown))
  head = ['mean IoU, %', *(_TITLES[crf] for crf in crfs)]
  head += [f'{_TITLES[crf]}, boundary F1' for crf in crfs]
  head += [f'{_TITLES[crf]}, published' for crf in crfs] if published else []
  return [*head, 'field', 'parameters', 'GFLOPs', 'steps/s', 'memory'], rows


def by_class(cells, published) -> tuple[list[str], list]:
  """Head and rows: IoU by class, as in the paper's Tables 2 to 7, published rows below ours."""
  columns = [*cells[0]['per_class_iou'], 'mean']
  systems = {}
  for each in cells:
    found = {**each['per_class_iou'], 'mean': each['mean_iou']}
    systems.setdefault((each['model'], each['context'], each['crf']), []).append(found)
  rows = []
  for parts, found in systems.items():
    name = ' + '.join(part for part in parts if part != 'none')
    rows.append((name, [over_seeds([score[column] for score in found]) for column in columns]))
    if ' '.join(parts) in published:
      given = published[' '.join(parts)]
      rows.append((f'{name}, published', [given.get(column, '-') for column in columns]))
  return ['IoU, %', *columns], rows


def what_and_where(cells) -> str:
  """What the figures are of, and what they were measured on."""
  seeds = len({each['seed'] for each in cells})
  dense = any(each['crf'] == 'dense' for each in cells)
  return (
    f'{cells[0]["dataset"]} {cells[0]["split"]}, {cells[0]["pictures"]} pictures; '
    f'{seeds} seed{"s" * (seeds > 1)}{", mean ± standard deviation" * (seeds > 1)}'
    f'{"; dense CRFs chosen on val" * dense}. Field, parameters, GFLOPs of a picture, '
    f'training speed and peak memory are of the system without a CRF. {datetime.date.today()}, '
    f'{about.machine()}.'
  )


def over_seeds(found) -> str:
  """Mean and spread, in percent."""
  found = [value for value in found if value is not None]
  if not found:
    return '-'
  spread = f' ± {100 * statistics.stdev(found):.1f}' if len(found) > 1 else ''
  return f'{percent(statistics.mean(found))}{spread}'


def figures(path) -> dict:
  """Published figures as shown: {'network context crf': {class or 'mean': text}}."""
  if not path.exists():
    return {}
  try:
    table = decode_json(path.read_text())
    return {
      name: {
        column: '-' if value is None else f'{float(value)}'
        for column, value in zip(table['columns'], row, strict=True)
      }
      for name, row in table['rows'].items()
    }
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise InputError(f'{path}: is no table of columns and rows ({error})') from error
