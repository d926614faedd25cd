"""What a measurement was made on, without anything that names the machine itself."""

import importlib
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch

CPU_INFO = Path('/proc/cpuinfo')
MEMORY_INFO = Path('/proc/meminfo')
GOVERNOR = Path('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor')
PACKAGES = ('mmcv', 'mmdet', 'mmengine', 'mmrefine')


def _field(path: Path, name: str) -> str | None:
    """Value of the first ``name: value`` line of a file of the kernel."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((x.partition(':')[2].strip() for x in lines if x.startswith(name)), None)


def _governor() -> str:
    try:
        return GOVERNOR.read_text().strip()
    except OSError:
        return 'not readable'


def _commit() -> str:
    """Commit of this checkout, with a plus where tracked files differ from it."""
    command = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty=+']
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def describe(device: str, threads: int, quick: bool) -> dict[str, Any]:
    """Settings and machine of a run; rows measured under different ones do not belong together.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: Threads of the processor's kernels.
        quick: Whether the sizes are those of a smoke run.
    """
    memory = _field(MEMORY_INFO, 'MemTotal')
    return {
        'commit': _commit(),
        'date': date.today().isoformat(),
        'device': device,
        'quick': quick,
        'threads': threads,
        'processor': _field(CPU_INFO, 'model name') or platform.processor() or 'unknown',
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'cores': os.cpu_count(),
        'governor': _governor(),
        'memory_gib': round(int(memory.split()[0]) / 2**20) if memory else None,
        'gpu': torch.cuda.get_device_name() if device == 'cuda' else None,
        'system': f'{platform.system()} {platform.machine()}',
        'python': platform.python_version(),
        'torch': torch.__version__,
        **{name: importlib.import_module(name).__version__ for name in PACKAGES},
    }
