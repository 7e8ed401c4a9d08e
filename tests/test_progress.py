import logging

from dilated_jax import progress


def test_meter_starts_at_the_first_update():
  now = [0.0]
  meter = progress.Meter(total=110, done=9, clock=lambda: now[0])
  assert meter.rate == 0 and meter.left == '?'
  now[0] = 100.0  # Compiling.
  meter.update()
  now[0] = 105.0
  meter.update(20)
  assert meter.done == 30 and meter.rate == 4.0
  assert meter.left == '0:20'


def test_meter_tells_how_long_work_waits():
  now = [0.0]
  meter = progress.Meter(total=110, clock=lambda: now[0])

  def wait(seconds):
    with meter.waiting():
      now[0] += seconds

  wait(7.0)  # Before the first update: does not count, like the work up to it.
  meter.update()
  wait(1.0)
  now[0] += 9.0
  assert meter.waiting_share == 0.1


def test_clock_text():
  assert [progress.format_duration(s) for s in (0, 61, 3723)] == ['0:00', '1:01', '1:02:03']


def test_track_yields_all_and_logs(caplog):
  with caplog.at_level(logging.INFO):
    assert list(progress.track(range(3), every=0)) == [0, 1, 2]
  assert '3 of 3 images' in caplog.text
