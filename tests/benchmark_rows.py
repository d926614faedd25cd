"""Rows and settings of benchmarks, made up."""

from typing import Any

from benchmark import Row

SETTINGS: dict[str, Any] = {
    'commit': 'abc1234',
    'date': '2026-01-31',
    'device': 'cpu',
    'quick': False,
    'threads': 1,
    'processor': 'Some CPU',
    'instructions': 'AVX512',
    'cores': 2,
    'governor': 'not readable',
    'memory_gib': 24,
    'gpu': None,
    'system': 'Linux x86_64',
    'python': '3.11.1',
    'torch': '2.13.0',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmengine': '0.10.7',
    'mmrefine': '0.1.0',
}


def row(identifier: str = 'B1', case: str = 'a case', **values: Any) -> Row:
    """A row that holds."""
    return Row(
        **{
            'id': identifier,
            'case': case,
            'time_ratio': 2.0,
            'memory_ratio': 3.0,
            'max_error': 0.0,
            'equal': True,
            **values,
        }
    )
