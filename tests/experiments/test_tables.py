"""tables: what stands in columns."""

from experiments import tables


def test_markdown_aligns_its_columns():
  lines = tables.markdown(['', 'a', 'long'], [('mean IoU', ['1.0', '22.5']), ('x', ['-', '3.1'])])
  assert lines == [
    '|          |   a | long |',
    '|----------|----:|-----:|',
    '| mean IoU | 1.0 | 22.5 |',
    '| x        |   - |  3.1 |',
  ]


def test_percent():
  assert (tables.percent(0.1234), tables.percent(None)) == ('12.3', '-')
