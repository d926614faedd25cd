import numpy as np
import pytest
import torch

from mmrefine.masks import output_size, scale_factors


@pytest.mark.parametrize('rescale, expected', [(True, (40, 60)), (False, (20, 30))])
@pytest.mark.parametrize('channels', [(), (3,)])
def test_the_size_is_read_with_and_without_channels(rescale, expected, channels):
    meta = {'ori_shape': (40, 60, *channels), 'img_shape': np.array([20, 30, *channels])}
    size = output_size(meta, rescale)
    assert size == expected and all(type(side) is int for side in size)


@pytest.mark.parametrize('kind', [tuple, list, np.array, torch.tensor])
@pytest.mark.parametrize('factor', [(0.5, 0.25), (0.5, 0.25, 0.5, 0.25)])
def test_factors_of_any_sequence_and_of_two_or_four_entries(kind, factor):
    factors = scale_factors({'scale_factor': kind(factor)})
    assert factors == (0.5, 0.25) and all(type(value) is float for value in factors)


@pytest.mark.parametrize(
    'read, key',
    [
        (lambda meta: output_size(meta, True), 'ori_shape'),
        (lambda meta: output_size(meta, False), 'img_shape'),
        (scale_factors, 'scale_factor'),
    ],
)
def test_a_missing_entry_is_named(read, key):
    with pytest.raises(ValueError, match=f"no {key}, only .'img_id'.*meta_keys"):
        read({'img_id': 1})


@pytest.mark.parametrize('factor', [2.0, (1.0,), (1.0, 2.0, 3.0), torch.tensor(2.0)])
def test_other_numbers_of_entries_are_refused(factor):
    with pytest.raises(ValueError, match='two entries'):
        scale_factors({'scale_factor': factor})
