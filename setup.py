"""Which packages there are; all else is described in setup.cfg.

The wheel has one top-level name: the commands of experiments/ are installed as
dilated_jax.experiments.
"""

from setuptools import find_packages, setup

setup(
  packages=[
    *find_packages(include=['dilated_jax*']),
    *(f'dilated_jax.{name}' for name in find_packages(include=['experiments*'])),
  ],
  package_dir={'dilated_jax.experiments': 'experiments'},
)
