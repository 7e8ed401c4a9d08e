"""Every kind of issue that a data set can have, how severe it is and what to do about it."""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import NamedTuple

# An error makes training or scores wrong, a warning should be looked at, a note is good to know.
SEVERITIES = ('error', 'warning', 'note')

# Severity and advice of each kind of issue.
KINDS = {
  # Files and names
  'unreadable image': ('error', 'get the file again, or remove the pair'),
  'unreadable label': ('error', 'get the file again, or remove the pair'),
  'no image': ('error', 'add the image, or remove the label; their names must be equal'),
  'no label': ('warning', 'add the label, or remove the image; it will not be used'),
  'duplicate name': ('error', 'remove one of the two files'),
  'listed but missing': ('error', 'add the file, or remove the line from the list'),
  'swapped columns': ('error', 'write the image first on each line of the list, then its label'),
  'in two splits': ('error', 'keep it in one split, with its label'),
  'in no split': ('error', 'put it into train/, val/ or test/ like the others, or remove it'),
  'no train split': ('error', 'add training images, or rename a split'),
  'unreadable folder': ('error', 'give permission to read it, or move it away'),
  'broken link': ('error', 'get the file, or remove the link'),
  'similar names': ('note', 'check one of them; names should be equal'),
  'no splits': ('note', 'name them train, val and test if they are splits'),
  'passed over': ('note', 'convert or rename what should be used'),
  'in no list': ('note', 'add it to a list if it should be used'),
  # Label files
  'lossy label': ('error', 'the codec changes label values: export the labels again, as PNG'),
  'several frames in a label': ('error', 'store one label image in each file'),
  'ragged borders': (
    'warning',
    'stray values lie along the borders of classes, as after JPEG or smooth resizing: export the '
    'labels again, as PNG, and resize by nearest neighbor',
  ),
  'label values above 255': ('error', 'store class ids 0..254 as 8-bit gray or palette PNG'),
  '16-bit label': ('warning', 'store it with 8 bits: programs read 16 bits in different ways'),
  'transparent label': ('error', 'store labels without an alpha channel'),
  'color mask among ids': ('error', 'the other labels have ids: turn its colors into class ids'),
  'ids among color masks': ('error', 'the other labels are color masks: store this one so too'),
  'three equal channels': ('error', 'store one of the channels, as 8-bit gray PNG'),
  'different palette': ('warning', 'its ids have other colors than elsewhere: check their meaning'),
  'size mismatch': ('error', 'label and image must have equal sizes; resize by nearest neighbor'),
  'rotation mismatch': (
    'error',
    'rotate the label like the image, or store the image rotated, without an EXIF orientation',
  ),
  # Values and classes
  'labels not understood': (
    'error', 'state the classes: `num_classes`, `dataset`, or a classes.json in the folder',
  ),
  'invalid values': ('error', 'map them to classes, or to 255 if they should be ignored'),
  'ids start at 1': ('error', 'subtract 1 from every label; the first class is 0'),
  'no id 0': ('warning', 'if the first class has id 1, subtract 1 from every label'),
  'only 0 and 255': (
    'error', '255 is ignored, which leaves one class, or next to nothing: store class ids 0 and 1',
  ),
  'binary masks': ('note', 'the values 0 and 255 are read as two classes, 0 and 1'),
  'value in one file only': ('warning', 'it is a class: if not, map it to another, or to 255'),
  'stray value': ('warning', 'it nowhere fills 2x2 pixels, and is a class: map it to another one'),
  'unknown colors': ('warning', 'these pixels are ignored; save color masks without smoothing'),
  'empty label': ('warning', 'every pixel is ignored: label it, or remove the pair'),
  'mostly ignored': ('warning', 'nearly every pixel is ignored: check that this is intended'),
  'one class only': ('warning', 'every pixel has the same class: check that this is intended'),
  'class never occurs': ('warning', 'it can not be learned; check the order of the classes'),
  'class not in train': ('warning', 'it can not be learned, but counts in the scores'),
  'many pixels ignored': (
    'warning', 'more than half of all pixels are ignored: check that this is intended',
  ),
  # Images
  'blank image': ('warning', 'all pixels are equal: get the file again'),
  'transparent image': ('warning', 'it is composited over white; store images without alpha'),
  'several frames': ('warning', 'only the first is used: store one image in each file'),
  'alpha channel': ('note', 'it is opaque everywhere, and dropped'),
  '16-bit image': ('warning', 'it is reduced to 8 bits; check that it keeps enough contrast'),
  'print color space': ('warning', 'conversion to RGB changes its colors; store it as RGB'),
  'gray among color images': ('warning', 'most images have colors, and this one has none'),
  'gray images': ('note', 'they are read as RGB with three equal channels'),
  # Duplicates
  'duplicate across splits': (
    'error', 'the model would be scored on images it was trained on: remove it from one split',
  ),
  'duplicate': ('warning', 'it counts twice: remove one'),
  'same image, different labels': ('error', 'one of the two labels must be wrong'),
  'same label, different images': ('warning', 'one of the two images may have the wrong label'),
  'near duplicate across splits': (
    'warning', 'this makes scores too good: keep similar images in one split',
  ),
  'near duplicate': ('note', 'normal for frames of a video; otherwise remove one'),
  'similar images': ('note', 'all images look alike, so near duplicates were not searched'),
  'sequence in two splits': (
    'warning',
    'frames of one video are similar, which makes scores too good: keep each video in one split',
  ),
  'name series in two splits': ('note', 'if these are frames of one video, scores are too good'),
}  # fmt: skip


class Issue(NamedTuple):
  """Something wrong with a file or a data set.

  Attributes:
    kind: a key of `KINDS`.
    file: the file; or the name of a class, or 'labels' or 'images', if it is no single file.
    detail: what was found.
    examples: image or label files that show the issue; empty for `file` itself.
  """

  kind: str
  file: str
  detail: str
  examples: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
  """All issues of one kind.

  Attributes:
    kind: a key of `KINDS`.
    severity: one of `SEVERITIES`.
    issues: issues in the order in which they were found.
  """

  kind: str
  severity: str
  issues: tuple[Issue, ...]

  @property
  def advice(self) -> str:
    """What to do."""
    return KINDS[self.kind][1]


def group_issues(issues: Iterable[Issue], severities: Mapping[str, str]) -> tuple[Finding, ...]:
  """Groups issues by kind.

  Args:
    issues: issues in any order.
    severities: severities of kinds that differ from those in `KINDS`.

  Returns:
    findings, the most severe first, otherwise in the order of `KINDS`.
  """
  by_kind = {}
  for issue in issues:
    by_kind.setdefault(issue.kind, []).append(issue)
  findings = [
    Finding(kind, severities.get(kind, severity), tuple(by_kind[kind]))
    for kind, (severity, _) in KINDS.items()
    if kind in by_kind
  ]
  return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
