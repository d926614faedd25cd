"""Check a COCO-format annotation file: what is wrong, where, and what comes of it."""

import argparse
import sys
from pathlib import Path

import cv2

from mmrefine.datasets.annotation_check import (
    Problem,
    check_annotations,
    lacks_file,
    read_annotations,
)


def check_images(content: dict, folder: Path) -> list[Problem]:
    """Open every picture and compare its size with the file's.

    Entries without name or size are :func:`check_annotations`'s to report.
    """
    unreadable, resized = [], []
    for image in content['images']:
        if lacks_file(image):
            continue
        # As LoadImageFromFile reads: turned upright where a camera's EXIF orientation says so.
        picture = cv2.imread(str(folder / image['file_name']), cv2.IMREAD_COLOR)
        if picture is None:
            unreadable.append(image['file_name'])
        elif picture.shape[:2] != (image['height'], image['width']):
            resized.append(image['file_name'])
    texts = (
        'pictures that cannot be read',
        'pictures of another size than the file says, turned upright by their EXIF orientation',
    )
    return [
        Problem(text, tuple(names), True)
        for text, names in zip(texts, (unreadable, resized))
        if names
    ]


def main() -> None:
    """Print the problems; exit with 1 if one of them is an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('annotations', type=Path)
    parser.add_argument('--classes', nargs='*', default=[], help='class names of your config')
    parser.add_argument('--images', type=Path, help='folder of the pictures, to open them too')
    args = parser.parse_args()
    try:
        content = read_annotations(args.annotations)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    problems = check_annotations(content, args.classes)
    if args.images:
        problems += check_images(content, args.images)
    print(*problems, sep='\n', end='\n' if problems else '')
    counts = {key: len(content[key]) for key in ('images', 'annotations', 'categories')}
    print(', '.join(f'{count} {key}' for key, count in counts.items()))
    sys.exit(any(problem.fatal for problem in problems))


if __name__ == '__main__':
    main()
