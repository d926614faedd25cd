"""The video model: training on pairs, prediction frame by frame."""

import copy

import pytest
import torch
from mmengine.structures import InstanceData
from tiny_sipmask import CHANNELS
from tiny_sipmask_video import clip, frame, pictures, tiny_video_model

from mmrefine.masks import to_dense
from mmrefine.sipmask.video.detector import last_of_each

ONE, TWO = [20.0, 20.0, 90.0, 80.0], [60.0, 40.0, 150.0, 120.0]


def pair(key_boxes: list, key_ids: list, ref_boxes: list, ref_ids: list, key: int = 0):
    frames = [frame(key_boxes, key_ids), frame(ref_boxes, ref_ids)]
    return clip(frames if key == 0 else frames[::-1], key)


def outputs(model, inputs, samples):
    with torch.no_grad():
        result = model.predict(inputs, samples)
    return [one.pred_track_instances for sample in result for one in sample]


def same(first: InstanceData, second: InstanceData) -> bool:
    names = sorted(first.keys())
    return names == sorted(second.keys()) and all(torch.equal(first[n], second[n]) for n in names)


def test_training_reaches_every_trained_layer():
    model = tiny_video_model().train()
    samples = [pair([ONE, TWO], [1, 2], [TWO], [2]), pair([TWO], [5], [ONE, TWO], [4, 5], key=1)]
    losses = model.loss(torch.cat([pictures(2), pictures(2, seed=2)]), samples)
    assert set(losses) == {
        'loss_cls', 'loss_bbox', 'loss_centerness', 'loss_mask', 'loss_match', 'match_acc',
    }  # fmt: skip
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    assert all(p.grad.abs().sum() > 0 for p in model.track_head.parameters())


def test_the_key_frame_is_where_the_sampler_put_it():
    model = tiny_video_model(box={'sync_normalizers': False})
    images = pictures(2)
    model.track_head.jitter = 0.0
    first = model.loss(images, [pair([ONE], [1], [TWO], [1])])
    second = model.loss(images.flip(1), [pair([ONE], [1], [TWO], [1], key=1)])
    for name in first:
        torch.testing.assert_close(first[name], second[name])


@pytest.mark.parametrize(
    ('key', 'ref'), [([], []), ([ONE], []), ([], [ONE])], ids=['none', 'no reference', 'no key']
)
def test_frames_without_objects_train(key, ref):
    model = tiny_video_model().train()
    losses = model.loss(pictures(2), [pair(key, [1] * len(key), ref, [1] * len(ref))])
    total = sum(value for name, value in losses.items() if name.startswith('loss'))
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.track_head.parameters())
    assert losses['loss_match'] == 0


def test_other_than_pairs_are_refused():
    model = tiny_video_model()
    with pytest.raises(ValueError, match='pairs of frames'):
        model.loss(pictures(3), [pair([ONE], [1], [ONE], [1])])
    two_references = clip([frame([ONE], [1]) for _ in range(3)], key=1)
    with pytest.raises(ValueError, match='ref_frames_inds'):
        model.loss(pictures(2), [two_references])


def test_a_clip_equals_its_frames_one_by_one():
    model, images = tiny_video_model(), pictures(3)
    whole = outputs(model, images, [clip([frame([], [], number=n) for n in range(3)])])
    single = []
    for n in range(3):
        single += outputs(model, images[:, n : n + 1], [clip([frame([], [], 2, number=n)])])
    assert sum(len(one) for one in whole) > 0
    assert all(same(a, b) for a, b in zip(whole, single, strict=True))


def test_videos_side_by_side_equal_each_alone():
    model = tiny_video_model()
    videos = [pictures(2), pictures(2, seed=2)]
    alone = [
        outputs(model, images, [clip([frame([], [], at, n) for n in range(2)])])
        for at, images in enumerate(videos)
    ]
    model.tracker.reset()
    samples = [clip([frame([], [], at, n) for n in range(2)]) for at in range(2)]
    both = outputs(model, torch.cat(videos), samples)
    for a, b in zip(alone[0] + alone[1], both, strict=True):
        assert a.instances_id.tolist() == b.instances_id.tolist()
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=1e-4, atol=1e-3)


def test_every_id_is_given_once_a_frame_and_repeats_over_frames():
    model = tiny_video_model()
    images = pictures(1).expand(-1, 3, -1, -1, -1)
    frames = outputs(model, images, [clip([frame([], [], number=n) for n in range(3)])])
    for one in frames:
        assert len(one) > 1
        assert len(set(one.instances_id.tolist())) == len(one)
    assert frames[1].instances_id.tolist() == frames[2].instances_id.tolist()


@pytest.mark.parametrize('fmt', ['dense', 'rle'])
def test_frames_without_detections_have_the_same_fields(fmt):
    model = tiny_video_model(test={'score_thr': 1.1, 'mask_format': fmt})
    for one in outputs(model, pictures(2), [clip([frame([], [], number=n) for n in range(2)])]):
        assert len(one.instances_id) == len(one.bboxes) == len(one.masks) == 0
        assert one.instances_id.dtype == torch.long


def test_rle_masks_equal_dense_ones():
    dense, rle = tiny_video_model(), tiny_video_model(test={'mask_format': 'rle'})
    images = pictures(2)
    for a, b in zip(
        outputs(dense, images, [clip([frame([], [], number=n) for n in range(2)])]),
        outputs(rle, images, [clip([frame([], [], number=n) for n in range(2)])]),
        strict=True,
    ):
        assert torch.equal(a.masks, to_dense(b.masks, (128, 160)))


def test_a_frame_of_another_size_keeps_the_video_going():
    model = tiny_video_model()
    first = outputs(model, pictures(1), [clip([frame([], [], number=0)])])[0]
    other = clip([frame([], [], number=1, size=(96, 128))])
    second = outputs(model, pictures(1, (96, 128)), [other])[0]
    assert len(second) and second.masks.shape[1:] == (96, 128)
    assert model.tracker.memory(1).size == (96, 128)
    assert model.tracker.memory(1).frames == 2
    assert len(first)


def test_a_frame_without_its_place_in_a_video_is_refused():
    model = tiny_video_model()
    lost = frame([], [])
    meta = {key: value for key, value in lost.metainfo.items() if key != 'frame_id'}
    with pytest.raises(KeyError, match='frame_id'), torch.no_grad():
        model.identify(
            InstanceData(
                bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long()
            ),
            [torch.zeros(CHANNELS, 4, 4)] * 3,
            meta,
            'a video',
        )


def test_changing_the_mode_forgets_the_videos():
    model = tiny_video_model()
    outputs(model, pictures(1), [clip([frame([], [])])])
    assert model.tracker.memory(1) is not None
    model.eval()
    assert model.tracker.memory(1) is None


def test_the_network_holds_no_state():
    model = tiny_video_model()
    before = copy.deepcopy(model.state_dict())
    names = {name: set(vars(module)) for name, module in model.named_modules()}
    outputs(model, pictures(2), [clip([frame([], [], number=n) for n in range(2)])])
    assert {name: set(vars(module)) for name, module in model.named_modules()} == names
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_of_shared_ids_the_last_is_output():
    assert last_of_each(torch.tensor([3, 5, 3, -1, 5, 4])).tolist() == [2, 4, 5]
    assert last_of_each(torch.zeros(0, dtype=torch.long)).tolist() == []
