"""Build EmbedMask's heads from recorded weights and settings, and read recorded inputs."""

from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.checkpoint import rename
from mmrefine.embedmask.box_head import EmbedMaskBBoxHead
from mmrefine.embedmask.checkpoint import ADELAIDET, BENCHMARK, CONVERTERS
from mmrefine.embedmask.mask_head import EmbedMaskHead
from mmrefine.embedmask.targets import Proposals
from mmrefine.masks import to_dense

from .golden import Golden
from .report import Report

HEAD_TOLERANCE = dict(atol=1e-4, rtol=1e-4)
LOSS_TOLERANCE = dict(rtol=1e-5)
GRADIENT_TOLERANCE = dict(rtol=2e-3)
MAX_MASK_SHARE = 5e-4

PROPOSAL = dict(
    v1=dict(coord_embed=False, margin_source='box', margin_dims='one'),
    v2=dict(margin_dims='one'),
    v3=dict(),
    adet=dict(learn_position_scale=False, reduce_channels=128),
)
MASK_LOSS = dict(
    v1=dict(
        select='mean', average='objects', min_probability=0.0, box_padding=0.1, smooth_weight=0.1
    ),
    v2=dict(box_padding=0.1),
    v3=dict(),
    adet=dict(
        select='all',
        average='batch',
        targets='sampled',
        min_probability=1e-6,
        max_proposals=500,
        loss_weight=1.0,
    ),
)
OUTPUT = dict(
    v1=dict(box_halo=1),
    v2=dict(box_halo=1),
    v3=dict(box_halo=2, truncate_boxes=True, log_space=True),
    adet=dict(box_halo=None),
)


@dataclass
class Heads:
    """Both heads with the recorded weights, and the names of their parameters in the original."""

    bbox: EmbedMaskBBoxHead
    mask: EmbedMaskHead
    names: dict[str, str]

    def losses(
        self, x: list[Tensor], objects: list[InstanceData]
    ) -> tuple[dict[str, Tensor], Proposals]:
        """All losses from pyramid maps, as the detector adds them up, and the proposals."""
        losses, proposals = self.bbox.loss_by_feat(self.bbox(x), objects)
        pixels = self.mask(x, self.bbox.position())
        losses.update(self.mask.loss_by_feat(pixels, proposals, objects))
        losses.update(self.mask.semantic_loss(x, objects))
        return losses, proposals

    def parameter(self, official: str) -> nn.Parameter:
        """The parameter that the original calls so."""
        head, name = self.names[official].split('.', 1)
        return dict((self.bbox if head == 'bbox_head' else self.mask).named_parameters())[name]


def _variant(weights: dict[str, Tensor]) -> str:
    return next(c.name for c in CONVERTERS if c.recognise(weights)).removeprefix('embedmask-')


def _official(golden: Golden) -> dict[str, Tensor]:
    """Recorded weights under their complete official names (head files leave out a prefix)."""
    weights = golden.state_dict()
    if any(
        key.startswith(('rpn.', 'proposal_')) and '.' in key for key in weights if 'head.' in key
    ):
        return weights
    return {f'rpn.head.{key}': value for key, value in weights.items()}


def build_heads(golden: Golden, device: torch.device) -> Heads:
    """Both heads as the file's weights and settings demand."""
    meta, official = golden.json('meta'), _official(golden)
    variant = _variant(official)
    converter = next(c for c in CONVERTERS if c.name == f'embedmask-{variant}')
    weights = converter.convert(official)
    cfg, adet = meta.get('cfg', {}), variant == 'adet'
    channels = meta.get('in_channels') or meta['fpn_channels']
    embed_dim = next(
        len(v)
        for k, v in weights.items()
        if k.endswith(('conv_embed.weight', 'conv_embed_free.weight'))
    )
    embed_dim += 0 if variant == 'v1' else 2
    test_cfg = dict(
        score_thr=meta.get('score_thr', 0.05),
        nms_pre=meta.get('pre_nms_top_n', 1000),
        nms=dict(iou_threshold=meta.get('nms_thr', 0.6)),
        max_per_img=meta.get('detections_per_img', 100),
        mask_thr=meta.get('mask_th', 0.53 if variant in ('v2', 'v3') else 0.5),
        filter_by_product=adet,
        sqrt_score=adet,
        clip_before_nms=not adet,
    )
    bbox = EmbedMaskBBoxHead(
        num_classes=meta['num_classes'],
        in_channels=channels,
        feat_channels=channels,
        strides=meta.get('strides', (8, 16, 32, 64, 128)),
        proposal=dict(embed_dim=embed_dim, **PROPOSAL[variant]),
        sample_in_mask=cfg.get('SAMPLE_IN_MASK', not adet),
        center='mask' if adet else 'box',
        inclusive_boxes=not adet,
        loss_bbox=dict(type='LtrbIoULoss', kind='giou', offset=1.0, hull_eps=0.0 if adet else 1e-7),
        test_cfg=test_cfg,
    )
    loss = dict(MASK_LOSS[variant])
    if 'BOX_PADDING' in cfg:
        loss['box_padding'] = cfg['BOX_PADDING'] if cfg['BOX_PADDING'] >= 0 else None
    mask = EmbedMaskHead(
        num_classes=meta['num_classes'],
        in_channels=channels,
        feat_channels=meta.get('mask_branch_channels', channels),
        embed_dim=embed_dim,
        coord_embed=variant != 'v1',
        branch='merged' if adet else 'finest',
        enlarge='aligned' if adet else 'bilinear',
        loss=loss,
        loss_semantic=dict(type='FocalLoss', use_sigmoid=True) if adet else None,
        output=OUTPUT[variant],
        test_cfg=test_cfg,
    )
    for name, head in (('bbox_head', bbox), ('mask_head', mask)):
        head.load_state_dict(
            {k.removeprefix(f'{name}.'): v for k, v in weights.items() if k.startswith(f'{name}.')}
        )
        head.to(device)
    rules = ADELAIDET if adet else BENCHMARK
    return Heads(bbox, mask, {key: rename(key, rules) for key in official if rename(key, rules)})


