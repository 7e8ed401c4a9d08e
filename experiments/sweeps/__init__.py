"""What sweep is made of: many runs of one command, with settings that a search chooses.

`space.py` says which settings there are (`points.py` goes through them), `command.py` which command
gets them, `study.py` chooses them and keeps what came out (optuna, over a journal in the workdir),
`folders.py` reads what a trial leaves, `launchers.py` and `slurm.py` start trials, `devices.py`
deals devices out, `run.py` does it all in turn, and `results.py` makes tables. `hosts.py` has
several hosts run one trial, `pods.py` writes out what runs a sweep elsewhere.
"""
