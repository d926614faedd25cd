"""DeepMask: class-agnostic mask proposals from sliding windows.

Paper:    https://arxiv.org/abs/1506.06204 (DeepMask), https://arxiv.org/abs/1603.08695 (SharpMask)
Origin:   facebookresearch/deepmask, BSD with a patent grant; foolwood/deepmask-pytorch, MIT
Changes:  the mask head runs on the selected windows only; masks leave as RLE chunk by chunk;
          windows are decoded correctly unless the released index error is asked for; boxes are
          segmented in batches.

Shapes:   B images or patches, N windows, D code channels, S mask side.
"""

from collections.abc import Callable, Sequence

import torch
from mmcv.ops import batched_nms
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.dist import get_world_size
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from mmrefine.checkpoint import rename_authors_weights
from mmrefine.layers import as_weights, autocast_to, require_finite, without_autocast
from mmrefine.masks import in_format, output_size, roi_masks_to_rle

from .proposal_settings import checked_test_cfg
from .trunk import STRIDE, StemResNet, receptive_radius, run_in_tiles
from .windows import (
    Level,
    Placement,
    Windows,
    crop_patches,
    framing_windows,
    gather_windows,
    level_image,
    paste_windows,
    scaled_size,
    select_windows,
    tight_boxes,
    windows_at_once,
)

# Pixels of a level that the trunk computes at once. ResNet-50 takes about 250 bytes for each.
TILE_PIXELS = 2_500_000
# Cells of a level that are scored at once: all codes of a large level are its largest tensor.
SCORED_CELLS = 1 << 13


