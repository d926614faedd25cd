"""What goes before a stock RoI head: maps that every kernel can pool, labels that are classes, and
errors instead of images without objects where a two-stage detector computes NaN."""

from typing import Any

import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList
from torch import Tensor, nn

from .checks import require_finite, require_labels, require_masks
from .precision import autocast_to

BOX_OUTPUTS = ('cls_score', 'bbox_pred', 'decoded_bboxes')  # the last of query-based heads


def poolable(maps: Any) -> Any:
    """Bring a pyramid or one map, Tensor[B, C, h_i, w_i] each, to the form of mmcv's RoIAlign;
    anything else stays.

    Half precision resolves RoI coordinates no better than a pixel, and the CPU kernel has no
    bfloat16 and reads every map as channels first.
    """
    if isinstance(maps, (tuple, list)):
        return type(maps)(poolable(x) for x in maps)
    if not torch.is_tensor(maps) or maps.dim() != 4:
        return maps
    return maps.to(torch.promote_types(maps.dtype, torch.float32)).contiguous()


class FiniteRoIHead:
    """Checks and pooling of every RoI head of this package, ``class X(FiniteRoIHead, Base)``.

    Thresholds drop NaN scores and boxes without a word, so prediction checks the features, the
    proposals and the outputs of every box head.
    """

    training: bool
    with_mask: bool
    bbox_head: nn.Module

    @property
    def box_classes(self) -> int | None:
        """Classes of the box head, in a cascade of all of them; None without one."""
        head = getattr(self, 'bbox_head', None)
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        return None if head is None else head.num_classes

    def with_classes(self, mask_head: ConfigType) -> dict[str, Any]:
        """A mask head's config with the classes of the box head; ValueError if it names others."""
        classes = self.box_classes
        given = mask_head.get('num_classes') or classes
        if classes is not None and given != classes and not mask_head.get('class_agnostic'):
            raise ValueError(
                f'mask_head.num_classes={given} but bbox_head.num_classes={classes}: '
                'omit the former, it follows the latter'
            )
        return mask_head if given is None else {**mask_head, 'num_classes': given}

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict:
        """Losses of boxes and masks; arguments as in the stock RoI head.

        Raises:
            ValueError: A label is no class of the heads, or masks are missing.
        """
        gt_instances = [sample.gt_instances for sample in batch_data_samples]
        if self.box_classes is not None:
            require_labels(gt_instances, self.box_classes)
        if self.with_mask:
            require_masks(gt_instances, [sample.metainfo for sample in batch_data_samples])
        return super().loss(x, rpn_results_list, batch_data_samples)  # type: ignore[misc]

    def _bbox_forward(self, *args: Any, **kwargs: Any) -> dict:
        kwargs = {name: poolable(value) for name, value in kwargs.items()}
        weights = next(self.bbox_head.parameters())
        with autocast_to(weights.device, weights.dtype):
            results = super()._bbox_forward(*poolable(args), **kwargs)  # type: ignore[misc]
        if not self.training:
            values = (results.get(name) for name in BOX_OUTPUTS)
            require_finite('outputs of the box head', *(v for v in values if v is not None))
        return results

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Boxes and masks; arguments as in the stock RoI head.

        Raises:
            FloatingPointError: A value is not finite; it says which.
        """
        # one check, since a GPU is waited for at each
        values = [get_box_tensor(results.bboxes) for results in rpn_results_list]
        values += [results.scores for results in rpn_results_list if 'scores' in results]
        require_finite('feature maps or proposals', *x, *values)
        return super().predict(x, rpn_results_list, batch_data_samples, rescale)  # type: ignore[misc]
