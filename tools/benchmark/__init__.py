"""Speed and memory against the original formulations, measured side by side in one process."""

from .harness import Row, compare, peak_memory

__all__ = ['Row', 'compare', 'peak_memory']
