"""The flags that say which network, for every command that makes one."""

from absl import flags

from dilated_jax import models

from . import option_flags

flags.disclaim_key_flags()  # They are flags of the command that calls `define_flags`.


def define_flags(values: flags.FlagValues) -> None:
  """Defines --model and the options of all networks; what is not given is as in the paper."""
  flags.DEFINE_enum('model', 'dilation8', models.NAMES, 'Network.', flag_values=values)
  for option in models.registry.all_options().values():
    option_flags.define_flag(option, values, default=None)


def flag_names() -> list[str]:
  """The flags that `define_flags` defines."""
  found = models.registry.all_options().values()
  return ['model', *(option_flags.flag_name(option) for option in found if option.flag)]


def options(values: flags.FlagValues) -> dict:
  """The network's options of the flags, as `models.create` takes them.

  Raises:
    InputError: an option can't have the value that its flag gives it; names the flag.
  """
  found = {
    name: option_flags.read_flag(option, values)
    for name, option in models.registry.all_options().items()
    if option.flag
  }
  return {name: value for name, value in found.items() if value is not None}
