"""Prepare pictures as the config of a model says, whether they are files or in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg

from .views import View, view_pipeline

OPENCV = dict(type='LoadImageFromFile', backend_args=None)
AS_PREPARED = View()
# What loaders and transforms raise of files and arrays that are no pictures.
UNFIT = (AssertionError, AttributeError, OSError, cv2.error)


class PictureError(ValueError):
    """A picture that a model cannot be given, though others may."""


class PicturePipeline:
    """The test pipeline of a config, without annotations.

    Args:
        config: Config of a model.
        view: How to look at a picture.

    Attributes:
        reads_arrays: Whether a picture read by OpenCV is what the config would read from the file.
    """

    def __init__(self, config: Mapping[str, Any], view: View = AS_PREPARED) -> None:
        steps = [s for s in get_test_pipeline_cfg(config) if 'Annotations' not in str(s['type'])]
        # any other loader (Pillow's decoder, say) has to see the file
        self.reads_arrays = {**steps[0], 'backend_args': None} == OPENCV
        floats = steps[0].get('to_float32', False)
        self._load = Compose(steps[:1])
        self._take = Compose([dict(type='mmdet.LoadImageFromNDArray', to_float32=floats)])
        self._prepare = Compose(view_pipeline(steps, view)[1:])

    def read(self, path: str | Path) -> np.ndarray:
        """Read a picture as the config does, and make uint8[H, W, 3] in BGR of it.

        Raises:
            PictureError: The config's loader cannot read it.
        """
        try:
            pixels = self._load({'img_path': str(path), 'img_id': 0})['img']
        except UNFIT as error:
            raise PictureError(f'{path} cannot be read as a picture: {error}') from error
        grey = pixels.ndim == 2
        return (cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if grey else pixels).astype(np.uint8)

    def __call__(self, picture: str | Path | np.ndarray) -> dict[str, Any]:
        """Prepare a file, or uint8[H, W, 3] in BGR: ``inputs`` and ``data_samples``.

        Raises:
            PictureError: The pipeline cannot take it.
            TypeError: It is neither.
            ValueError: There is no such file, or the array is no picture.
        """
        data: dict[str, Any] = {'img_id': 0}
        if isinstance(picture, np.ndarray):
            if not is_picture(picture):
                raise ValueError(
                    'an image array must be uint8 of shape (h, w, 3) in BGR order, got '
                    f'{picture.dtype} of shape {picture.shape}'
                )
            name, load = f'an array of shape {picture.shape}', self._take
            data['img'] = picture
        elif isinstance(picture, (str, Path)):
            if not Path(picture).is_file():
                raise ValueError(f'there is no image {picture}')
            name, load = str(picture), self._load
            data['img_path'] = name
        else:
            raise TypeError(f'an image is a path or an array, got {type(picture).__name__}')
        try:
            return self._prepare(load(data))
        except UNFIT as error:
            text = f'{name} is no image the test pipeline can take: {error}'
            raise PictureError(text.strip()) from error


def is_picture(pixels: Any) -> bool:
    """Whether something is uint8[H, W, 3] with pixels."""
    shaped = isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[2] == 3
    return bool(shaped and pixels.size and pixels.dtype == np.uint8)
