"""Load instance masks of images and videos, whether polygons or run lengths."""

import warnings
from collections.abc import Mapping
from copy import copy
from typing import Any

from mmdet.datasets.transforms import LoadAnnotations, LoadTrackAnnotations
from mmdet.registry import TRANSFORMS

from mmrefine.masks.run_lengths import MaskError, check_polygons, to_counts


@TRANSFORMS.register_module()
class LoadMaskAnnotations(LoadAnnotations):
    """Load boxes, labels and masks; an image with objects in RLE gets bitmaps for all its masks.

    The stock class with ``poly2mask=False``, as the published configs have it, makes every object
    whose mask is an RLE an ignored region: nothing is learned of it. Images whose objects are all
    polygons are loaded as there, unless ``only_bitmaps`` is set, as ``CheckedCocoDataset`` does; a
    crowd's RLE stays an ignored region. Objects without a mask are left out, with a warning.

    Args:
        kwargs: Those of ``LoadAnnotations`` but ``with_mask`` and ``poly2mask``.

    Raises:
        ValueError: The picture has another size than the annotations say, or a mask cannot be
            drawn in it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(with_mask=True, poly2mask=False, **kwargs)
        self.only_bitmaps = False
        self.as_bitmaps = LoadAnnotations(with_mask=True, poly2mask=True, **kwargs)

    @classmethod
    def in_place_of(cls, stock: LoadAnnotations) -> 'LoadMaskAnnotations':
        """The same as a stock step with ``poly2mask=False``."""
        step = cls.__new__(cls)
        step.__dict__.update(stock.__dict__, only_bitmaps=False, as_bitmaps=copy(stock))
        step.as_bitmaps.poly2mask = True
        return step

    def transform(self, results: dict) -> dict:
        """Load; see ``LoadAnnotations``."""
        instances = _with_masks(results)
        packed = self.only_bitmaps or any(map(in_rle, instances))
        return self.as_bitmaps.transform(results) if packed else super().transform(results)


@TRANSFORMS.register_module()
class LoadTrackMaskAnnotations(LoadTrackAnnotations):
    """``LoadTrackAnnotations`` that leaves out what has no mask in its frame, with a warning, and
    checks the others as ``LoadMaskAnnotations`` does.

    Args:
        kwargs: Those of ``LoadTrackAnnotations`` but ``with_mask``.

    Raises:
        ValueError: A mask that cannot be drawn in its image.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(with_mask=True, **kwargs)

    def transform(self, results: dict) -> dict:
        """Load; see ``LoadTrackAnnotations``."""
        _with_masks(results)
        return super().transform(results)


def in_rle(instance: Mapping) -> bool:
    """Whether an annotation, as data sets parse it, is an object whose mask is an RLE."""
    return isinstance(instance.get('mask'), Mapping) and not instance['ignore_flag']


def _with_masks(results: dict) -> list[dict]:
    """Keep and check the instances that have a mask."""
    stated = (results.get('height'), results.get('width'))  # absent from plain records
    if all(stated) and stated != tuple(results['ori_shape'][:2]):
        (h, w), (height, width) = results['ori_shape'][:2], stated
        raise ValueError(
            f'{results.get("img_path")} is {w} x {h} pixels as it is read, but {width} x {height} '
            'in the annotations, where its objects would be misplaced. If these are the sides '
            "swapped by EXIF orientation: LoadImageFromFile(color_type='color_ignore_orientation')"
        )
    given = results.get('instances', [])
    results['instances'] = kept = [instance for instance in given if instance.get('mask')]
    if len(kept) < len(given):
        warnings.warn('objects without a mask are left out', stacklevel=3)
    for i, instance in enumerate(kept):
        try:
            instance['mask'] = _checked(instance['mask'], results['ori_shape'])
        except MaskError as error:
            raise ValueError(f'{results.get("img_path")}, object {i}: {error}') from None
    return kept


def _checked(mask: Any, size: tuple[int, int]) -> Any:
    """A mask that pycocotools can draw: polygons as they are, or an RLE with counts as text."""
    if not isinstance(mask, Mapping):
        try:
            check_polygons(mask, size)
        except MaskError as error:
            if error.kind != 'points':  # these are no objects to learn, as in the stock class
                raise
        return mask
    return {'size': list(size), 'counts': to_counts(mask, size).decode('ascii')}
