"""unread.py: an option that a stage does not read is refused, and none that it reads."""

import dataclasses

import pytest

from dilated_jax.data.augmentation import Augmentation
from dilated_jax.errors import InputError
from dilated_jax.options import describe
from dilated_jax.training import unread
from dilated_jax.training.config import OptimizerOptions, StageConfig

IMAGES = {
  'crop': StageConfig('joint', crop=(8, 16)),
  'random_scale': StageConfig('joint', augmentation=Augmentation(random_scale=(0.5, 2))),
  'color_jitter': StageConfig('joint', augmentation=Augmentation(color_jitter=0.1)),
  'random_rotation': StageConfig('joint', augmentation=Augmentation(random_rotation=3)),
  'random_blur': StageConfig('joint', augmentation=Augmentation(random_blur=1)),
  'border': StageConfig('joint', augmentation=Augmentation(border='mean')),
}


def test_every_way_to_change_an_image_is_among_them():
  assert {*IMAGES} == {'crop', *describe(Augmentation)} - {'random_flip'}


@pytest.mark.parametrize('name', IMAGES)
def test_stages_on_maps_read_nothing_about_images(name):
  for stage in ('front_end', 'joint'):
    unread.check_unread(dataclasses.replace(IMAGES[name], stage=stage))
  for stage in ('context', 'crf'):
    config = dataclasses.replace(IMAGES[name], stage=stage)
    with pytest.raises(InputError, match=f'`{name}` is not read: stage {stage} learns from maps'):
      unread.check_unread(config)
    assert unread.without_unread(config) == StageConfig(stage)


@pytest.mark.parametrize('stage', ['front_end', 'context', 'crf', 'joint'])
def test_defaults_and_what_all_stages_read(stage):
  config = StageConfig(
    stage, 7, 3, class_weights='log', label_smoothing=0.1, jaccard_loss=1.0, grad_accum_steps=3,
    augmentation=Augmentation(False), seed=5,
    optimizer=OptimizerOptions('sgd', 0.1, warmup_steps=2, momentum=0.5, weight_decay=0.0),
    loss_resolution='full', parallelism='mesh', mesh_height=2,
  )  # fmt: skip
  assert unread.unread_options(config) == {} and unread.without_unread(config) == config
  assert unread.unread_options(StageConfig(stage)) == {}


@pytest.mark.parametrize(
  'options, name, words',
  [
    (dict(feature_dir='maps'), 'feature_dir', 'stage joint learns from images'),
    (dict(mesh_height=2), 'mesh_height', "it belongs to `parallelism='mesh'`"),
    (dict(optimizer=OptimizerOptions(gamma=0.5)), 'gamma', "it belongs to `schedule='step'`"),
    (dict(optimizer=OptimizerOptions(step_size=5)), 'step_size', "it belongs to `schedule='step'`"),
    (dict(optimizer=OptimizerOptions(power=0.5)), 'power', "it belongs to `schedule='poly'`"),
    (dict(optimizer=OptimizerOptions('adamw', momentum=0.5)), 'momentum', 'has none'),
  ],
)
def test_options_of_a_choice_that_was_not_made(options, name, words):
  config = StageConfig('joint', **options)
  with pytest.raises(InputError) as raised:
    unread.check_unread(config)
  assert str(raised.value).startswith(f'`{name}` is not read: ') and words in str(raised.value)
  (default,) = unread.unread_options(config)
  assert default == name


def test_options_of_a_choice_that_was_made():
  for options in (
    dict(stage='context', feature_dir='maps'),
    dict(parallelism='mesh', mesh_height=2),
    dict(optimizer=OptimizerOptions(schedule='step', gamma=0.5, step_size=5)),
    dict(optimizer=OptimizerOptions(schedule='poly', power=0.5)),
  ):
    unread.check_unread(StageConfig(**{'stage': 'joint', **options}))
