"""The part of a model that becomes a graph: features and boxes in, mask crops or maps out.

Shapes:   B images, N objects, L feature maps, S side of a mask crop, H x W cells of a mask map.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrefine.embedmask.detector import EmbedMask
from mmrefine.embedmask.mask_head import EmbedMaskHead
from mmrefine.refinemask.inference import refined_logits
from mmrefine.refinemask.mask_head import MultiStageMaskHead
from mmrefine.sharpmask.detector import DeepMask
from mmrefine.sharpmask.roi_mask_head import SharpMaskHead
from mmrefine.sipmask.assembly import cell_index
from mmrefine.sipmask.detector import SipMask
from mmrefine.sipmask.mask_head import SCORING_SIDE

from .pooling import check_extractor, pool


class Part(nn.Module):
    """What of a model goes into the graph.

    Args:
        model: The detector, in evaluation mode.
        with_backbone: Take images instead of feature maps.

    Attributes:
        object_names: Inputs with one row per object.
        output_names: Outputs, one row per object.
        open_masks: Whether the size of the masks follows that of the image.
    """

    object_names: tuple[str, ...] = ('rois', 'labels')
    output_names: tuple[str, ...] = ('masks',)
    open_masks = True

    def __init__(self, model: nn.Module, with_backbone: bool) -> None:
        super().__init__()
        self.model = model
        self.with_backbone = with_backbone

    @abstractmethod
    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Normalised images -> the maps that the masks need, finest first."""

    @abstractmethod
    def masks(self, maps: Sequence[Tensor], objects: Sequence[Tensor]) -> Tensor | tuple:
        """Maps and ``object_names`` -> ``output_names``."""

    @abstractmethod
    def example_objects(self, count: int, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Random values of ``object_names`` for ``count`` objects."""

    def images(self, count: int, image_size: tuple[int, int]) -> Tensor:
        """A random input for ``count`` objects: one image, unless every object has its own."""
        return torch.randn(1, 3, *image_size)

    def input_names(self, inputs: Sequence[Tensor]) -> list[str]:
        """Names of the inputs: ``images``, or ``map0``, ``map1``, ... from the finest, then the
        objects'."""
        maps = len(inputs) - len(self.object_names)
        first = ['images'] if self.with_backbone else [f'map{i}' for i in range(maps)]
        return [*first, *self.object_names]

    def forward(self, *inputs: Tensor) -> Tensor | tuple:
        """First images or maps, then the objects."""
        split = len(inputs) - len(self.object_names)
        maps = self.features(inputs[0]) if self.with_backbone else inputs[:split]
        return self.masks(maps, inputs[split:])

    def example(self, count: int, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Random inputs for ``count`` objects."""
        images = self.images(count, image_size)
        first = (images,) if self.with_backbone else tuple(self.features(images))
        return (*first, *self.example_objects(count, image_size))


class RoIPart(Part):
    """RefineMask and SharpMask heads: pyramid, RoIs (image, x1, y1, x2, y2) in pixels of the
    network input and labels in, probabilities Tensor[N, S, S] out."""

    open_masks = False

    def __init__(self, model: nn.Module, with_backbone: bool) -> None:
        super().__init__(model, with_backbone)
        self.head, self.extractor = model.roi_head.mask_head, model.roi_head.mask_roi_extractor
        check_extractor(self.extractor)
        self.fine_level = getattr(model.roi_head, 'fine_level', 0)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Levels of the pyramid that are used."""
        count = max(self.extractor.num_inputs, self.fine_level + 1)
        return self.model.extract_feat(images)[:count]

    def masks(self, maps: Sequence[Tensor], objects: Sequence[Tensor]) -> Tensor:
        """Tensor[B, C, h_i, w_i] per level, Tensor[N, 5], LongTensor[N] -> Tensor[N, S, S]."""
        rois, labels = map(one_more, objects)
        pooled = pool(self.extractor, maps, rois)
        if isinstance(self.head, SharpMaskHead):
            logits = self.head(pooled, labels=labels)
        else:
            stages, _ = self.head(pooled, maps[self.fine_level], rois, labels)
            logits = refined_logits(stages)
        return logits[:-1, 0].sigmoid()

    def example_objects(self, count: int, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """RoIs of all sizes."""
        boxes = random_boxes(count, image_size)
        classes = self.head.num_classes
        return torch.cat([boxes.new_zeros(count, 1), boxes], 1), torch.arange(count) % classes


class SipMaskPart(Part):
    """Basis and assembly: maps of the box tower, boxes (x1, y1, x2, y2) in pixels of the network
    input and coefficients in; probabilities Tensor[N, H, W] at half resolution out, 0 outside the
    boxes, and with re-scoring the mask scores."""

    object_names: tuple[str, ...] = ('boxes', 'coeffs')

    def __init__(self, model: SipMask, with_backbone: bool) -> None:
        super().__init__(model, with_backbone)
        self.head, self.cells = model.mask_head, model.bbox_head.num_cells
        if self.head.rescoring:
            self.object_names = ('boxes', 'coeffs', 'labels')
            self.output_names = ('masks', 'mask_scores')

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps of the box tower that feed the basis."""
        count = self.head.conv_fuse.in_channels // self.model.bbox_head.feat_channels
        return [self.model.bbox_head.reg_convs(x) for x in self.model.extract_feat(images)[:count]]

    def masks(self, maps: Sequence[Tensor], objects: Sequence[Tensor]) -> Tensor | tuple:
        """Tensor[1, C, h_i, w_i] per level, Tensor[N, 4], Tensor[N, k * k, C] (, LongTensor[N])."""
        boxes, coeffs = objects[0], objects[1]
        basis = self.head(maps)[0]
        x1, y1, x2, y2 = self.head.map_boxes(boxes).unbind(1)
        columns = cell_index(x1, x2, basis.shape[2], self.cells)
        rows = cell_index(y1, y2, basis.shape[1], self.cells)
        flat = basis.flatten(1)
        probs = torch.zeros_like(rows[:, :, None] * columns[:, None]).float()
        for cell in range(self.cells**2):
            own = (rows == cell // self.cells)[:, :, None] & (columns == cell % self.cells)[:, None]
            logits = (coeffs[:, cell] @ flat).unflatten(1, basis.shape[1:])
            probs = torch.where(own, logits.sigmoid(), probs)
        if not self.head.rescoring:
            return probs
        return probs, self.head.map_scores(probs, objects[2])

    def example_objects(self, count: int, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Boxes of all sizes and normal coefficients."""
        if self.head.rescoring and min(image_size) < 2 * SCORING_SIDE:
            raise ValueError(
                f'mask scores need maps of {SCORING_SIDE} cells, images of {2 * SCORING_SIDE} '
                f'pixels; {image_size} is less'
            )
        objects = [
            random_boxes(count, image_size),
            torch.randn(count, self.cells**2, self.head.num_bases),
        ]
        if self.head.rescoring:
            objects.append(torch.arange(count) % self.head.conv_scoring.out_channels)
        return tuple(objects)


class EmbedMaskPart(Part):
    """Pixel branch and masks: pyramid, boxes in pixels of the network input, embeddings and margins
    of the detections in; probabilities Tensor[N, H, W] at a quarter of the resolution out, or their
    logarithms in generations that resize these."""

    def __init__(self, model: EmbedMask, with_backbone: bool) -> None:
        super().__init__(model, with_backbone)
        self.head: EmbedMaskHead = model.mask_head
        self.position = model.bbox_head.position()
        cut = self.head.output.box_halo is not None
        self.object_names = ('boxes', 'embeds', 'margins') if cut else ('embeds', 'margins')

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Levels of the pyramid that the branch takes."""
        return self.model.extract_feat(images)[: 3 if self.head.branch == 'merged' else 1]

    def masks(self, maps: Sequence[Tensor], objects: Sequence[Tensor]) -> Tensor:
        """Tensor[1, C, h_i, w_i] per level, Tensor[N, 4], Tensor[N, D], Tensor[N, M]."""
        *boxes, embeds, margins = objects
        pixels = self.head.training_map(self.head(maps, self.position))[0]
        return self.head.output.soft_maps(pixels, embeds, margins, *boxes)

    def example_objects(self, count: int, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Boxes of all sizes, embeddings and margins as a detector has them."""
        proposal = self.model.bbox_head
        dims = proposal.embed_dim
        boxes = random_boxes(count, image_size)
        embeds = torch.randn(count, dims) / 10
        if proposal.coord_embed:
            embeds[:, :2] = (boxes[:, :2] + boxes[:, 2:]) / 200
        margins = torch.rand(count, dims if proposal.margin_dims == 'each' else 1) / 4
        return (boxes, embeds, margins)[-len(self.object_names) :]


class WindowPart(Part):
    """DeepMask and SharpMask: trunk maps of N windows with their context ring in; mask
    probabilities Tensor[N, S, S] and scores Tensor[N] out."""

    object_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ('masks', 'scores')
    open_masks = False

    @property
    def side(self) -> int:
        """Pixels of a window with its context ring."""
        return 16 * (self.model.mask_head.grid_size + 2 * self.model.context)

    def images(self, count: int, image_size: tuple[int, int]) -> Tensor:
        """One patch an object; the size is the model's."""
        return torch.randn(count, 3, self.side, self.side)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Trunk maps; DeepMask itself uses the last one."""
        maps = self.model.extract_feat(images)
        refined = hasattr(self.model, 'refine_head') and not self.model.coarse
        return maps if refined else maps[-1:]

    def masks(self, maps: Sequence[Tensor], objects: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Tensor[N, C_i, s_i, s_i] per map, N > 0."""
        codes = self.model.core_codes(maps[-1])
        scores = self.model.mask_head.scores(codes).flatten()
        return self.model.patch_masks(maps, codes).sigmoid(), scores.sigmoid()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Images or maps, one row a window."""
        masks, scores = super().forward(*map(one_more, inputs))
        return masks[:-1], scores[:-1]

    def example_objects(self, count: int, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Nothing beside the windows."""
        return ()


def one_more(rows: Tensor) -> Tensor:
    """Append a row of zeros, for graphs that reshape: without any row onnxruntime cannot resolve a
    side of -1."""
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, 1))


def part_of(model: nn.Module, with_backbone: bool = False) -> Part:
    """Choose what of a model is exported."""
    head = getattr(getattr(model, 'roi_head', None), 'mask_head', None)
    if isinstance(head, (MultiStageMaskHead, SharpMaskHead)):
        return RoIPart(model, with_backbone)
    kinds = {SipMask: SipMaskPart, EmbedMask: EmbedMaskPart, DeepMask: WindowPart}
    for kind, part in kinds.items():
        if isinstance(model, kind):
            return part(model, with_backbone)
    inside = f' with {type(head).__name__}' if head is not None else ''
    raise TypeError(
        f'{type(model).__name__}{inside} has no mask head to export: RefineMaskHead, '
        'SimpleRefineMaskHead and SharpMaskHead (one for all stages), SipMask, EmbedMask, DeepMask '
        'and SharpMask have'
    )


def random_boxes(count: int, image_size: tuple[int, int]) -> Tensor:
    """Boxes Tensor[count, 4] of sides between a tenth and all of the image, inside it."""
    size = torch.tensor([image_size[1], image_size[0]], dtype=torch.float32)
    sides = size * (0.1 + 0.9 * torch.rand(count, 2))
    low = (size - sides) * torch.rand(count, 2)
    return torch.cat([low, low + sides], 1)
