"""Commands that write, small ones: their flags, and what they read."""

import fractions
import functools
import pathlib
import shutil

import jax
import numpy as np
import PIL.Image

from dilated_jax import models
from dilated_jax.images import video
from dilated_jax.models import weights_folder
from tests import caffe_files
from tests.experiments.test_train import NARROW


class CommandLines:
  """The flags of each command, by name; what a command reads is made when it is asked for."""

  def __init__(self, folder: pathlib.Path):
    """Takes the folder of all that is read."""
    self._folder = folder

  def __call__(self, name: str, out: pathlib.Path) -> list[str]:
    """The flags of a command that writes to `out`, a folder, or in it where it writes a file."""
    return getattr(self, f'_{name}')(out)

  def _train(self, out):
    return [
      f'--workdir={out}', '--dataset=folder', f'--data_dir={self.images}', *NARROW,
      '--stage=front_end,context', '--num_steps=4,2', '--eval_every=1', '--batch_size=2',
      '--crop=16x32', '--log_every=1',
    ]  # fmt: skip

  def _prepare(self, out):
    return ['--dataset=folder', f'--manual_dir={self.images}', f'--data_dir={out}']

  def _convert(self, out):
    return [f'--source={self.caffemodel}', f'--output={out}/weights']

  def _predict(self, out):
    return [
      f'--weights={self.weights}', f'--inputs={self.images}/images', f'--output={out}',
      '--save=labels,colors,overlays,scores',
    ]  # fmt: skip

  def _predict_videos(self, out):
    return [f'--weights={self.weights}', f'--inputs={self.videos}', f'--output={out}']

  def _evaluate(self, out):
    return [*self._scoring('train[:2]'), f'--output={out}/scores.json']

  def _tune(self, out):
    return [
      *self._scoring('train[:3]'), f'--output={out}', '--sxy=20', '--srgb=5', '--compat=1,3',
      '--iterations=1,2',
    ]  # fmt: skip

  def _compare(self, out):
    return [
      f'--recipe={self.recipe}', f'--workdir={out}', f'--data_dir={self.images}', '--split=val',
      '--contexts=none,basic', '--crfs=none,dense', '--num_images=1',
    ]  # fmt: skip

  def _sweep(self, out):
    return [
      f'--workdir={out}', '--grid=seed=0', '--', 'train', *self._train(out)[1:]
    ]  # fmt: skip

  def _demo(self, out):
    return [f'--workdir={out}', '--systems=front_end']

  def _export(self, out):
    return [f'--weights={self.weights}', f'--output={out}/network.onnx']

  def _audit(self, out):
    labels = [f'--images={self.images}/images', f'--labels={self.images}/labels']
    return [*labels, '--num_classes=2', f'--output={out}']

  def _explore(self, out):
    return [f'--weights={self.weights}', f'--output={out}/page.html']

  def _wavelets(self, out):
    return [f'--image={self.images}/images/a.png', f'--output={out}', '--num_scales=2']

  def _wavenet(self, out):
    return [
      f'--output={out}', '--num_steps=1', '--batch_size=1', '--segment_length=300', '--seconds=0.1',
      '--num_blocks=1', '--num_layers=2',
    ]  # fmt: skip

  def _scoring(self, split):
    return [
      f'--weights={self.weights}', '--dataset=folder', f'--data_dir={self.images}',
      f'--split={split}',
    ]  # fmt: skip

  @functools.cached_property
  def images(self) -> pathlib.Path:
    """Six images of two classes."""
    folder, draw = self._folder / 'images', np.random.default_rng(0)
    for name in 'abcdef':
      for kind, values in (('images', (32, 48, 3)), ('labels', (32, 48))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        content = draw.integers(0, 255 if kind == 'images' else 2, values).astype(np.uint8)
        PIL.Image.fromarray(content).save(folder / kind / f'{name}.png')
    return folder

  @functools.cached_property
  def weights(self) -> pathlib.Path:
    """Of a tiny network."""
    options = {
      'blocks': [1], 'width': 0.0625, 'stride': 2, 'fc_kernel': 3, 'fc_channels': 4,
      'dilations': [1, 2, 1],
    }  # fmt: skip
    classes = ('class 0', 'class 1'), ((0, 0, 0), (255, 0, 0))
    spec = models.ModelSpec('dilation8', options, *classes, (1.0, 2.0, 3.0))
    shapes = weights_folder.abstract_variables(spec.create())
    draw = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: draw.standard_normal(x.shape).astype(x.dtype), shapes)
    weights_folder.save_weights(self._folder / 'weights', spec, variables)
    return self._folder / 'weights'

  @functools.cached_property
  def caffemodel(self) -> pathlib.Path:
    """A published network, narrow."""
    network = caffe_files.published('cityscapes', np.random.default_rng(0), width=1 / 32)
    (self._folder / 'file').write_bytes(caffe_files.caffemodel(network))
    return self._folder / 'file'

  @functools.cached_property
  def videos(self) -> pathlib.Path:
    """A picture and a video."""
    folder, draw = self._folder / 'videos', np.random.default_rng(0)
    folder.mkdir()
    shutil.copy(self.images / 'images' / 'a.png', folder)
    rate, square = fractions.Fraction(24), fractions.Fraction(1)
    source = video.Video(folder, (32, 48), rate, None, square, False)
    with video.VideoWriter(folder / 'clip.mp4', source) as writer:
      for _ in range(3):
        writer.add(draw.integers(0, 255, (32, 48, 3), np.uint8))
    return folder

  @functools.cached_property
  def recipe(self) -> pathlib.Path:
    """Of a comparison of two networks, each with and without a dense CRF."""
    common = [flag for flag in NARROW if not flag.startswith(('--model', '--dilations'))]
    more = ['--dataset=folder', '--num_steps=2', '--eval_every=1', '--batch_size=2']
    files = {
      'common': [*common, *more, '--log_every=1'],
      'front_end': [],
      'basic': [],
      'tune': ['--sxy=20', '--srgb=5', '--compat=1,3', '--iterations=1'],
    }
    folder = self._folder / 'recipe'
    folder.mkdir()
    for name, flags in files.items():
      (folder / f'{name}.flags').write_text('\n'.join(flags) + '\n')
    return folder
