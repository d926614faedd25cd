"""Every mixture builds small, trains a step with gradients everywhere, and predicts masks."""

import sys

import pytest
import torch
from locations import ROOT
from mixed.batch import images, samples
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

sys.path.insert(0, str(ROOT / 'tools'))
from mixing_table import Mixture, mixtures

MIXTURES = mixtures()
NAMES = [f'{m.config.split("/")[1]}-{m.mask_head}' for m in MIXTURES]


def small_model(config: Config) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(shrink(config.model))
    model.init_weights()
    for name, layer in model.named_modules():
        if name.endswith('conv_reg'):
            # distances pass a ReLU, which has no gradient where an untrained layer is negative
            nn.init.constant_(layer.bias, 1.0)
    return model


def train_and_predict(model: nn.Module) -> None:
    """One loss step with gradients to every weight, one prediction with masks of image size."""
    losses = model.train().loss(images(), samples())
    total, logged = model.parse_losses(losses)
    assert all(torch.isfinite(value) for value in logged.values()), logged
    assert [name for name in losses if 'mask' in name or 'instance' in name], list(losses)
    total.backward()
    assert unreached(model) == []
    with torch.no_grad():
        results = model.eval().predict(images(), samples(), rescale=True)
    assert [len(result.pred_instances) > 0 for result in results] == [True, True]
    for result in results:
        found = result.pred_instances
        sizes = {tuple(rle['size']) for rle in found.masks if isinstance(rle, dict)}
        sizes |= {tuple(mask.shape) for mask in found.masks if torch.is_tensor(mask)}
        assert len(found.masks) == len(found) and sizes == {result.ori_shape}
        assert torch.isfinite(found.bboxes).all() and torch.isfinite(found.scores).all()


def unreached(model: nn.Module) -> list[str]:
    """Trainable weights whose gradient is missing or zero."""
    return [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.any())
    ]


@pytest.mark.parametrize('mixture', MIXTURES, ids=NAMES)
def test_mixture_trains_everywhere_and_predicts(mixture: Mixture) -> None:
    train_and_predict(small_model(mixture.load()))


@pytest.mark.slow
@pytest.mark.parametrize('mixture', MIXTURES, ids=NAMES)
def test_mixture_trains_at_full_width(mixture: Mixture) -> None:
    """Stated widths and real numbers of classes agree, which the small models cannot show."""
    model = mixture.load().model
    model.backbone.init_cfg = None
    settings = model.get('train_cfg') or {}
    if 'rpn_proposal' in settings:
        settings.rpn_proposal.max_per_img = 20
    torch.manual_seed(0)
    detector = MODELS.build(model)
    detector.init_weights()
    losses = detector.train().loss(images(), samples())
    _, logged = detector.parse_losses(losses)
    assert all(torch.isfinite(value) for value in logged.values()), logged
