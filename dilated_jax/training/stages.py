"""The stages of training (paper, section 5, Appendix A)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Stage:
  """One of the stages of training (paper, section 5, Appendix A).

  Attributes:
    name: as on the command line.
    method: the function of the model that is trained.
    trains: the parts of the network whose weights change; the others are constant.
    reads: the input in the batch, 'image' or 'features'.
  """

  name: str
  method: str
  trains: tuple[str, ...]
  reads: str = 'image'


STAGES = {
  'front_end': Stage('front_end', 'scores', ('front_end',)),
  # On the front end's maps, which don't change: computed once, see `features`.
  'context': Stage('context', 'refine', ('context',), 'features'),
  # The CRF-RNN behind a network that does not change.
  'crf': Stage('crf', 'structure', ('crf',), 'features'),
  # All that there is, end to end.
  'joint': Stage('joint', '__call__', ('front_end', 'context', 'crf')),
}
