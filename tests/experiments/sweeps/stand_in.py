"""Acts as train does, without learning anything: reports, checkpoints, resumes, ends at SIGTERM.

The score after a step follows from the flags alone. `fail` is a step at which it fails, `wait`
seconds of a step. It counts how often it was started, and refuses a folder that another one uses.
"""

import fcntl
import json
import math
import os
import pathlib
import signal
import sys
import time

words = [word.removeprefix('--').partition('=') for word in sys.argv[1:]]
flags = {name: value for name, _, value in words}
folder = pathlib.Path(flags['workdir'])
if flags.get('process', '0') != '0':  # On another host, which is behind.
  time.sleep(float(os.environ.get('STAND_IN_LATE', '0')))
  with open(folder / f'followed_{flags["process"]}', 'a') as file:
    file.write(f'{flags["learning_rate"]} {flags["coordinator"]}\n')
  sys.exit()
rate, steps = float(flags.get('learning_rate', '0.01')), int(flags.get('num_steps', '4'))
busy = open(folder / 'busy', 'a')  # noqa: SIM115  # Until it ends.
fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))

with open(folder / 'starts', 'a') as file:
  file.write(f'{os.getpid()}\n')
state = folder / 'step'
done = int(state.read_text()) if state.exists() else 0
metrics = folder / 'metrics.jsonl'
lines = metrics.read_text().splitlines()[:done] if metrics.exists() else []
metrics.write_text(''.join(f'{line}\n' for line in lines))
for step in range(done + 1, steps + 1):
  if step == int(flags.get('seed', '0')):  # The seed stands for trouble.
    print('noise\nerror: --seed: no luck')
    sys.exit(1)
  time.sleep(float(os.environ.get('STAND_IN_WAIT', '0')))
  score = (1 - math.exp(-step)) / (1 + abs(math.log10(rate) + 2))
  with open(metrics, 'a') as file:
    line = {'stage': 'front_end', 'step': step, 'val_mean_iou': score, 'val_accuracy': 1 - score}
    file.write(json.dumps(line) + '\n')
  state.with_suffix('.new').write_text(f'{step}')
  os.replace(state.with_suffix('.new'), state)
  print(f'step {step}', flush=True)
  if asked and step < steps:
    sys.exit(0)
weights = folder / 'front_end' / 'weights'
weights.mkdir(parents=True, exist_ok=True)
(weights / 'model.json').write_text('{}')
