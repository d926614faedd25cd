"""Multi-stage losses: regions, empty inputs, half precision, bad settings."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config

from mmrefine.refinemask.inference import refine, refined_logits
from mmrefine.refinemask.losses import BARCrossEntropyLoss, RefineCrossEntropyLoss, training_regions

SIZES = (14, 28, 56, 112)
FOLDERS = ('refinemask', 'mixed')
CONFIGS = [p for folder in FOLDERS for p in (ROOT / 'configs' / folder).glob('refinemask*.py')]


@pytest.mark.parametrize('path', sorted(CONFIGS), ids=lambda path: path.stem)
def test_configs_train_with_the_published_weights(path: Path) -> None:
    config = Config.fromfile(path).model.roi_head.mask_head
    loss = MODELS.build(config).loss_func
    if config.type == 'RefineMaskHead':
        assert type(loss) is RefineCrossEntropyLoss
        assert (*loss.stage_weights, loss.semantic_loss_weight) == (0.25, 0.5, 0.75, 1.0, 1.0)
    else:
        assert type(loss) is BARCrossEntropyLoss
        assert loss.stage_weights == (0.5, 0.75, 0.75, 1.0)
    assert (loss.boundary_width, loss.start_stage, loss.loss_weight) == (2, 1, 1.0)


def test_losses_alone_have_the_published_weights() -> None:
    for loss in (BARCrossEntropyLoss(), RefineCrossEntropyLoss()):
        assert loss.stage_weights == (0.25, 0.5, 0.75, 1.0)


def half_planes(count: int = 2) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Left half foreground; predictions agree."""
    targets = [torch.zeros(count, 1, s, s, dtype=torch.bool) for s in SIZES]
    for target in targets:
        target[..., : target.shape[-1] // 2] = True
    return [t.float() * 8 - 4 for t in targets], targets


def test_late_stages_are_supervised_near_the_edge_only() -> None:
    logits, targets = half_planes()
    regions = training_regions(logits, targets)
    assert regions[:2] == [None, None]
    for region, size in zip(regions[2:], SIZES[2:]):
        columns = region[0, 0, size // 2]
        # the edge in the middle, and foreground that touches the left border, but not the
        # background at the right
        assert columns[size // 2] and columns[0] and not columns[-1]
        assert columns.float().mean() < 0.5


def test_values_by_hand() -> None:
    logits, targets = half_planes()
    loss = BARCrossEntropyLoss([1, 2, 3, 4], loss_weight=0.5)
    each = F.softplus(torch.tensor(-4.0))  # every pixel is equally right
    torch.testing.assert_close(loss(logits, targets), 0.5 * each * 10)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_no_positives_give_zero_with_gradients(dtype: torch.dtype) -> None:
    logits = [torch.zeros(0, 1, s, s, dtype=dtype, requires_grad=True) for s in SIZES]
    targets = [torch.zeros(0, 1, s, s, dtype=torch.bool) for s in SIZES]
    loss = BARCrossEntropyLoss()(logits, targets)
    loss.backward()
    assert loss == 0 and all(x.grad is not None for x in logits)


def test_empty_region_is_zero_not_nan() -> None:
    logits = [torch.full((1, 1, s, s), -4.0, requires_grad=True) for s in SIZES]
    targets = [torch.zeros(1, 1, s, s, dtype=torch.bool) for s in SIZES]
    terms = BARCrossEntropyLoss().stage_losses(logits, targets)
    assert terms[2] == 0 and terms[3] == 0
    sum(terms).backward()
    assert all(torch.isfinite(x.grad).all() for x in logits)


def test_half_precision_logits_decide_as_single_precision() -> None:
    torch.manual_seed(1)
    logits = [torch.randn(3, 1, s, s).bfloat16() for s in SIZES]
    single = [x.float() for x in logits]
    assert torch.equal(refined_logits(logits), refined_logits(single))


def test_refine_replaces_only_the_boundary() -> None:
    logits, _ = half_planes(1)
    fine = torch.full((1, 1, 56, 56), 7.0)
    changed = refine(logits[1], fine) == 7.0
    assert changed.any() and not changed[..., 28, 10:20].any()


def test_semantic_loss_is_the_weighted_mean() -> None:
    logits, target = torch.randn(2, 1, 5, 7), torch.rand(2, 1, 5, 7) < 0.5
    loss = RefineCrossEntropyLoss(semantic_loss_weight=3.0).semantic_loss(logits, target)
    torch.testing.assert_close(loss, 3 * F.binary_cross_entropy_with_logits(logits, target.float()))


def test_wrong_number_of_weights_names_both_numbers() -> None:
    logits, targets = half_planes()
    with pytest.raises(ValueError, match='4 stages of logits.*has 3 entries'):
        BARCrossEntropyLoss([1, 1, 1])(logits, targets)


def test_bad_width_is_refused() -> None:
    with pytest.raises(ValueError, match='boundary_width must be >= 1'):
        BARCrossEntropyLoss(boundary_width=0)
