"""Errors, tolerances and verdicts of a parity run."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Row:
    """One compared quantity.

    Attributes:
        quantity: What was compared.
        error: Largest error, in the unit of ``tolerance``.
        tolerance: What was allowed.
        passed: The verdict.
        unit: ``abs``, ``rel``, ``mismatches`` or ``share`` (of differing elements).
    """

    quantity: str
    error: float
    tolerance: float
    passed: bool
    unit: str


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        value = (value.float() if value.dtype == torch.bfloat16 else value).cpu().numpy()
    return np.asarray(value)


def relative(ours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Each value against its own recorded size; 1 where both are zero."""
    return np.where(ours == reference, 1.0, ours / np.maximum(np.abs(reference), 1e-30))


@dataclass
class Report:
    """Collects the rows of one file.

    Args:
        scale: Factor on every floating-point tolerance (devices other than the recorded one).
        max_share: Share of elements of a map compared by ``exact`` that may differ; 0 on the
            recorded device.
    """

    scale: float = 1.0
    max_share: float = 0.0
    rows: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Something was compared and all of it agrees."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def _add(self, quantity: str, error: float, tolerance: float, unit: str) -> None:
        passed = bool(np.isfinite(error) and error <= tolerance)
        self.rows.append(Row(quantity, float(error), float(tolerance), passed, unit))

    def _pair(
        self, quantity: str, ours: Any, reference: Any
    ) -> tuple[np.ndarray, np.ndarray] | None:
        ours, reference = _array(ours), _array(reference)
        if ours.shape != reference.shape:
            name = f'{quantity} (shape {ours.shape}, recorded {reference.shape})'
            self._add(name, float('inf'), 0.0, 'abs')
            return None
        return ours, reference

    def close(
        self,
        quantity: str,
        ours: Any,
        reference: Any,
        atol: float = 0.0,
        rtol: float = 0.0,
        max_share: float | None = None,
    ) -> None:
        """Compare numbers.

        With ``rtol`` alone the error is relative to the largest recorded magnitude, so that a
        gradient tensor is judged as a whole; otherwise it is absolute and ``atol + rtol * max`` is
        allowed.

        Args:
            max_share: Judge instead the share of elements beyond the tolerance (maps whose pixels
                may flip).
        """
        pair = self._pair(quantity, ours, reference)
        if pair is None:
            return
        first, second = (x.astype(np.float64) for x in pair)
        if first.size == 0:
            self._add(quantity, 0.0, atol or rtol, 'abs' if atol else 'rel')
            return
        with np.errstate(invalid='ignore'):
            # inf - inf is no difference; a NaN on either side is one unless it was recorded
            same = (first == second) | (np.isnan(first) & np.isnan(second))
            difference = np.where(same, 0.0, np.abs(first - second))
        difference = np.where(np.isnan(difference), np.inf, difference)
        finite = np.abs(second[np.isfinite(second)])
        magnitude = float(finite.max()) if finite.size else 0.0
        atol, rtol = atol * self.scale, rtol * self.scale
        if max_share is not None:
            share = float((difference > atol + rtol * magnitude).mean())
            self._add(
                f'{quantity} (beyond {atol + rtol * magnitude:.1e})', share, max_share, 'share'
            )
        elif atol:
            self._add(quantity, float(difference.max()), atol + rtol * magnitude, 'abs')
        else:
            self._add(quantity, float(difference.max()) / max(magnitude, 1e-30), rtol, 'rel')

    def exact(
        self, quantity: str, ours: Any, reference: Any, max_share: float | None = None
    ) -> None:
        """Compare labels, indices or masks: every element must be equal.

        Args:
            max_share: Share of differing elements allowed by the recording's own tolerance table.
        """
        pair = self._pair(quantity, ours, reference)
        if pair is None:
            return
        wrong = pair[0] != pair[1]
        share = max(max_share or 0.0, self.max_share)
        if share:
            self._add(quantity, float(wrong.mean()) if wrong.size else 0.0, share, 'share')
        else:
            self._add(quantity, float(wrong.sum()), 0.0, 'mismatches')

    def check(self, quantity: str, condition: bool) -> None:
        """Record a yes/no property."""
        self._add(quantity, 0.0 if condition else 1.0, 0.0, 'mismatches')
