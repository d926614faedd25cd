"""One tiny model of every kind, and a batch for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tiny_embedmask
import tiny_refinemask
import tiny_sharpmask
import tiny_sipmask
import tiny_sipmask_video
import torch
from locations import ROOT
from mixed.batch import images as mixed_images
from mixed.batch import samples as mixed_samples
from mixed.shrink import shrink
from mmdet.registry import MODELS
from mmengine.config import Config
from tiny_stock_models import tiny_stock_config
from torch import Tensor, nn

from mmrefine.layers import ClassLogits

BOXES = [[8.0, 8.0, 60.0, 50.0], [50.0, 40.0, 120.0, 90.0]]


def mixed(name: str) -> nn.Module:
    """A mixed config, shrunk, with random weights."""
    torch.manual_seed(0)
    path = ROOT / 'configs' / 'mixed' / f'{name}_r50_fpn_1x_coco.py'
    model = MODELS.build(shrink(Config.fromfile(path).model))
    model.init_weights()
    return model


def plain_batch(family: Any) -> tuple[Tensor, list]:
    samples = [family.sample(BOXES), family.sample(BOXES[1:])]
    pixels = family.images(len(samples) if family is tiny_refinemask else samples)
    return pixels, samples


def sharp_batch() -> tuple[Tensor, list]:
    return tiny_sharpmask.image(150, 210), [tiny_sharpmask.sample(150, 210)]


def patch_batch() -> tuple[Tensor, list]:
    """What DeepMask and SharpMask train on and take without a window search."""
    side = tiny_sharpmask.PATCH
    return tiny_sharpmask.image(side, side), [
        tiny_sharpmask.patch_sample(label=tiny_sharpmask.PATCH)
    ]


def video_batch() -> tuple[Tensor, list]:
    frames = [tiny_sipmask_video.frame(BOXES, [1, 2], number=i) for i in range(2)]
    return tiny_sipmask_video.pictures(2), [tiny_sipmask_video.clip(frames, key=0)]


@dataclass
class Family:
    """One kind of model.

    Attributes:
        build: Makes it, at a tiny size.
        batch: Makes normalised images and their data samples.
        heads: Modules of ours that a compiler must take as one graph.
        raw_batch: The same for a forward pass in mode 'tensor', where that takes other images.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, list]]
    heads: tuple[str, ...]
    raw_batch: Callable[[], tuple[Tensor, list]] | None = None


def refine(**options: Any) -> Family:
    return Family(
        lambda: tiny_refinemask.tiny_detector(**options),
        lambda: plain_batch(tiny_refinemask),
        ('roi_head.mask_head',),
    )


def variant(name: str) -> Family:
    def batch() -> tuple[Tensor, list]:
        return mixed_images(), mixed_samples()

    return Family(lambda: mixed(name), batch, ('roi_head.mask_head',))


def sip(**options: Any) -> Family:
    return Family(
        lambda: tiny_sipmask.tiny_detector(**options),
        lambda: plain_batch(tiny_sipmask),
        ('bbox_head', 'mask_head'),
    )


def embed(generation: str) -> Family:
    return Family(
        lambda: tiny_embedmask.tiny_detector(generation),
        lambda: plain_batch(tiny_embedmask),
        ('bbox_head', 'mask_head'),
    )


def sharp_roi(base: str) -> Family:
    kind = 'CascadeSharpMaskRoIHead' if 'cascade' in base else 'SharpMaskRoIHead'

    def build() -> nn.Module:
        config = tiny_stock_config(f'{base}_r50_fpn_1x_coco')
        config.merge_from_dict({'model.roi_head': dict(
            type=kind,
            mask_roi_extractor=dict(
                _delete_=True, type='PyramidRoIExtractor', out_channels=16, base_size=4
            ),
            mask_head=dict(
                _delete_=True, type='SharpMaskHead', in_channels=16, base_size=4, channels=64,
                hidden_channels=8,
            ),
        )})  # fmt: skip
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        model.init_weights()
        for head in model.roi_head.modules():
            if isinstance(head, ClassLogits):
                nn.init.normal_(head.weight)
        return model.eval()

    heads = [f'mask_head.{i}' for i in range(3)] if 'cascade' in base else ['mask_head']
    names = tuple(f'roi_head.{head}' for head in heads)
    return Family(build, lambda: plain_batch(tiny_refinemask), names)


FAMILIES: dict[str, Family] = {
    'refinemask': refine(),
    'refinemask-simple': refine(kind='SimpleRefineMaskHead'),
    'refinemask-cascade': variant('refinemask-cascade'),
    'refinemask-htc': variant('refinemask-htc'),
    'refinemask-dynamic': variant('refinemask-dynamic'),
    'refinemask-queryinst': variant('refinemask-queryinst'),
    'sipmask': sip(),
    'sipmask++': sip(mask=dict(rescoring=True)),
    'sipmask-vis': Family(
        tiny_sipmask_video.tiny_video_model,
        video_batch,
        ('bbox_head', 'mask_head', 'track_head'),
    ),
    'embedmask-v1': embed('v1'),
    'embedmask-v2': embed('v2'),
    'embedmask-v3': embed('v3'),
    'embedmask-adet': embed('adet'),
    'deepmask': Family(tiny_sharpmask.build, sharp_batch, (), patch_batch),
    'sharpmask': Family(lambda: tiny_sharpmask.build(refined=True), sharp_batch, (), patch_batch),
    'sharpmask-roi': sharp_roi('mask_rcnn/mask-rcnn'),
    'sharpmask-roi-cascade': sharp_roi('cascade_rcnn/cascade-mask-rcnn'),
}


def tensors(node: Any) -> Iterator[Tensor]:
    """All tensors of nested results."""
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, Mapping):
        yield from tensors(list(node.values()))
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from tensors(item)
    elif hasattr(node, 'pred_instances') or hasattr(node, 'pred_track_instances'):
        found = node.get('pred_instances', node.get('pred_track_instances'))
        fields = ('bboxes', 'scores', 'masks', 'instances_id')
        yield from tensors([found.get(field) for field in fields])
    elif hasattr(node, 'video_data_samples'):
        yield from tensors(node.video_data_samples)
    elif hasattr(node, '__dict__'):
        yield from tensors(list(vars(node).values()))
