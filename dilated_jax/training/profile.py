"""A trace of a few steps by JAX's profiler, and the time that each operation takes in it."""

from __future__ import annotations

import collections
import pathlib
import warnings

from absl import logging
import jax

from dilated_jax.files import format_json, write_atomic

_COMPILING = 2  # Dispatches at the start, which compile.


class Profile:
  """Traces steps of a stage, from the third dispatch on, when nothing is compiled any more."""

  def __init__(self, folder, steps: int):
    """Starts nothing yet.

    Args:
      folder: where the trace is written.
      steps: to be traced; 0: none.
    """
    self._folder, self._steps = pathlib.Path(folder), steps
    self._dispatches, self._first, self._done = 0, None, not steps

  def before(self, step: int, metrics) -> None:
    """Called before each dispatch.

    Args:
      step: steps done.
      metrics: of the last dispatch, which is waited for where the trace starts or ends.
    """
    if self._done:
      return
    if self._first is None and self._dispatches == _COMPILING:
      jax.block_until_ready(metrics)
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # It would slow the host down, whose steps are short.
      jax.profiler.start_trace(str(self._folder), profiler_options=options)
      self._first = step
    elif self._first is not None and step >= self._first + self._steps:
      jax.block_until_ready(metrics)
      self._end(step)
    self._dispatches += 1

  def close(self, step: int, metrics) -> None:
    """Called after the last dispatch; ends a trace that is not ended."""
    if self._done:
      return
    if self._first is None:
      logging.warning('`profile`: too few steps to trace any; the first %d compile', _COMPILING)
      return
    jax.block_until_ready(metrics)
    self._end(step)

  def _end(self, step: int) -> None:
    jax.profiler.stop_trace()
    self._done, steps = True, step - self._first
    found = operations(self._folder)
    content = {'first_step': self._first + 1, 'steps': steps, 'operations': found}
    if jax.process_index() == 0:
      write_atomic(self._folder / 'operations.json', format_json(content))
    logging.info(
      '%d steps are traced: %s; most time goes to %s',
      steps, self._folder, ', '.join(row['name'] for row in found[:3]) or 'no operation',
    )  # fmt: skip


def operations(folder, most: int = 40) -> list[dict]:
  """The operations of compiled programs in the newest trace of a folder, the longest first.

  Args:
    folder: that a trace was written to.
    most: operations to list.

  Returns:
    For each its 'name' in the program, the 'program', 'calls' and 'milliseconds', summed over
    threads and devices. Operations that contain others count their time too.
  """
  traces = sorted(pathlib.Path(folder).rglob('*.xplane.pb'), key=lambda path: path.stat().st_mtime)
  if not traces:
    return []
  time, calls = collections.Counter(), collections.Counter()
  with warnings.catch_warnings():
    # Of jaxlib's own class of events.
    warnings.filterwarnings('ignore', message='builtin type .* has no __module__ attribute')
    for plane in jax.profiler.ProfileData.from_file(str(traces[-1])).planes:
      for event in (event for line in plane.lines for event in line.events):
        about = dict(event.stats)
        if 'hlo_op' in about:
          key = str(about['hlo_op']), str(about.get('hlo_module', ''))
          time[key] += event.duration_ns
          calls[key] += 1
  return [
    {'name': name, 'program': program, 'calls': calls[name, program], 'milliseconds': ns / 1e6}
    for (name, program), ns in time.most_common(most)
  ]
