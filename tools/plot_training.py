"""Plot losses and mask AP of a training run."""

import argparse
import sys
from pathlib import Path

from mmrefine.visualization.curves import find_scalars, plot_run, read_run


def main(argv: list[str] | None = None) -> None:
    """Plot the newest run below a work folder, with those that it resumed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=Path)
    parser.add_argument('out', type=Path, help='picture file, e.g. training.png')
    args = parser.parse_args(argv)
    try:
        run = read_run(find_scalars(args.work_dir))
        plot_run(run, args.out, args.work_dir.name)
    except (OSError, ValueError) as error:
        sys.exit(f'plot_training: {error}')
    print(f'{args.out} written')


if __name__ == '__main__':
    main()
