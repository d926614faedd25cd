#!/usr/bin/env python
"""Train every system and its stock peers on small sets, several seeds each, and compare.

    python tools/learning_proof.py OUT --sets shapes nuclei --seeds 0 1 2 --minutes 4

OUT holds every run; a run that is there is not repeated, an interrupted one goes on. When all are
done, OUT/results.json, OUT/learning.md, OUT/learning.png and OUT/losses.png are written. Detections
of a run stay in OUT/SET/SYSTEM/seedN/results.segm.json, for tools/leaderboard.py. docs/learning.md
lists the sets and the variables that say where they lie, as MMREFINE_SHAPES.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from learning.curves import losses, plot_losses
from learning.plan import SETS, SYSTEMS, plan
from learning.runs import Proof, store
from learning.summary import markdown, plot

import mmrefine  # noqa: F401  (registers the components)


def main() -> None:
    """Run what is missing and write what all runs say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path)
    parser.add_argument(
        '--sets', nargs='+', default=['shapes'], metavar='SET', help=f'of {", ".join(SETS)}'
    )
    parser.add_argument(
        '--systems',
        nargs='+',
        metavar='SYSTEM',
        help=f'of {", ".join(SYSTEMS)}; default: all that have a config for the set',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--iterations', type=int, help="of every run; default: each set's own")
    parser.add_argument('--minutes', type=float, help='training minutes of every run, instead')
    parser.add_argument('--threads', type=int, default=1, help='of each run')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument('--summary', action='store_true', help='train nothing: use what there is')
    args = parser.parse_args()
    try:
        jobs = plan(args.systems, args.sets, args.seeds)
        proof = Proof(args.out, args.iterations, args.minutes, args.threads, args.jobs)
        if args.summary:
            results = [proof.result(job) for job in jobs if proof.finished(job)]
        else:
            results = proof.run(jobs)
        if not results:
            raise ValueError(f'{args.out} holds no finished run of these')
        store(args.out / 'results.json', [asdict(result) for result in results])
        (args.out / 'learning.md').write_text(markdown(results))
        plot(results, args.out / 'learning.png')
        plot_losses(losses(args.out, results), args.out / 'losses.png')
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f'learning_proof: {error}')
    print(f'{args.out / "learning.md"}, learning.png and losses.png written')


if __name__ == '__main__':
    main()
