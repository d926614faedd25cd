"""Embedding maps as pictures."""

import numpy as np
import pytest
import torch

from mmrefine.visualization.embedding import embedding_colours, principal_components


def test_components_are_uncorrelated_and_fall_in_variance():
    basis = torch.randn(6, 6)
    pixels = (basis @ torch.randn(6, 400) * 3 + 7).view(6, 20, 20)
    components = principal_components(pixels).flatten(1).double()
    covariance = components @ components.t() / 400
    variances = covariance.diagonal()
    assert (variances[:-1] >= variances[1:]).all()
    torch.testing.assert_close(
        covariance, variances.diag(), atol=1e-3 * float(variances[0]), rtol=0
    )
    assert components.mean(dim=1).abs().max() < 1e-5


def test_the_largest_weight_of_a_direction_is_positive():
    ramp = torch.arange(12.0).view(1, 3, 4)
    for direction in torch.randn(10, 5):
        direction = direction / direction.norm()
        expected = (ramp - ramp.mean()) * direction[direction.abs().argmax()].sign()
        found = principal_components(direction[:, None, None] * ramp)[:1]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_equal_embeddings_get_equal_colours_and_different_ones_do_not():
    pixels = torch.zeros(4, 2, 4)
    pixels[:, :, 2:] = torch.tensor([1.0, -2.0, 3.0, 0.5])[:, None, None]
    picture = embedding_colours(pixels, (20, 40))
    assert picture.shape == (20, 40, 3)
    assert picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 2
    assert (picture[0, 0] != picture[0, -1]).any()


@pytest.mark.parametrize('dims', [1, 2, 16])
def test_constant_maps_are_grey_for_any_dimension(dims):
    picture = embedding_colours(torch.full((dims, 3, 5), 0.3), (6, 10))
    assert np.unique(picture).tolist() == [128]


def test_broken_maps_are_refused():
    with pytest.raises(ValueError, match='NaN'):
        embedding_colours(torch.full((3, 2, 2), float('nan')), (4, 4))
    with pytest.raises(ValueError, match='empty'):
        embedding_colours(torch.zeros(3, 0, 2), (4, 4))
