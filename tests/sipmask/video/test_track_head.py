"""Embeddings and their loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from mmrefine.sipmask.video.track_head import (
    SipMaskTrackHead,
    box_centers,
    jittered_centers,
    match_logits,
    reference_index,
)


def head(**options) -> SipMaskTrackHead:
    torch.manual_seed(0)
    settings = {
        'in_channels': 8, 'feat_channels': 8, 'embed_channels': 4, 'norm_cfg': None, **options,
    }  # fmt: skip
    return SipMaskTrackHead(**settings)


def numbered_map(height: int = 3, width: int = 5) -> torch.Tensor:
    """Every cell holds (row, column)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.stack((rows, columns)).float()


def samples(boxes: list, gt_inds: list) -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        gt_inds=torch.tensor(gt_inds, dtype=torch.long),
    )


SIDES = [(16, 24), (5, 7), (1, 3)]


def pyramid(sides: tuple[int, int], batch: int = 2) -> list[torch.Tensor]:
    height, width = sides
    return [
        torch.randn(batch, 8, -(-height // 2**level), -(-width // 2**level)) for level in range(4)
    ]


@pytest.mark.parametrize('sides', SIDES)
def test_map_has_the_size_of_the_finest_level(sides):
    assert head()(pyramid(sides)).shape == (2, 4, *sides)


def test_coarser_levels_than_the_third_do_not_count():
    levels = [torch.randn(1, 8, 8 // 2**level, 8 // 2**level) for level in range(4)]
    other = [*levels[:3], levels[3] + 1]
    model = head()
    torch.testing.assert_close(model(levels), model(other), rtol=0, atol=0)


def test_embedding_is_the_cell_of_the_centre():
    centers = torch.tensor([[0.0, 0.0], [7.99, 8.0], [39.9, 23.9], [16.0, 15.9]])
    expected = [[0, 0], [1, 0], [2, 4], [1, 2]]
    assert head().embed(numbered_map(), centers).tolist() == expected


@pytest.mark.parametrize(
    ('center', 'cell'),
    [
        ((-20.0, 9.0), [1, 0]),
        ((1e6, 9.0), [1, 4]),
        ((9.0, -0.1), [0, 1]),
        ((9.0, 24.0), [2, 1]),
        ((float('inf'), float('-inf')), [0, 4]),
        ((float('nan'), 9.0), [1, 0]),
    ],
)
def test_a_centre_outside_the_image_reads_the_nearest_cell(center, cell):
    assert head().embed(numbered_map(), torch.tensor([center])).tolist() == [cell]


@pytest.mark.parametrize('sides', SIDES)
@pytest.mark.parametrize('norm', [None, {'type': 'GN', 'num_groups': 2}])
def test_single_cells_equal_those_of_the_whole_map(sides, norm):
    model, levels = head(norm_cfg=norm), pyramid(sides)
    # Every cell, the borders included, and centres beyond all four sides.
    around = [torch.arange(-12.0, 8 * side + 12, 8) for side in sides]
    rows, columns = torch.meshgrid(*around, indexing='ij')
    centers = torch.stack((columns.flatten(), rows.flatten()), dim=1)
    with torch.no_grad():
        maps, towers = model(levels), model.towers(levels)
        for image in range(2):
            single = model.embed_cells([level[image] for level in towers], centers)
            whole = model.embed(maps[image], centers)
            torch.testing.assert_close(single, whole, rtol=1e-5, atol=1e-6)


def test_single_cells_of_no_detection_and_of_nan():
    model = head()
    towers = [level[0] for level in model.towers(pyramid((5, 7)))]
    assert model.embed_cells(towers, torch.zeros(0, 2)).shape == (0, 4)
    lost = torch.tensor([[float('nan'), float('inf')]])
    nearest = torch.tensor([[0.0, 1e6]])
    assert torch.equal(model.embed_cells(towers, lost), model.embed_cells(towers, nearest))


def test_single_cells_are_single_precision_under_autocast():
    model, centers = head(), torch.tensor([[20.0, 12.0], [50.0, 30.0]])
    towers = [level[0].bfloat16() for level in model.towers(pyramid((5, 7)))]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = model.embed_cells(towers, centers)
    exact = model.embed_cells([level.float() for level in towers], centers)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, rtol=0, atol=0)


def test_a_tower_in_bfloat16_finds_nearly_the_same_embeddings():
    norm = {'type': 'GN', 'num_groups': 2}
    exact, fast = head(norm_cfg=norm).eval(), head(norm_cfg=norm, tower_dtype='bfloat16').eval()
    levels, centers = pyramid((16, 24)), torch.rand(20, 2) * 128
    found = []
    for model in (exact, fast):
        towers = model.towers(levels)
        assert all(level.dtype == torch.float32 for level in towers)
        found.append(model.embed_cells([level[0] for level in towers], centers))
    similarity = torch.cosine_similarity(*found)
    assert similarity.min() > 0.999
    assert not torch.equal(*found)
    # Training is in the precision of the trainer.
    for mine, other in zip(exact.train().towers(levels), fast.train().towers(levels)):
        assert torch.equal(mine, other)


def test_other_precisions_are_refused():
    with pytest.raises(ValueError, match="tower_dtype must be one of .*'bfloat16'.*got 'int8'"):
        head(tower_dtype='int8')


def test_reference_index_counts_from_one_and_is_zero_where_absent():
    ids, reference = torch.tensor([7, 3, 5, 9]), torch.tensor([3, 9, 7])
    assert reference_index(ids, reference).tolist() == [3, 1, 0, 2]
    assert reference_index(ids, reference[:0]).tolist() == [0, 0, 0, 0]
    assert reference_index(ids[:0], reference).tolist() == []
    assert reference_index(torch.tensor([3]), torch.tensor([4, 3, 3])).tolist() == [2]


@given(st.floats(0, 0.5), st.integers(0, 5))
def test_jitter_stays_within_its_share_of_the_sides(amount, count):
    corners = torch.rand(count, 2) * 50
    boxes = torch.cat((corners, corners + torch.rand(count, 2) * 30), dim=1)
    moves = (jittered_centers(boxes, amount) - box_centers(boxes)).abs()
    assert (moves <= amount * (boxes[:, 2:] - boxes[:, :2]) + 1e-4).all()


def test_jitter_moves_both_ways_and_follows_the_seed():
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.0]]).expand(200, 4)
    torch.manual_seed(3)
    first = jittered_centers(boxes, 0.05)
    torch.manual_seed(3)
    assert torch.equal(first, jittered_centers(boxes, 0.05))
    assert (first > 50).any() and (first < 50).any()