@MODELS.register_module()
class DeepMask(BaseDetector):
    """Sliding-window mask proposals.

    Training takes patches (``ObjectPatchDataset``), testing whole images at their own size.

    ``test_cfg`` (all optional): ``log2_scales`` pyramid exponents; ``max_per_img`` proposals;
    ``mask_thr`` probability, strict; ``paste`` rule (``official``, ``port``, ``grid``);
    ``size_rounding`` of levels (``half_up``, ``floor``); ``index_quirk`` of the released code;
    ``mask_format`` (``dense``, ``rle``); ``chunk`` windows refined at once; ``strip`` pixels of a
    level that the trunk computes at once (``auto`` = 2.5 million, None = whole levels, as trunks
    that see the whole image always do; same masks); ``trunk_dtype`` (``bfloat16``, ``float16``);
    ``nms`` of the tight boxes, an IoU threshold or what ``mmcv.ops.batched_nms`` takes (None =
    off, as published).

    Args:
        backbone: Trunk returning maps from stride 2 or 4 to stride 16, finest first.
        mask_head: ``DeepMaskHead``.
        train_cfg: ``context`` = stride-16 cells of image context around a training patch (default
            1); ``skip_idle`` = in a batch without masks (or without scores), leave the parameters
            of that branch without gradients, so that the optimiser does not step them. Parity: as
            in the Torch7 code, which has one optimiser per branch; the default (False) lets decay
            and momentum act on, as the port does.
        test_cfg: See above.
    """

    def __init__(
        self,
        backbone: ConfigType,
        mask_head: ConfigType,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.mask_head = MODELS.build(mask_head)
        train_cfg = train_cfg or {}
        self.context = train_cfg.get('context', 1)
        self.skip_idle = train_cfg.get('skip_idle', False)
        self.test_cfg = checked_test_cfg(test_cfg or {})
        self.register_load_state_dict_pre_hook(rename_authors_weights)

    @property
    def window(self) -> int:
        """Side of a window in pixels of the network input."""
        return self.mask_head.grid_size * STRIDE

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensor[B, 3, H, W] -> trunk maps, finest first."""
        return tuple(self.backbone(batch_inputs))

    def patch_codes(self, batch_inputs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Trunk maps (finest first) and codes Tensor[B, D, 1, 1] of patches with their context
        ring."""
        grid = self.mask_head.grid_size + 2 * self.context
        if batch_inputs.shape[-2:] != (grid * STRIDE,) * 2:
            raise ValueError(
                f'patches must be {grid * STRIDE} px square (window {self.window} px and '
                f'{self.context} cells of context on each side), '
                f'got {tuple(batch_inputs.shape[-2:])}'
            )
        features = self.extract_feat(batch_inputs)
        return features, self.core_codes(features[-1])

    def core_codes(self, feature: Tensor) -> Tensor:
        """Last trunk map of patches with their context ring -> codes Tensor[B, D, 1, 1]."""
        end = self.context + self.mask_head.grid_size
        return self.mask_head.encode(feature[..., self.context : end, self.context : end])

    def patch_masks(self, features: Sequence[Tensor], codes: Tensor) -> Tensor:
        """Mask logits Tensor[B, S, S] of patches."""
        return self.mask_head.masks(codes.flatten(1))

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Mask and score losses of a batch of patches.

        Each sample's ``gt_instances`` holds one entry: ``patch_masks`` uint8 Tensor[1, g, g],
        ``patch_scores`` Tensor[1], and the flags ``has_mask`` and ``has_score``.
        """
        features, codes = self.patch_codes(batch_inputs)
        truth = InstanceData.cat([sample.gt_instances for sample in batch_data_samples])
        head = self.mask_head
        masks = head.loss_masks(
            self.patch_masks(features, codes), truth.patch_masks, truth.has_mask
        )
        scores = head.loss_scores(head.scores(codes).flatten(), truth.patch_scores, truth.has_score)
        if self.skip_idle:
            masks = masks if truth.has_mask.any() else masks.detach()
            scores = scores if truth.has_score.any() else scores.detach()
        # Gradients are averaged over ranks; the published loss sums over the whole batch.
        world = get_world_size()
        return dict(loss_mask=masks * world, loss_score=scores * world)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple:
        """Patch outputs: mask logits Tensor[B, S, S], score logits Tensor[B]."""
        features, codes = self.patch_codes(batch_inputs)
        return self.patch_masks(features, codes), self.mask_head.scores(codes).flatten()

    @torch.no_grad()
    def predict_boxes(self, image: Tensor, boxes: Tensor, mask_thr: float = 0.3) -> InstanceData:
        """Segment the objects in given boxes (Fast R-CNN detections, a tracker, a user's drawing).

        Every box is widened to the canonical framing of training and cropped with its context ring.

        Args:
            image: Normalised Tensor[1, 3, h, w].
            boxes: Tensor[N, 4], (x1, y1, x2, y2) in pixels of the image.
            mask_thr: Foreground probability.

        Returns:
            ``masks`` (format of ``test_cfg``), ``bboxes`` as given, ``scores`` of the score branch.
        """
        valid = (boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1)
        if not bool(valid.all()):
            raise ValueError(
                'boxes must be finite (x1, y1, x2, y2) with x2 > x1 and y2 > y1, '
                f'got {boxes[~valid][0].tolist()}'
            )
        windows = framing_windows(boxes.float())
        grid, fill = self.mask_head.grid_size, self.fill_colour(image)
        ring = self.context / grid * (windows[:, 2:] - windows[:, :2])
        outer = torch.cat([windows[:, :2] - ring, windows[:, 2:] + ring], 1)
        size, image_size = (grid + 2 * self.context) * STRIDE, tuple(image.shape[-2:])
        rles, scores = [], [boxes.new_zeros(0)]
        chunk = self.test_cfg['chunk']
        for part, patches in zip(windows.split(chunk), outer.split(chunk)):
            logits, score = self._forward(crop_patches(image, patches, size, fill))
            rles += roi_masks_to_rle(logits, part, image_size, mask_thr, logits=True)
            scores.append(score.sigmoid())
        masks = in_format(rles, image_size, self.test_cfg['mask_format'], boxes.device)
        return InstanceData(bboxes=boxes, masks=masks, scores=torch.cat(scores))

    @torch.no_grad()
    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Propose masks, or judge patches when the samples carry patch labels.

        ``pred_instances`` of an image: ``masks`` (BoolTensor[N, h, w] or ``RLEMasks``), tight
        ``bboxes`` Tensor[N, 4] in image pixels, ``scores`` Tensor[N] (descending), ``labels``
        (zeros).
        ``pred_instances`` of a patch: ``mask_logits`` Tensor[1, S, S] and ``scores``.
        """
        if batch_data_samples and 'patch_masks' in batch_data_samples[0].get('gt_instances', {}):
            masks, scores = self._forward(batch_inputs)
            for sample, mask, score in zip(batch_data_samples, masks, scores):
                sample.pred_instances = InstanceData(mask_logits=mask[None], scores=score[None])
            return batch_data_samples
        results = []
        for image, sample in zip(batch_inputs, batch_data_samples):
            # An image alone needs no meta information: it is then all of its tensor.
            shape = tuple(image.shape[-2:])
            meta = dict(img_shape=shape) | sample.metainfo
            height, width = output_size(meta, rescale=False)
            size = output_size(dict(ori_shape=meta['img_shape']) | meta, rescale)
            results.append(self.propose(image[None, :, :height, :width], size))
        return self.add_pred_to_datasample(batch_data_samples, results)

    @torch.no_grad()
    def propose(self, image: Tensor, output_size: tuple[int, int] | None = None) -> InstanceData:
        """Propose masks on one normalised image Tensor[1, 3, h, w].

        ``output_size`` is the ``(h, w)`` of the returned masks if the image was resized; default
        its own.
        """
        if image.shape[1] != 3:
            raise ValueError(
                f'need three colour channels, got {image.shape[1]}: load grey files with '
                "dict(type='LoadImageFromFile', color_type='color')"
            )
        levels = self.levels(image)
        windows = select_windows(levels, self.test_cfg['max_per_img'], self.test_cfg['index_quirk'])
        size = tuple(image.shape[-2:])
        return self._results(levels, windows, size, output_size or size)

    def levels(self, image: Tensor) -> list[Level]:
        """Maps and scores of every level of the pyramid over a normalised Tensor[1, 3, h, w]."""
        found, dtype = {}, self.test_cfg['trunk_dtype']
        # Largest first: later its tiles would not fit into the holes that smaller levels leave in
        # the heap between the maps kept of them.
        for exponent in sorted(self.test_cfg['log2_scales'], reverse=True):
            with autocast_to(image.device, dtype) if dtype else without_autocast(image.device):
                reduced, *horizontals = self._scaled_maps(image, 2.0**exponent)
                scores = self._window_scores(reduced)
            found[exponent] = Level(2.0**exponent, reduced, scores, horizontals)
        return [found[exponent] for exponent in self.test_cfg['log2_scales']]

    def fill_colour(self, image: Tensor) -> Tensor:
        """Mid-grey Tensor[3], the colour outside the image, normalised as the image is."""
        grey = image.new_full((3,), 127.5)
        mean, std = (getattr(self.data_preprocessor, key, None) for key in ('mean', 'std'))
        return grey if mean is None else ((127.5 - mean.flatten()) / std.flatten()).to(image)

    def level_maps(self, image: Tensor) -> list[Tensor]:
        """Reduced stride-16 map of a level, then whatever the masks need."""
        return [self.mask_head.reduce(self.visit_features(image, lambda feature: None))]

    def visit_features(self, image: Tensor, read: Callable[[Tensor], None]) -> Tensor:
        """Call ``read`` with each trunk map, finest first, and return the last one.

        Only one map of a ``StemResNet`` is alive at a time: together they would double the memory.
        """
        if isinstance(self.backbone, StemResNet):
            return self.backbone.visit(image, read)
        features = self.extract_feat(image)
        for feature in features:
            read(feature)
        return features[-1]

    def level_strides(self) -> list[int]:
        """Stride of each of the ``level_maps``."""
        return [STRIDE]

    def level_radius(self) -> int | None:
        """Pixels that a cell of the ``level_maps`` sees around its centre; None if unbounded."""
        return receptive_radius(self.backbone)

    def _scaled_maps(self, image: Tensor, scale: float) -> list[Tensor]:
        size = scaled_size(tuple(image.shape[-2:]), scale, self.test_cfg['size_rounding'])
        margin, fill = self.window // 2, self.fill_colour(image)
        radius, limit = self.level_radius(), self.test_cfg['strip']
        if limit is None or radius is None:
            return self.level_maps(level_image(image, size, margin, fill))
        return run_in_tiles(
            self.level_maps,
            lambda *part: level_image(image, size, margin, fill, part),
            (size[0] + 2 * margin, size[1] + 2 * margin),
            self.level_strides(),
            halo=-(-radius // STRIDE) * STRIDE,
            limit=TILE_PIXELS if limit == 'auto' else limit,
        )

    def _window_scores(self, reduced: Tensor) -> Tensor:
        """Score logits Tensor[R, Q] of all windows of a map Tensor[1, C, H/16, W/16]."""
        head, grid = self.mask_head, self.mask_head.grid_size
        rows = reduced.shape[-2] - grid + 1
        step = max(SCORED_CELLS // reduced.shape[-1], 1)
        scores = []
        for top in range(0, rows, step):
            codes = head.encoder(reduced[..., top : min(top + step, rows) + grid - 1, :])
            with without_autocast(codes.device):
                scores.append(head.scores(as_weights(codes, head.score_fc1))[0])
        found = torch.cat(scores)
        require_finite('the scores of the windows', found)
        return found

    def window_codes(self, level: Level, cells: Tensor, batch: int = 128) -> Tensor:
        """Codes Tensor[N, D] of windows of one level, as one matrix product per batch."""
        encoder, grid = self.mask_head.encoder, self.mask_head.grid_size
        weight, codes = encoder.weight.flatten(1), []  # (D, C G G)
        for part in cells.split(batch):
            blocks = gather_windows(level.reduced, part, grid, 1).flatten(1)  # (N, C G G)
            codes.append(F.linear(blocks.to(weight.dtype), weight, encoder.bias))
        return torch.cat(codes)

    def window_masks(self, level: Level, codes: Tensor, cells: Tensor) -> Tensor:
        """Mask logits Tensor[N, S, S] of windows of one level."""
        return self.mask_head.masks(codes)

    def _results(
        self,
        levels: Sequence[Level],
        windows: Windows,
        input_size: tuple[int, int],
        size: tuple[int, int],
    ) -> InstanceData:
        """Masks of the selected windows, chunk by chunk, in an image of ``size``."""
        rles: list[dict] = [{}] * len(windows.scores)
        thr, rule = self.test_cfg['mask_thr'], self.test_cfg['paste']
        for i, level in enumerate(levels):
            ranks = (windows.levels == i).nonzero().flatten()
            codes = self.window_codes(level, windows.cells[ranks])
            # Pixels of the network input per pixel of the result.
            scale = (level.scale * input_size[0] / size[0], level.scale * input_size[1] / size[1])
            step = min(self.test_cfg['chunk'], windows_at_once(scale, size, self.window))
            for part, code in zip(ranks.split(step), codes.split(step)):
                cells = windows.cells[part]
                logits = self.window_masks(level, code, cells)
                place = Placement(cells, scale, size, thr, self.window, rule)
                found = paste_windows(logits, place)
                for rank, rle in zip(part.tolist(), found):
                    rles[rank] = rle
        results = InstanceData(scores=windows.scores.sigmoid())
        results.bboxes = windows.scores.new_tensor(tight_boxes(rles))
        results.labels = torch.zeros_like(windows.levels)
        results.masks = in_format(rles, size, self.test_cfg['mask_format'], windows.scores.device)
        if self.test_cfg['nms'] is None or not len(results):
            return results
        boxes = results.bboxes, results.scores, results.labels
        found, kept = batched_nms(*boxes, self.test_cfg['nms'])
        kept, order = kept.sort()  # equal scores stay in the order of their windows
        results = results[kept]
        results.scores = found[order, -1]  # soft suppression lowers them
        return results[results.scores.argsort(descending=True, stable=True)]
