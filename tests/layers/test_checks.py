"""Labels and outputs that no head may take."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmrefine.layers import require_finite, require_labels


def objects(*labels: int) -> list[InstanceData]:
    """An image without objects and one with these labels."""
    return [InstanceData(labels=torch.tensor(of, dtype=torch.long)) for of in ([], labels)]


def test_the_first_label_too_many_is_refused_with_the_number_to_set() -> None:
    require_labels(objects(0, 2), 3)
    require_labels(objects(), 3)
    with pytest.raises(ValueError, match='label 3, but num_classes=3 .* at least 4'):
        require_labels(objects(3, 0), 3)
    with pytest.raises(ValueError, match='label -1'):
        require_labels(objects(0, -1), 3)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_one_value_that_is_not_finite_is_found(value: float, dtype: torch.dtype) -> None:
    values = torch.full((3, 5), 6e4, dtype=dtype)  # whose sum no half holds
    require_finite('scores', values, torch.zeros(0))
    values[1, 2] = value
    with pytest.raises(FloatingPointError, match='scores are not finite: look for NaN'):
        require_finite('scores', torch.zeros(4), values)
