"""Numeric precision of parts that autocast must leave alone."""

import torch


def without_autocast(device: torch.device) -> torch.autocast:
    """Context in which autocast is off on ``device``; inputs keep their type.

    ``torch.autocast`` refuses devices that compute nothing, such as ``meta``; there the context
    does nothing.
    """
    return torch.autocast('cpu' if device.type == 'meta' else device.type, enabled=False)
