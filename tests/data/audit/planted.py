"""Data sets with known issues: each function damages one or two pairs."""

import io

import numpy as np
from PIL import Image, ImageEnhance

from dilated_jax.data import audit, folder
from dilated_jax.data.audit import findings
from dilated_jax.data.builders import scenes

NUM_SCENES = 7


class Pair:
  """An image and a label that a test may damage."""

  def __init__(self, root, split, name, image, ids):
    self.image = root / 'images' / split / f'{name}.png'
    self.label = root / 'labels' / split / f'{name}.png'
    self.picture, self.ids = image, ids
    save(image, self.image)
    save(ids, self.label)

  def relabel(self, ids):
    save(np.asarray(ids, np.uint8), self.label)

  def repaint(self, image, suffix='.png', **options):
    self.image.unlink()
    self.image = save(image, self.image.with_suffix(suffix), **options)


def save(content, path, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = content if isinstance(content, Image.Image) else Image.fromarray(content)
  image.save(path, **options)
  return path


def draw(root, train=52, val=15):
  """A clean data set of drawn scenes."""
  pairs = [Pair(root, 'train', f'a{i:03}x', *scenes.draw(i)) for i in range(train)]
  return pairs + [Pair(root, 'val', f'b{i:03}x', *scenes.draw(1000 + i)) for i in range(val)]


def copy_camvid(root, camvid_dir):
  """A clean part of CamVid: every picture of train is of one film, and of val of another."""
  pairs = []
  for split, source, film, step in (
    ('train', 'train', '0006R0', 2),
    ('val', 'test', 'Seq05VD', 10),
  ):
    for path in sorted((camvid_dir / source).glob(f'{film}*.png'))[::step]:
      ids = np.asarray(Image.open(camvid_dir / f'{source}annot' / path.name))
      ids = np.where(ids == 11, 255, ids).astype(np.uint8)
      pairs.append(Pair(root, split, path.stem, np.asarray(Image.open(path)), ids))
  return pairs


def run(root, num_classes=NUM_SCENES, **options):
  pairing = folder.pair_folders(root / 'images', root / 'labels')
  classes = num_classes and audit.numbered_classes(num_classes)
  return audit.audit_files(pairing, classes=classes, **options)


def found(report, *severities):
  """(kind, file name) of all issues."""
  return {
    (finding.kind, issue.file.rsplit('/')[-1])
    for finding in report.findings
    for issue in finding.issues
    if finding.severity in (severities or findings.SEVERITIES)
  }


def kinds(report):
  return {finding.kind: finding for finding in report.findings}


def jpeg(image, quality):
  content = io.BytesIO()
  image.save(content, 'JPEG', quality=quality)
  return Image.open(content)


def truncated_picture(pair):
  pair.image.write_bytes(pair.image.read_bytes()[:-900])
  return [('unreadable image', pair.image)]


def empty_file(pair):
  pair.image.write_bytes(b'')
  return [('unreadable image', pair.image)]


def no_picture_at_all(pair):
  pair.image.write_text('<html>404</html>')
  return [('unreadable image', pair.image)]


def truncated_label(pair):
  pair.label.write_bytes(pair.label.read_bytes()[:-200])
  return [('unreadable label', pair.label)]


def flipped_bits(pair):
  content = bytearray(pair.label.read_bytes())
  content[len(content) // 2] ^= 0xFF
  pair.label.write_bytes(content)
  return [('unreadable label', pair.label)]


def label_missing(pair):
  pair.label.unlink()
  return [('no label', pair.image)]


def picture_missing(pair):
  pair.image.unlink()
  return [('no image', pair.label)]


def two_of_one_name(pair):
  other = save(pair.picture, pair.image.with_suffix('.jpg'))
  return [('duplicate name', other), ('duplicate name', pair.image)]


def jpeg_label(pair):
  pair.label.unlink()
  return [('lossy label', save(pair.ids, pair.label.with_suffix('.jpg')))]


def lossy_webp_label(pair):
  pair.label.unlink()
  return [('lossy label', save(pair.ids, pair.label.with_suffix('.webp'), quality=80))]


def animated_label(pair):
  frames = [Image.fromarray(pair.ids[::-1])]
  save(pair.ids, pair.label, save_all=True, append_images=frames)
  return [('several frames in a label', pair.label)]


def animated_picture(pair):
  frames = [Image.fromarray(pair.picture[::-1])]
  pair.repaint(pair.picture, save_all=True, append_images=frames)
  return [('several frames', pair.image)]


def half_turn_of_the_label_alone(pair):
  exif = Image.Exif()
  exif[0x0112] = 3
  save(pair.ids, pair.label, exif=exif)
  return [('rotation mismatch', pair.label)]


def quarter_turn_of_the_label_alone(pair):
  exif = Image.Exif()
  exif[0x0112] = 6
  save(pair.ids, pair.label, exif=exif)
  return [('rotation mismatch', pair.label)]


def both_turned_alike(pair):
  """No fault: a viewer shows both alike."""
  exif = Image.Exif()
  exif[0x0112] = 3
  pair.repaint(pair.picture, '.jpg', exif=exif, quality=95)
  save(pair.ids, pair.label, exif=exif)
  return []


def broken_link(pair):
  pair.label.unlink()
  pair.label.symlink_to(pair.label.with_name('gone.png'))
  return [('broken link', pair.label), ('no label', pair.image)]


def label_that_was_a_jpeg(pair):
  ids = np.asarray(jpeg(Image.fromarray(pair.ids), 95))
  pair.relabel(np.minimum(ids, pair.ids.max(where=pair.ids < 255, initial=0)))
  return [('ragged borders', pair.label)]


def smoothly_resized_label(pair):
  ids = np.where(pair.ids == 255, 0, pair.ids)
  height, width = ids.shape
  image = Image.fromarray(ids * 30).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
  pair.relabel(image.resize((width, height), Image.Resampling.BICUBIC))
  return [('invalid values', pair.label), ('ragged borders', pair.label)]


def sixteen_bit_label(pair):
  save(pair.ids.astype(np.uint16), pair.label)
  return [('16-bit label', pair.label)]


def label_of_large_numbers(pair):
  save(pair.ids.astype(np.uint16) * 1000, pair.label)
  return [('label values above 255', pair.label)]


def transparent_label(pair):
  save(np.dstack([pair.ids, pair.ids]), pair.label)
  return [('transparent label', pair.label)]


def color_mask(pair):
  palette = np.array([*audit.numbered_classes(20).palette, *[(0, 0, 0)] * 236], np.uint8)
  save(palette[pair.ids], pair.label)
  return [('color mask among ids', pair.label)]


def ids_in_three_channels(pair):
  save(np.repeat(pair.ids[..., None], 3, -1), pair.label)
  return [('three equal channels', pair.label)]


def label_of_another_size(pair):
  save(pair.ids[::2, ::2], pair.label)
  return [('size mismatch', pair.label)]


def quarter_turn_by_exif(pair):
  exif = Image.Exif()
  exif[0x0112] = 6
  pair.repaint(pair.picture, '.jpg', exif=exif, quality=95)
  return [('rotation mismatch', pair.label)]


def half_turn_by_exif(pair):
  exif = Image.Exif()
  exif[0x0112] = 3
  pair.repaint(pair.picture, '.jpg', exif=exif, quality=95)
  return [('rotation mismatch', pair.label)]


def illegal_value(pair):
  ids = pair.ids.copy()
  ids[5:9, 5:9] = 77
  pair.relabel(ids)
  return [('invalid values', pair.label)]


def nothing_labeled(pair):
  pair.relabel(np.full_like(pair.ids, 255))
  return [('empty label', pair.label)]


def little_labeled(pair):
  ids = np.full_like(pair.ids, 255)
  ids[:5] = pair.ids[:5]
  pair.relabel(ids)
  return [('mostly ignored', pair.label)]


def one_class(pair):
  pair.relabel(np.ones_like(pair.ids))
  return [('one class only', pair.label)]


def blank_picture(pair):
  pair.repaint(np.full_like(pair.picture, 7))
  return [('blank image', pair.image), ('gray among color images', pair.image)]


def transparent_picture(pair):
  alpha = np.full(pair.ids.shape, 255, np.uint8)
  alpha[:10] = 0
  pair.repaint(np.dstack([pair.picture, alpha]))
  return [('transparent image', pair.image)]


def needless_alpha(pair):
  pair.repaint(Image.fromarray(pair.picture).convert('RGBA'))
  return [('alpha channel', pair.image)]


def sixteen_bit_picture(pair):
  gray = np.asarray(Image.fromarray(pair.picture).convert('L')).astype(np.uint16) * 257
  pair.repaint(gray)
  return [('16-bit image', pair.image), ('gray among color images', pair.image)]


def picture_for_print(pair):
  pair.repaint(Image.fromarray(pair.picture).convert('CMYK'), '.jpg')
  return [('print color space', pair.image)]


def gray_picture(pair):
  pair.repaint(Image.fromarray(pair.picture).convert('L'))
  return [('gray among color images', pair.image)]


def copied_file(pair, other):
  pair.image.write_bytes(other.image.read_bytes())
  pair.label.write_bytes(other.label.read_bytes())
  return [('duplicate across splits', pair.image)]


def copied_pixels(pair, other):
  pair.repaint(other.picture, compress_level=1)
  pair.label.write_bytes(other.label.read_bytes())
  return [('duplicate', pair.image)]


def contradicting_labels(pair, other):
  pair.image.write_bytes(other.image.read_bytes())
  return [('duplicate', pair.image), ('same image, different labels', pair.label)]


def label_of_another_picture(pair, other):
  pair.label.write_bytes(other.label.read_bytes())
  return [('same label, different images', pair.label)]


def saved_again_brighter(pair, other):
  brighter = ImageEnhance.Brightness(Image.fromarray(other.picture)).enhance(1.1)
  pair.repaint(jpeg(brighter, 60), '.jpg', quality=60)
  return [('near duplicate across splits', pair.image)]


def mirrored_copy(pair, other):
  pair.repaint(other.picture[:, ::-1])
  pair.relabel(other.ids[:, ::-1])
  return [('near duplicate', pair.image)]


ALONE = (
  truncated_picture, empty_file, no_picture_at_all, truncated_label, flipped_bits, label_missing,
  picture_missing, two_of_one_name, jpeg_label, lossy_webp_label, animated_label, animated_picture,
  half_turn_of_the_label_alone, quarter_turn_of_the_label_alone, both_turned_alike, broken_link,
  label_that_was_a_jpeg, smoothly_resized_label,
  sixteen_bit_label, label_of_large_numbers, transparent_label, color_mask,
  ids_in_three_channels, label_of_another_size, quarter_turn_by_exif, half_turn_by_exif,
  illegal_value, nothing_labeled, little_labeled, one_class, blank_picture, transparent_picture,
  needless_alpha, sixteen_bit_picture, picture_for_print, gray_picture,
)  # fmt: skip

OF_TWO = (copied_pixels, contradicting_labels, label_of_another_picture, mirrored_copy)

ACROSS = (copied_file, saved_again_brighter)


def plant(pairs):
  """Plants every issue once; returns those to be found, and the names of all damaged pairs."""
  train, val = (iter([p for p in pairs if p.image.parent.name == s]) for s in ('train', 'val'))
  planted, touched = [], set()
  for fault in ALONE:
    pair = next(train)
    planted += fault(pair)
    touched.add(pair.label.stem)
  for fault in OF_TWO:
    other, pair = next(train), next(train)
    planted += fault(pair, other)
    touched |= {pair.label.stem, other.label.stem}
  for fault in ACROSS:
    other, pair = next(train), next(val)
    planted += fault(pair, other)
    touched |= {pair.label.stem, other.label.stem}
  return {(kind, path.name) for kind, path in planted}, touched


def check_planted(root, pairs, num_classes):
  clean = run(root, num_classes)
  assert clean.valid and found(clean, 'error', 'warning') == set()
  planted, touched = plant(pairs)
  report = run(root, num_classes)
  everything = found(report)
  # Which of two files of one name is the surplus one is a matter of taste.
  assert {fault for fault in planted - everything if fault[0] != 'duplicate name'} == set()
  assert 'duplicate name' in kinds(report)
  invented = {file for _, file in found(report, 'error', 'warning') - planted}
  assert {file for file in invented if file.split('.')[0] not in touched} == set()
  assert not report.valid
  return report


def with_palette(ids, palette):
  image = Image.fromarray(ids)
  image.putpalette(np.ravel(palette).astype(np.uint8).tolist())
  return image