def features(golden: Golden, device: torch.device, grad: bool = False) -> list[Tensor]:
    """Recorded feature maps of the five levels."""
    return [golden.tensor(f'in/feat{i}', device).requires_grad_(grad) for i in range(5)]


def objects_of(golden: Golden, device: torch.device, first_label: int) -> list[InstanceData]:
    """Recorded objects, masks padded to the canvas; boxes as the generation counts them."""
    height, width = golden.json('meta')['padded_hw']
    objects = []
    while f'in/gt_boxes_{len(objects)}' in golden:
        i = len(objects)
        masks = golden.tensor(f'in/gt_masks_{i}', device).bool()
        canvas = masks.new_zeros(len(masks), height, width)
        canvas[:, : masks.shape[1], : masks.shape[2]] = masks
        objects.append(
            InstanceData(
                bboxes=golden.tensor(f'in/gt_boxes_{i}', device),
                labels=golden.tensor(f'in/gt_labels_{i}', device) - first_label,
                masks=canvas,
            )
        )
    return objects


def _gradient_error(report: Report, name: str, ours: Tensor, reference: np.ndarray) -> None:
    """Length of the difference over length of the recorded gradient."""
    reference = torch.from_numpy(reference).to(ours)
    length = reference.norm().clamp(min=1e-12)
    report.close(
        name,
        (ours.reshape(reference.shape) - reference).norm() / length,
        0.0,
        atol=GRADIENT_TOLERANCE['rtol'],
    )


def check_gradients(
    golden: Golden, report: Report, heads: Heads, prefix: str, loss: Tensor, x: list[Tensor]
) -> None:
    """Compare the gradients of ``loss`` with those recorded under ``prefix``."""
    keys = golden.keys_under(prefix)
    if not keys:
        return
    complete = {k: k if k in heads.names else f'rpn.head.{k}' for k in keys}
    wanted = [heads.parameter(complete[key]) for key in keys]
    grads = torch.autograd.grad(loss, [*wanted, *x], retain_graph=True, allow_unused=True)
    for key, parameter, grad in zip(keys, wanted, grads):
        grad = torch.zeros_like(parameter) if grad is None else grad
        _gradient_error(report, f'{prefix}/{key}', grad, golden[f'{prefix}/{key}'])
    if prefix == 'grad':
        for key in golden.keys_under('grad_in'):
            grad = grads[len(keys) + int(key.removeprefix('feat'))]
            reference = golden[f'grad_in/{key}']
            if reference.shape != tuple(grad.shape):
                step = grad.shape[1] // reference.shape[1]
                grad = grad[: len(reference), ::step]
            _gradient_error(report, f'grad_in/{key}', grad, reference)


def image_metas(network: np.ndarray, original: np.ndarray) -> list[dict]:
    """What the data pipeline would say of images of these sizes array[B, 2] (h, w)."""
    return [
        dict(
            img_shape=tuple(map(int, size)),
            ori_shape=tuple(map(int, old)),
            scale_factor=(float(size[1] / old[1]), float(size[0] / old[0])),
        )
        for size, old in zip(network, original)
    ]


def unpack_masks(packed: np.ndarray, width: int) -> np.ndarray:
    """Undo ``np.packbits`` along the last axis."""
    return np.unpackbits(packed, axis=-1)[..., :width] > 0


def compare_masks(
    report: Report, name: str, masks: Tensor | list[dict], reference: np.ndarray
) -> None:
    """Compare masks, dense or RLE, with the recorded ones array[N, h, w]."""
    dense = to_dense(masks, reference.shape[1:]).cpu().numpy()
    report.exact(name, dense, reference, max_share=MAX_MASK_SHARE)
