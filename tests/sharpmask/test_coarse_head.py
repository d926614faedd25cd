import pytest
import torch

from mmrefine.sharpmask.coarse_head import DeepMaskHead


@pytest.mark.parametrize('kernel_rows', [1, 2, 3, 5, 9])
@pytest.mark.parametrize('height, width', [(5, 5), (5, 9), (12, 6)])
def test_codes_do_not_depend_on_how_the_kernel_is_cut(kernel_rows, height, width):
    torch.manual_seed(0)
    head = DeepMaskHead(8, 6, 7, grid_size=5, mask_size=10, score_channels=9).double().eval()
    reduced = torch.randn(2, 6, height, width).double()
    with torch.no_grad():
        whole = head.encoder(reduced)
        torch.testing.assert_close(head.encode_by_rows(reduced, kernel_rows), whole)


def test_scores_are_those_of_the_layers_in_turn():
    torch.manual_seed(0)
    head = DeepMaskHead(8, 6, 7, grid_size=5, mask_size=10, score_channels=9, score_floor=0.25)
    codes = torch.randn(2, 7, 3, 4)
    hidden = head.eval().score_fc1(codes)
    hidden = torch.where(hidden > 0, hidden, 0.25)
    torch.testing.assert_close(head.scores(codes), head.score_fc2(hidden)[:, 0])
