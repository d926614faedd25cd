"""Any dense mmdet head as the box head of EmbedMask: its boxes, plus embeddings and margins.

Shapes: B images, P points of all levels (finest first), G objects of one image, C channels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.fcos import (
    PointGrid,
    PointTargets,
    assign_points,
    flatten_levels,
    make_grid,
    paired_iou,
    points_on_masks,
)
from mmrefine.fcos.head import RANGES

from .detections import PointPredictions, select_detections
from .proposal import ProposalLayers, Proposals


@MODELS.register_module()
class EmbeddedHead(ProposalLayers, BaseModule):
    """Let the box head of another detector carry proposals.

    The head keeps its layers, its assignment, its losses and its box coder. Embeddings and margins
    come from its regression tower; which proposals learn a mask is decided by FCOS assignment on
    its points.

    Works with heads that have one prior per cell, a regression tower ``reg_convs`` shared by the
    levels, and
    sigmoid classes: ATSS, GFL, FCOS, RetinaNet with one anchor, and the like.

    Args:
        head: Config of the dense head.
        proposal: Settings of the proposal branch, see ``ProposalLayers.build_proposal_layers``.
        prior_distance: Embedding distance at which a fresh margin gives probability 1/2.
        sample_in_mask: A point learns an object's mask only if it lies on it.
        center_radius: Half side of the central square of points that learn masks, in strides.
        regress_ranges: Smallest and largest box side distance of every level, in pixels.
        train_cfg: For the head.
        test_cfg: For the head; ``select_detections`` reads it.
        init_cfg: Defaults to N(0, 0.01) for the branch, margin prior by ``prior_distance``.

    Raises:
        ValueError: If the head lacks a shared tower or has several priors per cell.
    """

    inclusive_boxes = False

    def __init__(
        self,
        head: ConfigType,
        proposal: OptConfigType = None,
        prior_distance: float = 2.0,
        sample_in_mask: bool = True,
        center_radius: float | None = 1.5,
        regress_ranges: Sequence[tuple[float, float]] = RANGES,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptConfigType = None,
    ) -> None:
        super().__init__()
        self.head: BaseDenseHead = MODELS.build(
            {**head, 'train_cfg': train_cfg, 'test_cfg': test_cfg}
        )
        self.tower = self._regression_tower(self.head)
        if self.head.num_base_priors != 1:
            raise ValueError(
                f'{type(self.head).__name__} has {self.head.num_base_priors} priors per cell, but '
                'a cell has one embedding: set one scale and one ratio in its anchor_generator'
            )
        self.strides = tuple(
            s[0] if isinstance(s, (tuple, list)) else s for s in self.head.prior_generator.strides
        )
        self.in_channels = self.head.in_channels
        self.sample_in_mask, self.center_radius = sample_in_mask, center_radius
        self.regress_ranges, self.test_cfg = tuple(regress_ranges), test_cfg
        self.build_proposal_layers(self.head.feat_channels, self.strides, **(proposal or {}))
        mine = [
            n
            for n, m in self.named_children()
            if n.startswith('conv_') and isinstance(m, nn.Conv2d)
        ]
        margins = self.proposal_init(prior_distance)
        named = {each['name'] for each in margins}
        plain = [dict(type='Normal', name=n, std=0.01) for n in mine if n not in named]
        self.init_cfg = init_cfg or dict(type='Normal', layer=[], override=[*plain, *margins])

    @staticmethod
    def _regression_tower(head: BaseDenseHead) -> str:
        tower = getattr(head, 'reg_convs', None)
        if (
            not isinstance(tower, nn.ModuleList)
            or not len(tower)
            or isinstance(tower[0], nn.ModuleList)
        ):
            raise ValueError(
                f'{type(head).__name__} has no regression tower "reg_convs" shared by its levels; '
                'EmbeddedHead takes embeddings from it'
            )
        return 'reg_convs'

    @contextmanager
    def _tower_outputs(self) -> Iterator[list[Tensor]]:
        """Collect what the regression tower gives, level by level, while inside."""
        collected: list[Tensor] = []
        last = getattr(self.head, self.tower)[-1]
        handle = last.register_forward_hook(lambda module, inputs, output: collected.append(output))
        try:
            yield collected
        finally:
            handle.remove()

    def forward(
        self, x: Sequence[Tensor]
    ) -> tuple[tuple[list[Tensor], ...], list[Tensor], list[Tensor]]:
        """Pyramid -> outputs of the head, embedding maps, margin maps."""
        with self._tower_outputs() as features:
            outputs = self.head(x)
        no_boxes = [feature.new_zeros(len(feature), 4, *feature.shape[2:]) for feature in features]
        maps = [self.embed_level(f, b, i) for i, (f, b) in enumerate(zip(features, no_boxes))]
        embeds, margins = map(list, zip(*maps))
        return outputs, embeds, margins

    def loss_and_proposals(
        self, x: Sequence[Tensor], objects: InstanceList, metas: list[dict]
    ) -> tuple[dict[str, Tensor], Proposals]:
        """Losses of the head, and the proposals that the mask loss chooses from.

        Args:
            x: Pyramid.
            objects: One per image: ``bboxes`` Tensor[G, 4], ``labels`` LongTensor[G], ``masks``
                BoolTensor[G, H, W] on the padded input.
            metas: One per image, as the head's assigner needs them.
        """
        outputs, embeds, margins = self(x)
        gts = [InstanceData(bboxes=o.bboxes, labels=o.labels) for o in objects]
        losses = self.head.loss_by_feat(*outputs, gts, metas)
        grid = self._grid(outputs[0])
        targets = PointTargets(*map(torch.stack, zip(*(self._assign(grid, o) for o in objects))))
        learned = torch.stack(
            [
                torch.cat((o.bboxes, o.bboxes.new_zeros(1, 4)))[index]
                for o, index in zip(objects, targets.gt_index)
            ]
        )
        boxes = self._decode([level.detach() for level in outputs[1]])
        overlap = paired_iou(boxes, learned)
        return losses, Proposals(
            flatten_levels(embeds), flatten_levels(margins), targets.gt_index, overlap
        )

    def _grid(self, maps: Sequence[Tensor]) -> PointGrid:
        return make_grid(
            [tuple(level.shape[-2:]) for level in maps], self.strides, device=maps[0].device
        )

    def _assign(self, grid: PointGrid, gt: InstanceData) -> PointTargets:
        allowed = points_on_masks(grid.points, gt.masks) if self.sample_in_mask else None
        ranges = grid.points.new_tensor(self.regress_ranges)
        return assign_points(grid, gt.bboxes, ranges, self.center_radius, allowed=allowed)

    def _decode(self, box_maps: Sequence[Tensor]) -> Tensor:
        """Predictions of all levels -> boxes Tensor[B, P, 4] in pixels."""
        sizes = [level.shape[-2:] for level in box_maps]
        priors = self.head.prior_generator.grid_priors(sizes, device=box_maps[0].device)
        boxes = []
        for level, prior, stride in zip(box_maps, priors, self.strides):
            flat = level.float().flatten(2).transpose(1, 2)
            prior = get_box_tensor(prior)
            if hasattr(self.head, 'integral'):
                # GFL predicts a distribution over each distance, in units of the stride
                batch, points = flat.shape[:2]
                flat = (
                    self.head.integral(flat.reshape(batch * points, -1)).view(batch, points, 4)
                    * stride
                )
                prior = (prior[:, :2] + prior[:, 2:]) / 2 if prior.shape[1] == 4 else prior
            boxes.append(
                torch.stack(
                    [get_box_tensor(self.head.bbox_coder.decode(prior, each)) for each in flat]
                )
            )
        return torch.cat(boxes, dim=1)

    def predict_instances(self, x: Sequence[Tensor], metas: list[dict]) -> InstanceList:
        """Detections of a batch, see ``select_detections``; boxes in network pixels."""
        outputs, embeds, margins = self(x)
        scores = flatten_levels(outputs[0]).float().sigmoid()
        factors = torch.ones_like(scores[..., 0])
        if len(outputs) > 2:
            factors = flatten_levels(outputs[2]).float().sigmoid().squeeze(-1)
        fields = (
            scores,
            factors,
            self._decode(outputs[1]),
            flatten_levels(embeds),
            flatten_levels(margins),
        )
        counts = self._grid(outputs[0]).counts
        return [
            select_detections(
                PointPredictions(*image), counts, meta['img_shape'][:2], self.test_cfg or {}
            )
            for image, meta in zip(zip(*fields), metas)
        ]

    def export_boxes(self, boxes: Tensor, meta: dict, rescale: bool) -> Tensor:
        """Boxes Tensor[N, 4] of the network input -> of the network input or the original image."""
        return (
            boxes / boxes.new_tensor(tuple(meta['scale_factor'])[:2]).repeat(2)
            if rescale
            else boxes
        )
