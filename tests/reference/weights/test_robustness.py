"""Damaged files that PyTorch has written."""

import pytest
import torch

from tests.reference.weights import test_torchvision
from tests.reference.weights.test_convert import write_pth
from tests.weights import test_convert as made
from tests.weights.test_robustness import check


def zipped(path):
  write_pth(path, made.vgg_arrays(classes=3))


def legacy(path):
  write_pth(path, made.vgg_arrays(classes=3), legacy=True)


def segmentation(path):
  network = test_torchvision.made('deeplab_v3', classes=3, blocks=(1, 1, 1, 1), width=1 / 64)
  torch.save(network.state_dict(), path)


KINDS = (zipped, legacy, segmentation)


@pytest.mark.parametrize('write', KINDS)
def test_damaged_files(write, tmp_path, monkeypatch):
  check(write, 200, 0, tmp_path, monkeypatch, vgg=write is not segmentation)


@pytest.mark.slow
@pytest.mark.parametrize('write', KINDS)
def test_many_damaged_files(write, tmp_path, monkeypatch):
  check(write, 1500, 1, tmp_path, monkeypatch, vgg=write is not segmentation)
