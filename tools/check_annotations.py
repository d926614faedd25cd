"""Check a COCO-format annotation file: what is wrong, where, and what to do about it."""

import argparse
import sys
from pathlib import Path

from mmrefine.datasets.annotation_check import (
    check_annotations,
    check_identities,
    check_images,
    read_annotations,
    summary,
)


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
    if 'videos' in content:
        problems += check_identities(content)
    if args.images:
        problems += check_images(content, args.images)
    faulty = any(problem.fatal for problem in problems)
    print(*problems or ['no problems'], sep='\n')
    counts = {key: len(content[key]) for key in ('images', 'annotations', 'categories')}
    print(', '.join(f'{count} {key}' for key, count in counts.items()))
    if not faulty:
        print(*summary(content), sep='\n')
    sys.exit(faulty)


if __name__ == '__main__':
    main()
