"""Readers attacked by damages that coverage guides, with atheris, which nothing else here needs.

  pip install --target=/tmp/atheris atheris
  PYTHONPATH=/tmp/atheris python -m tests.attacks.fuzz torch /tmp/corpus -max_total_time=600

The folder keeps what reached new lines, so that another run goes on; further options are those of
libFuzzer. Ends with a trace where a reader raised something else than InputError, took more than a
minute or 2 GB, and writes the file that did it (crash-...).
"""

import pathlib
import random
import sys
import tempfile

import atheris

with atheris.instrument_imports(
  include=['dilated_jax', 'experiments', 'PIL', 'zipfile', 'tarfile', 'wave', 'json']
):
  from dilated_jax.data import archive_index, archives
  from dilated_jax.data.folder import builder, classes_file, layouts as folder_layouts
  from dilated_jax.data.folder.label_stats import read_label_stats
  from dilated_jax.errors import InputError
  from dilated_jax.evaluation import label_files
  from dilated_jax.images import files
  from dilated_jax.models import spec
  from dilated_jax.signal import audio
  from dilated_jax.weights import layouts, mapped
  from experiments import flag_files

import safetensors.numpy

from tests import caffe_files
from tests.attacks import damaged
from tests.weights import test_convert as made


def read_weights(path):
  layouts.read(mapped.MappedFile(path))


def read_image(path):
  for read in (files.read_image, files.read_label, files.read_colors, read_label_stats):
    read(path)


def read_archive(path):
  members = archive_index.read_index(path, ('data',), 'get it again')
  tree = archives.Tree(str(path), 'get it again', members)
  for name in tree.names():
    tree.read(name)


def read_classes(path):
  classes_file.read_classes_file(path)
  builder.read_description(path.parent)


def read_predictions(path):
  if label_files.read_class_order(path.parent):
    label_files.read_dataset(path.parent)


def weights(write):
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'weights'
    write(path)
    return path.read_bytes()


def caffe():
  tiny = dict(width=(1, 1, 2, 2, 2, 3, 2))
  networks = [caffe_files.published('kitti', damaged.RNG, **tiny)]
  networks.append(caffe_files.vgg16(damaged.RNG, num_classes=3, **tiny))
  return [caffe_files.caffemodel(each, version=v) for each, v in zip(networks, (2, 0))]


def torch():
  made.WIDTHS = (1, 1, 2, 2, 2, 3, 2)
  arrays = made.vgg_arrays(classes=3)
  return [
    weights(lambda path, old=old: made.write_pth(path, arrays, legacy=old)) for old in (False, True)
  ]


def tensors():
  arrays = {'a.weight': damaged.RNG.random((3, 2), 'float32'), 'a.bias': damaged.RNG.random(3)}
  return [weights(lambda path: safetensors.numpy.save_file(arrays, path))]


# Reader, the name of its file, and files to begin with.
READERS = {
  'caffe': (read_weights, 'a.caffemodel', caffe),
  'torch': (read_weights, 'a.pth', torch),
  'safetensors': (read_weights, 'a.safetensors', tensors),
  'images': (read_image, 'a.png', lambda: damaged.images().values()),
  'archives': (read_archive, 'a.zip', lambda: damaged.archives().values()),
  'lists': (
    lambda path: folder_layouts.find_pairs(path.parent), 'train.txt', lambda: [damaged.LIST],
  ),
  'classes': (read_classes, 'classes.json', lambda: [damaged.CLASSES]),
  'predictions': (read_predictions, 'predictions.json', lambda: [damaged.PREDICTIONS]),
  'model': (lambda path: spec.load_spec(path.parent), 'model.json', lambda: [damaged.MODEL]),
  'wav': (audio.read_wav, 'a.wav', lambda: [damaged.sound()]),
  'flags': (
    lambda path: flag_files.expand([f'--flagfile={path}']), 'a.flags', lambda: [damaged.FLAGS],
  ),
}  # fmt: skip


def main():
  name, corpus, *options = sys.argv[1:]
  read, file_name, originals = READERS[name]
  corpus = pathlib.Path(corpus)
  corpus.mkdir(parents=True, exist_ok=True)
  for number, content in enumerate(originals()):
    (corpus / f'original{number}').write_bytes(content)
  folder = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}{random.randrange(1000)}_'))
  if name == 'lists':
    damaged.folder(folder)
  (folder / 'other.flags').write_text('--seed=3')  # Which the first flag file includes.

  def attack(content):
    (folder / file_name).write_bytes(content)
    try:
      read(folder / file_name)
    except InputError as error:
      assert str(error).isprintable() and len(str(error)) < 2010, repr(str(error))

  limits = ['-timeout=60', '-rss_limit_mb=4096', '-max_len=100000']
  atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], attack)
  atheris.Fuzz()


if __name__ == '__main__':
  main()
