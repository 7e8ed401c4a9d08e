"""experiments.wavelets: what it writes and says, and what it refuses."""

import functools
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from dilated_jax.errors import InputError
from dilated_jax.images import files as image_files
from experiments import wavelets
from tests import calling


@pytest.fixture
def photo(tmp_path):
  y, x = np.mgrid[:40, :56]
  image = np.stack([4 * y, 4 * x, 40 + 160 * ((x - 28) ** 2 + (y - 20) ** 2 < 150)], axis=-1)
  Image.fromarray(image.astype(np.uint8)).save(tmp_path / 'photo.png')
  return tmp_path / 'photo.png'


run = functools.partial(calling.run, wavelets)


def test_the_sheet(photo, tmp_path, capsys):
  run(f'--image={photo}', f'--output={tmp_path}/out', '--num_scales=3')
  assert [path.name for path in (tmp_path / 'out').iterdir()] == ['photo_scales.png']
  # Two rows of panels: the photograph, three details; what is left.
  page = image_files.read_image(tmp_path / 'out/photo_scales.png')
  assert page.shape[0] > 2 * 40 * 5 and page.shape[1] > 4 * 56 * 5
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[:3] for line in lines[1:4]] == [
    ['1', '1', '5'], ['2', '2', '13'], ['3', '4', '29'],
  ]  # fmt: skip


@pytest.mark.parametrize('options', [(), ('--generation=2', '--mode=soft')])
def test_denoising(photo, tmp_path, capsys, options):
  out = tmp_path / 'out'
  run(
    f'--image={photo}', f'--output={out}', '--num_scales=3', '--noise=25', '--denoise=3', *options
  )
  clean, found = (
    image_files.read_image(path).astype(float) for path in (photo, out / 'photo_denoised.png')
  )
  assert np.sqrt(np.mean((found - clean) ** 2)) < 0.7 * 25
  assert 'dB denoised' in capsys.readouterr().out


def test_no_threshold_gives_the_photograph_back(photo, tmp_path):
  run(f'--image={photo}', f'--output={tmp_path}', '--denoise=0')
  found = image_files.read_image(tmp_path / 'photo_denoised.png')
  np.testing.assert_array_equal(found, image_files.read_image(photo))


def test_what_is_refused(photo, tmp_path):
  with pytest.raises(InputError, match='no such file'):
    run(f'--image={tmp_path}/none.png', f'--output={tmp_path}')
  with pytest.raises(InputError, match='is a file'):
    run(f'--image={photo}', f'--output={photo}')
  with pytest.raises(InputError, match='noise=nan'):
    run(f'--image={photo}', f'--output={tmp_path}', '--noise=nan')


def test_wrong_input_is_one_line_of_the_command(tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.wavelets', f'--image={tmp_path}', '--output=x'],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr == f'error: {tmp_path}: is a folder, not an image file\n'
