import torch

from mmrefine.sharpmask.coarse_head import DeepMaskHead


def test_scores_are_those_of_the_layers_in_turn():
    torch.manual_seed(0)
    head = DeepMaskHead(8, 6, 7, grid_size=5, mask_size=10, score_channels=9, score_floor=0.25)
    codes = torch.randn(2, 7, 3, 4)
    hidden = head.eval().score_fc1(codes)
    hidden = torch.where(hidden > 0, hidden, 0.25)
    torch.testing.assert_close(head.scores(codes), head.score_fc2(hidden)[:, 0])
