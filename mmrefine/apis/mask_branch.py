"""The mask branch of a two-stage model on boxes from anywhere.

Shapes:   N boxes, S side of a mask grid.
"""

import copy
import inspect
from typing import Any

import torch
from mmdet.models.roi_heads import SparseRoIHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.masks.formats import to_rles
from mmrefine.masks.rle import RLE
from mmrefine.masks.stock_heads import RLE_HEADS, RLEOutput, rle_head

# boxes at once: stock heads predict every class of a box, ours split the work themselves
CHUNK, OWN_CHUNK = 100, 1000


class MaskBranch:
    """RoI mask head with the weights of a model, which stays as it is.

    Args:
        model: Any two-stage detector with a RoI mask head.
        chunk: Boxes at once; by default 100 with stock heads.
        grids: Give probabilities on the grids of the boxes in place of masks.

    Raises:
        TypeError: The model has no RoI mask head that takes any box.
        ValueError: ``chunk`` is below 1, or the head cannot give its grids.
    """

    def __init__(self, model: nn.Module, chunk: int | None = None, grids: bool = False) -> None:
        head = mask_roi_head(model)
        if chunk is not None and chunk < 1:
            raise ValueError(f'chunk must be at least 1 box, got {chunk}')
        self.roi_head = shallow_copy(head)
        self.roi_head._modules['mask_head'] = _rle_head(head.mask_head, strict=grids)
        mask_format = 'grids' if grids else 'rle'
        self.roi_head.test_cfg = ConfigDict({**head.test_cfg, 'mask_format': mask_format})
        self.chunk = chunk or (OWN_CHUNK if hasattr(head, 'fine_level') else CHUNK)

    @torch.no_grad()
    def __call__(
        self, x: tuple[Tensor, ...], meta: dict, boxes: Tensor, labels: Tensor
    ) -> InstanceData:
        """Masks of the boxes of one image.

        Args:
            x: Feature pyramid of the image.
            meta: Its meta information.
            boxes: Tensor[N, 4] in pixels of the network input.
            labels: LongTensor[N].

        Returns:
            ``masks``: N RLEs at the size of the original image, or N Tensor[S, S] of probabilities
            over the boxes; ``scores``: Tensor[N], 1 times what a head makes of its masks.
        """
        context = self._context(x)
        masks: list[RLE | Tensor] = []
        scores = [boxes.new_zeros(0)]
        for part in torch.arange(len(boxes), device=boxes.device).split(self.chunk):
            # heads that score their masks multiply into scores, which are the caller's own
            detections = InstanceData(
                bboxes=boxes[part], labels=labels[part], scores=boxes.new_ones(len(part))
            )
            results = self.roi_head.predict_mask(
                x=x, batch_img_metas=[meta], results_list=[detections], rescale=True, **context
            )[0]
            found = results.masks
            masks += found.as_list() if hasattr(found, 'as_list') else to_rles(found)
            scores.append(results.scores)
        return InstanceData(masks=masks, scores=torch.cat(scores))

    def _context(self, x: tuple[Tensor, ...]) -> dict[str, Any]:
        """What HTC and SCNet derive from the whole image for their mask heads."""
        head = self.roi_head
        wanted = inspect.signature(head.predict_mask).parameters
        context: dict[str, Any] = {}
        if 'semantic_heat' in wanted:
            context['semantic_heat'] = head.semantic_head(x)[1] if head.with_semantic else None
        if 'glbctx_feat' in wanted:
            context['glbctx_feat'] = head.glbctx_head(x)[1] if head.with_glbctx else None
        return context


def mask_roi_head(model: nn.Module) -> nn.Module:
    """The RoI head of a model whose masks depend on features, boxes and labels only.

    Raises:
        TypeError: It has none.
    """
    name, head = type(model).__name__, getattr(model, 'roi_head', None)
    choose = (
        'choose one with a RoI mask head: RefineMask, Mask R-CNN, Cascade Mask R-CNN, PointRend'
    )
    if not hasattr(head, 'predict_mask'):
        raise TypeError(f'{name} has no RoI head that could run on given boxes; {choose}')
    if not head.with_mask:
        raise TypeError(f'{name} of this config predicts boxes only; {choose}')
    if isinstance(head, SparseRoIHead) and not hasattr(head, 'fine_level'):
        raise TypeError(f'the masks of {name} come from its own queries, not from boxes; {choose}')
    return head


def shallow_copy(module: nn.Module) -> Any:
    """A module with the same parts, which can be replaced without changing the first."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _rle_head(head: nn.Module, strict: bool) -> nn.Module:
    """A head that gives RLE, if there is one; ``strict`` raises where grids need it."""
    if isinstance(head, nn.ModuleList):
        return nn.ModuleList(_rle_head(each, strict) for each in head)
    ours = isinstance(head, RLEOutput) or hasattr(head, 'fused_masks')
    return rle_head(head) if type(head) in RLE_HEADS or (strict and not ours) else head
