"""A COCO data set that looks at its annotations first."""

from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from .annotation_check import check_annotations, read_annotations


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """Refuse annotations that would give wrong results; report those that are left out.

    The stock class shifts labels without a word when the file lacks one of the config's classes,
    drops annotations of unknown categories, and ends in a bare ``KeyError`` where a field is
    missing. Annotations with degenerate boxes or polygons are left out of training by both.

    Args:
        strict: Refuse annotations that would be left out, too.

    Raises:
        FileNotFoundError: The annotation file is missing.
        ValueError: It is broken; the message lists every kind of fault.
    """

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        self.strict = strict
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Check, then load as the stock class does."""
        classes = self.metainfo['classes']
        if isinstance(classes, str):
            raise ValueError(
                f'classes={classes!r} is a text and no file with one name a line: a comma is '
                f'missing, write classes=({classes!r},)'
            )
        with get_local_path(self.ann_file, backend_args=self.backend_args) as path:
            problems = check_annotations(read_annotations(path), classes)
        if any(problem.fatal or self.strict for problem in problems):
            listed = '\n  '.join(map(str, problems))
            raise ValueError(f'{self.ann_file} cannot be used:\n  {listed}')
        for problem in problems:
            print_log(f'{self.ann_file}: left out: {problem}', 'current', level=30)
        return super().load_data_list()
