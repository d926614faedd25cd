"""ResNet with deformable convolutions in every third block."""

import pytest
import torch
from mmdet.registry import MODELS

DCN = {
    'type': 'IntervalDCNResNet',
    'depth': 101,
    'dcn': {'type': 'DCN', 'deform_groups': 1},
    'stage_with_dcn': (False, True, True, True),
}


def deformable_blocks(model: torch.nn.Module) -> list[str]:
    return [
        f'{stage}.{index}'
        for stage in ('layer1', 'layer2', 'layer3', 'layer4')
        for index, block in enumerate(getattr(model, stage))
        if hasattr(block.conv2, 'conv_offset')
    ]


def test_the_published_interval_gives_eleven_blocks():
    with torch.device('meta'):
        model = MODELS.build(DCN)
    third = [f'layer3.{n}' for n in range(0, 22, 3)]
    assert deformable_blocks(model) == ['layer2.0', 'layer2.3', *third, 'layer4.0']


def test_an_interval_of_one_replaces_every_block():
    with torch.device('meta'):
        model = MODELS.build(DCN | {'depth': 50, 'dcn_interval': 1})
    assert len(deformable_blocks(model)) == 4 + 6 + 3


def test_offsets_start_at_zero():
    model = MODELS.build(DCN | {'depth': 50, 'base_channels': 8})
    model.init_weights()
    assert model.layer3[3].conv2.conv_offset.weight.eq(0).all()


def test_an_interval_of_zero_is_refused():
    with pytest.raises(ValueError, match='dcn_interval must be at least 1, got 0'):
        MODELS.build(DCN | {'dcn_interval': 0})
