"""Prepares a data set once: checks every raw file and writes ArrayRecord files.

  dilated-jax prepare --dataset=scenes
  dilated-jax prepare --dataset=voc --manual_dir=DOWNLOADS
  dilated-jax prepare --dataset=folder --data_dir=FOLDER

`scenes` is drawn by code. The others are read from DOWNLOADS, where their archives lie as they come
from the publisher, or what was unpacked from them; if they are missing, it is said what to get.
FOLDER holds your own pictures and masks, in images/ and labels/; it is described, and with
--manual_dir=FOLDER --data_dir=ELSEWHERE written there as ArrayRecord. A data set that is already
there is only described.
"""

from absl import flags
import numpy as np

from dilated_jax import data
from dilated_jax.data import statistics

from . import cli, path_flags


def define_flags(values=flags.FLAGS):
  flags.DEFINE_enum('dataset', 'scenes', data.NAMES, 'Data set to prepare.', flag_values=values)
  path_flags.define(
    'manual_dir', None, 'Folder with the archives of the data set, or unpacked.', flag_values=values
  )
  path_flags.define(
    'data_dir',
    None,
    'Folder for prepared data sets; TFDS_DATA_DIR or ~/tensorflow_datasets if not given.',
    flag_values=values,
  )


def main(values=flags.FLAGS):
  folder = data.prepare(values.dataset, values.data_dir, values.manual_dir)
  if found := data.describe_folder(values.dataset, values.data_dir):
    print(cli.as_typed('\n'.join(found['detected']['notes'])))
  print(describe(values.dataset, values.data_dir))
  print(f'{values.dataset} is ready in {folder}')


def describe(name, data_dir) -> str:
  """Returns a table: pictures, sizes and the share of every class in every split."""
  table = data.classes(name, data_dir)
  columns = [['', 'pictures', 'pixels', *table.names, 'ignored', 'mean RGB']]
  for split in data.splits(name, data_dir):
    source = data.load(name, split, data_dir)
    count, color = statistics.count_labels_and_mean(source, table.num_classes)
    shares = np.append(count.pixels, count.ignored) / max(1, count.total)
    mean = ' '.join(f'{value:.0f}' for value in color)
    sizes = [split, str(len(source)), f'{count.total:,}']
    columns.append([*sizes, *(f'{share:.2%}' for share in shares), mean])
  rows = []
  for cells in zip(*columns):
    rows.append(f'{cells[0]:12}' + ''.join(f'{cell:>14}' for cell in cells[1:]))
  return '\n'.join(rows)


if __name__ == '__main__':
  define_flags()
  cli.run(main)
