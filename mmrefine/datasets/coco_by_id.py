"""A part of a COCO data set, chosen as evaluation scripts choose it."""

from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS


@DATASETS.register_module()
class CocoFirstImagesDataset(CocoDataset):
    """The ``num_images`` images with the lowest ids, in ascending order.

    ``indices=5000`` of any data set takes the first 5000 of the file, which need not be sorted:
    instances_val2014.json is not.
    """

    def __init__(self, *args: Any, num_images: int, **kwargs: Any) -> None:
        self.num_images = num_images
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Load as the stock class does, sort by id and cut."""
        images = sorted(super().load_data_list(), key=lambda image: image['img_id'])
        if len(images) < self.num_images:
            raise ValueError(
                f'{self.ann_file} has {len(images)} images, num_images={self.num_images} asked for'
            )
        return images[: self.num_images]
