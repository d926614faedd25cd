"""What importing the package costs, and what it leaves."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import mmrefine

from .harness import Row

LIMIT = 0.3
PROBE = """
import json, time
begin = time.process_time()
import mmdet, mmengine.runner
middle = time.process_time()
import mmrefine
end = time.process_time()
from mmdet import registry
registries = [r for r in vars(registry).values() if isinstance(r, registry.Registry)]
classes = [getattr(mmrefine, n) for names in mmrefine.COMPONENTS.values() for n in names]
known = {c for r in registries for c in r.module_dict.values()}
missing = [c.__name__ for c in classes if c not in known]
print(json.dumps([middle - begin, end - middle, missing]))
"""


def footprint() -> tuple[int, int]:
    """Python files of the package and their bytes."""
    files = [f for f in Path(mmrefine.__file__).parent.rglob('*.py') if '.mim' not in f.parts]
    return len(files), sum(f.stat().st_size for f in files)


def start_up(device: str, quick: bool = False) -> list[Row]:
    """Processor time of ``import mmrefine`` after mmdet, each time in a new process.

    The maintained line of mmdet imports its runner later than mmdet 3.3, which is no cost of ours.
    The time ratio is that of importing mmdet alone to importing both.
    """
    runs = []
    for _ in range(1 if quick else 3):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', PROBE],
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    before, beyond, missing = zip(*runs)
    files, size = footprint()
    details = dict(
        figure=f'{min(beyond):.3f} s',
        seconds_beyond_mmdet=min(beyond),
        median_seconds_beyond_mmdet=statistics.median(beyond),
        median_time_ratio=statistics.median(b / (b + o) for b, o in zip(before, beyond)),
        python_files=files,
        python_kib=size / 1024,
        unregistered=missing[0],
    )
    ratio = min(before) / (min(before) + min(beyond))
    case = f'import, at most {LIMIT} s beyond mmdet, all components registered'
    kept = min(beyond) < LIMIT and not missing[0]
    return [Row('B10', case, ratio, None, 0.0, kept, details, 'limit')]


BENCHMARKS = {'B10': start_up}
