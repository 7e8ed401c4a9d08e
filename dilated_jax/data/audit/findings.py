"""What can be wrong with a data set, how bad it is and what to do about it."""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import NamedTuple

SEVERITIES = ('error', 'warning', 'note')

# Severity and advice of each kind of finding. Errors are what training or scores would be wrong
# with; warnings what one should look at; notes what one should know.
KINDS = {
  # Files and names
  'unreadable picture': ('error', 'get the file again, or take the pair out'),
  'unreadable label': ('error', 'get the file again, or take the pair out'),
  'no picture': ('error', 'add the picture, or take the label out; names must be equal'),
  'no label': ('warning', 'add the label, or take the picture out; it would not be used'),
  'two files of one name': ('error', 'take one of them out'),
  'listed but missing': ('error', 'add the file, or take the line out of the list'),
  'in two splits': ('error', 'take it out of one of the lists'),
  'in no list': ('note', 'add it to a list if it is to be used'),
  # Labels as pictures
  'lossy label': ('error', 'JPEG changes label values: export the labels again, as PNG'),
  'torn borders': (
    'warning',
    'values are scattered along the borders of classes, as JPEG or smooth resizing leave them: '
    'export the labels again, as PNG, and resize by the nearest pixel',
  ),
  'label beyond 8 bits': ('error', 'store class ids 0..254 as 8-bit gray or palette PNG'),
  '16-bit label': ('warning', 'store it with 8 bits: many programs read 16 bits differently'),
  'transparent label': ('error', 'store labels without an alpha channel'),
  'color mask': ('error', 'the classes are numbers: turn colors into class ids'),
  'numbers among colors': ('error', 'other labels are color masks: store this one as one, too'),
  'three channels': ('error', 'the three channels are equal: store one, as 8-bit gray PNG'),
  'other palette': ('warning', 'its numbers have other colors than elsewhere: the same meaning?'),
  'other size': ('error', 'label and picture must have the same size; resize by the nearest pixel'),
  'rotation not followed': (
    'error', 'turn the label like the picture, or store the picture turned, without EXIF rotation',
  ),
  # Values
  'labels not understood': ('error', 'say the classes: --num_classes, --dataset or classes.json'),
  'values outside the classes': ('error', 'map them to classes, or to 255 where nothing counts'),
  'counted from one': ('error', 'subtract 1 from every label; 0 is the first class'),
  'nothing is 0': ('warning', 'if the classes are counted from 1, subtract 1 from every label'),
  'only 0 and 255': ('error', '255 is ignored, so one class is left: store class ids 0 and 1'),
  'masks of 0 and 255': ('note', 'they are read as two classes, 0 and 1'),
  'value in one file only': ('warning', 'is it meant? else map it to a class, or to 255'),
  'stray colors': ('warning', 'these pixels are ignored; save color masks without smoothing'),
  'empty label': ('warning', 'every pixel is ignored: label it, or take the pair out'),
  'mostly ignored': ('warning', 'nearly every pixel is ignored: is that meant?'),
  'one class only': ('warning', 'the label is all of one class: is that meant?'),
  'class never occurs': ('warning', 'it can not be learnt; is the order of the classes right?'),
  'class not in train': ('warning', 'it can not be learnt and counts in the scores'),
  'much is ignored': ('warning', 'more than half of all pixels are ignored: is that meant?'),
  # Pictures
  'blank picture': ('warning', 'every pixel is the same: get the file again'),
  'transparent picture': ('warning', 'it is laid over white; store pictures without alpha'),
  'alpha channel': ('note', 'it hides nothing and is dropped'),
  '16-bit picture': ('warning', 'it is reduced to 8 bits; check that this leaves enough contrast'),
  'picture for print': ('warning', 'colors change when it is turned into RGB; store it as RGB'),
  'gray among colors': ('warning', 'most pictures have colors and this one has none'),
  'gray pictures': ('note', 'they are read as RGB with three equal channels'),
  # The same twice
  'duplicate across splits': ('error', 'what is scored was learnt: take it out of one split'),
  'duplicate': ('warning', 'it counts twice: take one out'),
  'same picture, other label': ('error', 'one of the labels must be wrong'),
  'same label, other picture': ('warning', 'one of the labels must be that of the other'),
  'near duplicate across splits': ('warning', 'scores flatter: keep such pictures in one split'),
  'near duplicate': ('note', 'usual between frames of a film; else take one out'),
  'all alike': ('note', 'near duplicates were not looked for'),
  'sequence in two splits': (
    'warning', 'frames of one film look alike and flatter the scores: keep each film in one split',
  ),
  'name in two splits': ('note', 'if these are frames of one film, scores flatter'),
}  # fmt: skip


class Issue(NamedTuple):
  """Something that was found.

  Attributes:
    kind: a key of `KINDS`.
    file: where; a class or 'labels' where it is no single file.
    found: what, in words.
    shown: picture or label files to show for it; none for `file` itself.
  """

  kind: str
  file: str
  found: str
  shown: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
  """All faults of one kind.

  Attributes:
    kind: a key of `KINDS`.
    severity: of the kind, or milder.
    faults: in the order in which they were found.
  """

  kind: str
  severity: str
  faults: tuple[Issue, ...]

  @property
  def advice(self) -> str:
    """What to do."""
    return KINDS[self.kind][1]


def gathered(faults: Iterable[Issue], milder: Mapping[str, str]) -> tuple[Finding, ...]:
  """Faults by kind.

  Args:
    faults: in any order.
    milder: severities that kinds have here and not in `KINDS`.

  Returns:
    the worst first, else in the order of `KINDS`.
  """
  by_kind = {}
  for fault in faults:
    by_kind.setdefault(fault.kind, []).append(fault)
  findings = [
    Finding(kind, milder.get(kind, severity), tuple(by_kind[kind]))
    for kind, (severity, _) in KINDS.items()
    if kind in by_kind
  ]
  return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
