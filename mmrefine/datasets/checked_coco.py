"""COCO and YouTube-VIS data sets that look at their annotations first."""

from collections.abc import Mapping
from typing import Any

from mmdet.datasets import CocoDataset, YouTubeVISDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import DATASETS
from mmengine.dataset import Compose
from mmengine.fileio import exists, get_local_path
from mmengine.logging import print_log

from mmrefine.results.annotations import record_id
from mmrefine.results.image_files import named_file

from .annotation_check import Problem, check_annotations, check_identities, read_annotations
from .learnable import mask_loaders, why_not
from .load_masks import LoadMaskAnnotations, in_rle


class CheckedAnnotations:
    """What goes before a data set that reads COCO's format; see ``CheckedCocoDataset``."""

    def __init__(self, *args: Any, strict: bool = False, origin: str = '', **kwargs: Any) -> None:
        self.strict = strict
        self.origin = origin
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Check, then load as the stock class does."""
        classes = self.metainfo['classes']  # type: ignore[attr-defined]
        if isinstance(classes, str):
            raise ValueError(
                f'classes={classes!r} is a text and no file with one name a line: a comma is '
                f'missing, write classes=({classes!r},)'
            )
        name = self.ann_file  # type: ignore[attr-defined]
        if self.origin and not exists(name, backend_args=self.backend_args):  # type: ignore[attr-defined]
            raise FileNotFoundError(f'no annotation file {name}: {self.origin}')
        with get_local_path(name, backend_args=self.backend_args) as path:  # type: ignore[attr-defined]
            content = read_annotations(path, only_images=self.test_mode)  # type: ignore[attr-defined]
            problems = self.find_problems(content)
        if any(problem.fatal or self.strict for problem in problems):
            listed = '\n  '.join(map(str, problems))
            raise ValueError(f'{name} cannot be used:\n  {listed}')
        for problem in problems:
            print_log(f'{name}: {problem}', 'current', level=30)
        return super().load_data_list()  # type: ignore[misc]

    def find_problems(self, content: Mapping) -> list[Problem]:
        """What is wrong with a parsed annotation file."""
        found = check_annotations(content, self.metainfo['classes'])  # type: ignore[attr-defined]
        images = [image for image in content['images'] if isinstance(image, Mapping)]
        bare = [i for i in images if named_file(i) is not None and not i.get('file_name')]
        if bare:
            text = 'images with coco_url but no file_name: MMDetection reads these as LVISV1Dataset'
            found.append(Problem(text, tuple(map(record_id, bare)), fatal=True))
        return found

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse as the stock class does; leave out what has no mask where masks are loaded."""
        info = super().parse_data_info(raw_data_info)  # type: ignore[misc]
        if mask_loaders(self):
            info['instances'] = [i for i in info['instances'] if 'mask' in i]
        return info


@DATASETS.register_module()
class CheckedYouTubeVISDataset(CheckedAnnotations, YouTubeVISDataset):
    """``YouTubeVISDataset`` whose file is checked as that of ``CheckedCocoDataset``, with the same
    ``strict`` and ``origin``; and its identities, too."""

    def find_problems(self, content: Mapping) -> list[Problem]:
        """What is wrong with a parsed annotation file."""
        return super().find_problems(content) + check_identities(content)


@DATASETS.register_module()
class CheckedCocoDataset(CheckedAnnotations, CocoDataset):
    """Refuse annotations that would give wrong results; report those that are left out.

    The stock class shifts labels without a word when the file lacks one of the config's classes or
    lists them in another order, drops annotations of unknown categories, and ends in a bare
    ``KeyError`` where a field is missing. Annotations with degenerate boxes or polygons are left
    out of training by both, here also those without a mask where the pipeline loads masks. A
    ``LoadAnnotations`` that would ignore objects in RLE (``poly2mask=False``) becomes
    ``LoadMaskAnnotations``.

    Args:
        strict: Refuse annotations that would be left out, too.
        origin: Where the set comes from; said where its file is missing.

    Raises:
        FileNotFoundError: There is no annotation file.
        ValueError: The file is broken, and the message lists every kind of fault; or no
            object is left to learn from.
    """

    has_rle = False  # whether an object was found whose mask is an RLE

    @property
    def pipeline(self) -> Compose:
        """What is done to every picture; another one, as of ``PipelineSwitchHook``, is made to load
        RLE as the first is."""
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose) -> None:
        pipeline.transforms = [_with_rle(step) for step in pipeline.transforms]
        self._pipeline = pipeline
        self._load_bitmaps()

    def filter_data(self) -> list[dict]:
        """Filter as the stock class does, and make sure that there is something to learn, if only
        background, where ``filter_empty_gt=False`` asks for it."""
        kept = super().filter_data()
        found = [instance for info in kept for instance in info['instances']]
        wanted = found or (self.filter_cfg or {}).get('filter_empty_gt') is not False
        if wanted and not self.test_mode and all(why_not(i, self) for i in found):
            raise ValueError(
                f'{self.ann_file}: there is no object to learn from. '
                f'filter_cfg={self.filter_cfg} keeps {len(kept)} of {len(self.data_list)} images, '
                f'with {len(found)} annotations of the classes {self.metainfo["classes"]} with '
                f'box{" and mask" if mask_loaders(self) else ""}. tools/check_annotations.py lists '
                'what is left out and why'
            )
        return kept

    def load_data_list(self) -> list[dict]:
        """Check and load; a set with objects in RLE gets bitmaps for all its masks, since Mosaic
        joins those of several images."""
        found = super().load_data_list()
        self.has_rle = any(in_rle(instance) for info in found for instance in info['instances'])
        self._load_bitmaps()
        return found

    def _load_bitmaps(self) -> None:
        for loader in mask_loaders(self) if self.has_rle else ():
            loader.only_bitmaps = True


def _with_rle(step: Any) -> Any:
    if type(step) is LoadAnnotations and step.with_mask and not step.poly2mask:
        return LoadMaskAnnotations.in_place_of(step)
    return step
