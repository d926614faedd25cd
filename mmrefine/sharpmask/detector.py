"""DeepMask: class-agnostic mask proposals from sliding windows.

Paper:    https://arxiv.org/abs/1506.06204 (DeepMask), https://arxiv.org/abs/1603.08695 (SharpMask)
Origin:   facebookresearch/deepmask, BSD with a patent grant; foolwood/deepmask-pytorch, MIT
Changes:  mask head and refinement run on the selected windows only; masks leave as RLE chunk by
          chunk; windows are decoded correctly unless the released code's index error is asked for.

Shapes:   B images or patches, N windows, D code channels, S mask side.
"""

from collections.abc import Iterator, Sequence

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.dist import get_world_size
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from mmrefine.checkpoint import rename_authors_weights
from mmrefine.masks import boxed_masks_to_rle, in_format

from .box_prompts import crop_boxes
from .options import checked_options
from .paste import paste_windows, tight_boxes, window_chunks
from .pyramid import STRIDE, Level, Windows, level_image, scaled_size, select_windows
from .refine_head import gather_windows
from .strips import StripPlan, can_fold

# pixels of a level per strip: on a processor its maps stay in the cache, a larger device needs more
STRIP_PIXELS = dict(cpu=3 << 15)
LARGE_STRIP = 1 << 22
# cells of a level scored at once, and rows of the encoder's kernel (None: all)
SCORING = dict(cpu=(1 << 11, 2))
LARGE_SCORING = (1 << 14, None)