def test_products_are_computed_in_single_precision_under_autocast():
    current, reference = torch.randn(3, 64) * 30, torch.randn(2, 64) * 30
    plain = match_logits(current, reference)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = match_logits(current.bfloat16().float(), reference.bfloat16().float())
    assert mixed.dtype == torch.float32
    exact = current.bfloat16().double() @ reference.bfloat16().double().t()
    torch.testing.assert_close(mixed[:, 1:].double(), exact, rtol=1e-5, atol=1e-2)
    assert (plain[:, 0] == 0).all()


def test_loss_is_the_mean_over_images_of_the_mean_cross_entropy():
    model = head()
    maps, ref_maps = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    found = [samples([[0, 0, 8, 8], [8, 8, 24, 24]], [1, 0]), samples([[16, 0, 32, 8]], [0])]
    centers = [torch.tensor([[4.0, 4.0], [20.0, 20.0]]), torch.tensor([[30.0, 4.0]])]
    identities = [torch.tensor([2, 1]), torch.tensor([0])]
    losses = model.loss_by_feat(maps, found, ref_maps, centers, identities)
    ref = torch.stack((ref_maps[0, :, 0, 0], ref_maps[0, :, 2, 2]))
    expected, hits = 0.0, 0
    for cell, target in (((0, 0), 1), ((2, 2), 2)):
        logits = torch.cat((torch.zeros(1), ref @ maps[0, :, cell[0], cell[1]]))
        expected += -logits.log_softmax(0)[target] / 2
        hits += int(logits.argmax() == target)
    logits = torch.stack((torch.zeros(()), ref_maps[1, :, 0, 3] @ maps[1, :, 0, 3]))
    expected += -logits.log_softmax(0)[0]
    hits += int(logits.argmax() == 0)
    torch.testing.assert_close(losses['loss_match'], expected / 2)
    torch.testing.assert_close(losses['match_acc'], torch.tensor(100 * hits / 3))


@pytest.mark.parametrize('references', [0, 2])
@pytest.mark.parametrize('count', [0, 3])
def test_empty_images_take_the_same_path(count, references):
    model = head()
    levels = [torch.randn(1, 8, 8 // 2**level, 8 // 2**level) for level in range(3)]
    maps = model(levels)
    found = samples([[0, 0, 8, 8]] * count, [0] * count)
    centers = [torch.full((references, 2), 4.0)]
    identities = [torch.full((1,), min(references, 1))]
    losses = model.loss_by_feat(maps, [found], maps, centers, identities)
    losses['loss_match'].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    if not count or not references:
        assert losses['loss_match'] == 0
    assert torch.isfinite(losses['match_acc'])


def test_gradients_reach_both_frames_and_match_finite_differences():
    maps = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    ref_maps = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    found = [samples([[0, 0, 8, 8], [8, 0, 16, 16]], [0, 1])]
    args = ([torch.tensor([[12.0, 12.0]])], [torch.tensor([1, 0])])
    loss = head().loss_by_feat(maps, found, ref_maps, *args)['loss_match']
    loss.backward()
    step = 1e-2
    for tensor in (maps, ref_maps):
        at = tensor.grad.abs().argmax()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.view(-1)[at] += sign * step
                values.append(
                    head().loss_by_feat(maps, found, ref_maps, *args)['loss_match'].double()
                )
                tensor.view(-1)[at] -= sign * step
        slope = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(slope, tensor.grad.view(-1)[at], rtol=1e-2, atol=1e-4)
