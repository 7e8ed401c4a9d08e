"""Commands called as from a shell, in this process."""

from absl import flags

from experiments import flag_files


def parsed(command, *arguments) -> flags.FlagValues:
  """The flags of a command (its module) with these arguments."""
  values = flags.FlagValues()
  command.define_flags(values)
  values([command.__name__.rpartition('.')[2], *flag_files.expand(map(str, arguments))])
  return values


def run(command, *arguments) -> None:
  """Runs a command with these arguments."""
  command.main(parsed(command, *arguments))