@MODELS.register_module()
class DeepMask(BaseDetector):
    """Sliding-window mask proposals.

    Training takes patches (``ObjectPatchDataset``), testing whole images at their own size.

    ``test_cfg`` (all optional): ``log2_scales`` pyramid exponents; ``max_per_img`` proposals;
    ``mask_thr`` probability, strict; ``paste`` rule (``official``, ``port``, ``grid``);
    ``size_rounding`` of levels (``half_up``, ``floor``); ``index_quirk`` of the released code;
    ``mask_format`` (``dense``, ``rle``); ``chunk`` windows refined at once; ``strip`` pixels of a
    level that the trunk computes at once (``auto`` by device, None = whole levels, as trunks other
    than a plain ``StemResNet`` always do; same masks); ``trunk_dtype`` (``bfloat16``,
    ``float16``); ``nms`` an IoU threshold on the tight boxes (None = off, as published).

    Args:
        backbone: Trunk returning maps from stride 2 or 4 to stride 16, finest first.
        mask_head: ``DeepMaskHead``.
        train_cfg: ``context`` = stride-16 cells of image context around a training patch (default
            1).
        test_cfg: See above.

    Raises:
        ValueError: Unknown ``test_cfg`` key or value.
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
        self.context = (train_cfg or {}).get('context', 1)
        self.test_cfg = checked_options(test_cfg or {})
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
        end = grid - self.context
        core = features[-1][..., self.context : end, self.context : end]
        return features, self.mask_head.encode(core)

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
        # gradients are averaged over ranks, the published loss sums mask terms over the whole batch
        world = get_world_size()
        masks = head.loss_masks(
            self.patch_masks(features, codes), truth.patch_masks, truth.has_mask
        )
        scores = head.loss_scores(head.scores(codes).flatten(), truth.patch_scores, truth.has_score)
        return dict(loss_mask=masks * world, loss_score=scores * world)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple:
        """Patch outputs: mask logits Tensor[B, S, S], score logits Tensor[B]."""
        features, codes = self.patch_codes(batch_inputs)
        return self.patch_masks(features, codes), self.mask_head.scores(codes).flatten()

    @torch.no_grad()
    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Propose masks, or judge patches when the samples carry patch labels.

        ``pred_instances`` of an image: ``masks`` (BoolTensor[N, h, w] or N RLEs), tight ``bboxes``
        Tensor[N, 4] in image pixels, ``scores`` Tensor[N] (descending), ``labels`` (zeros).
        ``pred_instances`` of a patch: ``mask_logits`` Tensor[1, S, S] and ``scores``.
        """
        if batch_data_samples and 'patch_masks' in batch_data_samples[0].get('gt_instances', {}):
            masks, scores = self._forward(batch_inputs)
            for sample, mask, score in zip(batch_data_samples, masks, scores):
                sample.pred_instances = InstanceData(mask_logits=mask[None], scores=score[None])
            return batch_data_samples
        results = []
        for image, sample in zip(batch_inputs, batch_data_samples):
            height, width = sample.metainfo.get('img_shape', image.shape[-2:])[:2]
            size = (
                sample.metainfo.get('ori_shape', (height, width))[:2]
                if rescale
                else (height, width)
            )
            results.append(self.propose(image[None, :, :height, :width], tuple(size)))
        return self.add_pred_to_datasample(batch_data_samples, results)

    @torch.no_grad()
    def propose(self, image: Tensor, output_size: tuple[int, int] | None = None) -> InstanceData:
        """Propose masks on one normalised image.

        Args:
            image: Tensor[1, 3, h, w].
            output_size: ``(h, w)`` of the returned masks if the image was resized; default its own
                size.
        """
        if image.shape[1] != 3:
            raise ValueError(
                f'need three colour channels, got {image.shape[1]}: load grey files with '
                "dict(type='LoadImageFromFile', color_type='color')"
            )
        levels = self.levels(image)
        windows = select_windows(levels, self.test_cfg['max_per_img'], self.test_cfg['index_quirk'])
        return self._paste(levels, windows, tuple(image.shape[-2:]), output_size)

    def levels(self, image: Tensor) -> list[Level]:
        """Maps and scores of every level of the pyramid over a normalised Tensor[1, 3, h, w]."""
        scales = [2.0**exponent for exponent in self.test_cfg['log2_scales']]
        plan = self._plan()
        maps = [self._scaled_maps(image, scale, plan) for scale in scales]
        # before the scores: its folded weights are half of an image's memory
        del plan
        with self._reduced_precision(image):
            scores = [self._window_scores(level[0]) for level in maps]
        return [Level(s, m[0], found, m[1:]) for s, m, found in zip(scales, maps, scores)]

    def _reduced_precision(self, image: Tensor) -> torch.autocast:
        dtype = self.test_cfg['trunk_dtype']
        return torch.autocast(
            image.device.type, getattr(torch, dtype or 'bfloat16'), enabled=dtype is not None
        )

    def fill_colour(self, image: Tensor) -> Tensor:
        """Normalised mid-grey Tensor[3], the colour outside the image."""
        preprocessor = self.data_preprocessor
        if not getattr(preprocessor, '_enable_normalize', False):
            return image.new_zeros(3)
        mean, std = preprocessor.mean.flatten(), preprocessor.std.flatten()
        return ((127.5 - mean) / std).to(image)

    def _level_maps(self, image: Tensor) -> list[Tensor]:
        """Reduced stride-16 map of a level, then whatever the masks need."""
        return [self.mask_head.reduce(self.extract_feat(image)[-1])]

    def _branches(self) -> list[tuple[int, list[tuple[nn.Module, bool]]]]:
        """What ``_level_maps`` computes: trunk map index, and convolutions with their ReLU flag."""
        return [(-1, [(self.mask_head.reduce_conv, True)])]

    def _plan(self) -> StripPlan | None:
        branches = self._branches()
        convs = [conv for _, chain in branches for conv, _ in chain]
        if self.test_cfg['strip'] is None or not can_fold(self.backbone, convs):
            return None
        own, name = self.backbone.conv1.weight.dtype, self.test_cfg['trunk_dtype']
        return StripPlan(self.backbone, branches, getattr(torch, name) if name else own)

    def _scaled_maps(self, image: Tensor, scale: float, plan: StripPlan | None) -> list[Tensor]:
        size = scaled_size(tuple(image.shape[-2:]), scale, self.test_cfg['size_rounding'])
        margin, fill = self.window // 2, self.fill_colour(image)
        with self._reduced_precision(image):
            if plan is None:
                return self._level_maps(level_image(image, size, margin, fill))
            height, width = (n + 2 * margin for n in size)
            area = self.test_cfg['strip']
            if area == 'auto':
                area = STRIP_PIXELS.get(image.device.type, LARGE_STRIP)
            step = max(area // width // STRIDE, 1) * STRIDE
            return plan.run(
                lambda *rows: level_image(image, size, margin, fill, rows), height, step
            )

    def _window_scores(self, reduced: Tensor) -> Tensor:
        # codes of all windows of a large level would be the largest tensor of the image: score
        # them in strips
        head, grid = self.mask_head, self.mask_head.grid_size
        cells, kernel_rows = SCORING.get(reduced.device.type, LARGE_SCORING)
        rows = reduced.shape[-2] - grid + 1
        step = max(cells // reduced.shape[-1], 1)
        strips = []
        for top in range(0, rows, step):
            part = reduced[..., top : min(top + step, rows) + grid - 1, :]
            codes = head.encode_by_rows(part, kernel_rows or grid)
            with torch.autocast(codes.device.type, enabled=False):
                strips.append(head.scores(codes.float())[0])
        return torch.cat(strips)

    def window_codes(self, level: Level, cells: Tensor, batch: int = 128) -> Tensor:
        """Codes Tensor[N, D] of windows of one level, as one matrix product per batch."""
        encoder, grid = self.mask_head.encoder, self.mask_head.grid_size
        codes = [cells.new_zeros((0, encoder.out_channels), dtype=encoder.weight.dtype)]
        for part in cells.split(batch):
            blocks = gather_windows(level.reduced, part, torch.zeros_like(part[:, 0]), grid, 1)
            blocks = blocks.flatten(1).to(encoder.weight.dtype)
            codes.append(F.linear(blocks, encoder.weight.flatten(1), encoder.bias))
        return torch.cat(codes)

    def window_masks(self, level: Level, codes: Tensor, cells: Tensor) -> Tensor:
        """Mask logits Tensor[N, S, S] of windows of one level."""
        return self.mask_head.masks(codes)

    def _chunks(
        self,
        levels: Sequence[Level],
        windows: Windows,
        scales: Sequence[tuple[float, float]],
        size: tuple[int, int],
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """(ranks, mask logits, level) of at most ``chunk`` windows of one level at a time."""
        for i, level in enumerate(levels):
            ranks = (windows.levels == i).nonzero().flatten()
            codes = self.window_codes(level, windows.cells[ranks])
            for part in window_chunks(scales[i], size, self.window, len(ranks)):
                pairs = zip(*(x[part].split(self.test_cfg['chunk']) for x in (ranks, codes)))
                for chosen, own in pairs:
                    yield chosen, self.window_masks(level, own, windows.cells[chosen]), i

    def _paste(
        self,
        levels: Sequence[Level],
        windows: Windows,
        input_size: tuple[int, int],
        output_size: tuple[int, int] | None,
    ) -> InstanceData:
        size = output_size or input_size
        factors = [out / own for own, out in zip(input_size, size)]
        scales = [(level.scale / factors[0], level.scale / factors[1]) for level in levels]
        rles: list[dict] = [{}] * len(windows.scores)
        for ranks, logits, i in self._chunks(levels, windows, scales, size):
            crops = paste_windows(
                logits,
                windows.cells[ranks],
                scales[i],
                size,
                self.test_cfg['mask_thr'],
                self.window,
                self.test_cfg['paste'],
            )
            encoded = boxed_masks_to_rle(crops.masks, crops.offsets, size)
            for rank, rle in zip(ranks.tolist(), encoded):
                rles[rank] = rle
        results = InstanceData(scores=windows.scores.sigmoid())
        results.bboxes = windows.scores.new_tensor(tight_boxes(rles))
        results.labels = torch.zeros_like(windows.levels)
        results.masks = in_format(rles, size, self.test_cfg['mask_format'], windows.scores.device)
        return self._suppress(results)

    def _suppress(self, results: InstanceData) -> InstanceData:
        if self.test_cfg['nms'] is None or not len(results):
            return results
        from mmcv.ops import nms  # imported late: only needed with this option

        _, keep = nms(results.bboxes, results.scores, self.test_cfg['nms'])
        return results[keep.sort().values]

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
        return crop_boxes(self, image, boxes, mask_thr)
