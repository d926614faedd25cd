"""What tracking adds to a frame of SipMask-VIS: the association, and the branch of the network.

Published widths, random weights, one 640 x 360 frame with 10 detections, 100 remembered objects.
The figure is a ratio of times: the frame with tracking against the same frame without.
"""

from collections.abc import Callable

import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from mmrefine.sipmask.video.track_head import box_centers
from mmrefine.sipmask.video.tracker import FrameObjects, MatchRule, TrackMemory, associate

from .harness import Row, compare

SIZE = (360, 640)
PADDED = (384, 640)
DETECTIONS = 10
REMEMBERED = 100
EMBEDDING = 512
FRAMES = 2000


def video_model(device: str) -> torch.nn.Module:
    """SipMask-VIS with ResNet-50, random weights and exactly 10 detections a frame."""
    torch.manual_seed(0)
    model = MODELS.build(
        {
            'type': 'SipMaskVIS',
            'backbone': {
                'type': 'ResNet', 'depth': 50, 'norm_eval': True, 'style': 'caffe',
            },
            'neck': {
                'type': 'FPN', 'in_channels': [256, 512, 1024, 2048], 'out_channels': 256,
                'start_level': 1, 'add_extra_convs': 'on_output', 'num_outs': 5,
                'relu_before_extra_convs': True,
            },
            'bbox_head': {'type': 'SipMaskBBoxHead', 'num_classes': 40, 'stacked_convs': 3},
            'mask_head': {'type': 'SipMaskHead'},
            'track_head': {'type': 'SipMaskTrackHead'},
            'test_cfg': {
                'nms_pre': 200, 'score_thr': 0.0, 'max_per_img': DETECTIONS, 'mask_thr': 0.5,
                'nms': {'type': 'fast', 'iou_threshold': 0.5},
                'mask_format': 'rle',
            },
        }
    )  # fmt: skip
    model.init_weights()
    with torch.no_grad():
        model.bbox_head.conv_reg.bias.fill_(5.0)
    return model.to(device).eval()


def drawn(count: int, device: str, seed: int) -> FrameObjects:
    """Random detections all over the frame."""
    generator = torch.Generator().manual_seed(seed)
    height, width = SIZE
    sides = 20 + torch.rand(count, 2, generator=generator) * 80
    corners = torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - sides)
    return FrameObjects(
        torch.cat((corners, corners + sides), dim=1).to(device),
        torch.rand(count, generator=generator).sort(descending=True).values.to(device),
        torch.randint(0, 40, (count,), generator=generator).to(device),
        torch.randn(count, EMBEDDING, generator=generator).to(device),
    )


def remembered(device: str) -> TrackMemory:
    """A memory of 100 objects."""
    found = drawn(REMEMBERED, device, seed=1)
    return associate(TrackMemory.empty(found, SIZE), found, MatchRule(), SIZE)[1]


def frame_functions(device: str) -> dict[str, Callable]:
    """One frame with more and more of the tracking, and the branch alone in two forms.

    ``frame`` (no tracking), ``association`` (on ready embeddings) and ``whole`` (in two precisions)
    return the boxes of the detections; ``cells`` and ``map`` their embeddings, computed where they
    are read and everywhere. Results within each group must agree.
    """
    model, memory, rule = video_model(device), remembered(device), MatchRule()
    image = torch.randn(1, 3, *PADDED, generator=torch.Generator().manual_seed(0)).to(device)
    meta = {'img_shape': SIZE, 'ori_shape': SIZE, 'scale_factor': (1.0, 1.0)}
    ready = torch.randn(DETECTIONS, EMBEDDING, device=device)
    head = model.track_head

    def detect(x: tuple[Tensor, ...]) -> tuple[InstanceData, list[Tensor]]:
        outputs = model.bbox_head(x)
        return model.bbox_head.predict_by_feat(outputs, [meta])[0], outputs.features

    def in_cells(x: tuple[Tensor, ...], boxes: Tensor, dtype: str = 'float32') -> Tensor:
        head.tower_dtype = dtype
        return head.embed_cells([level[0] for level in head.towers(x)], box_centers(boxes))

    def frame(branch: bool, association: bool, dtype: str = 'float32') -> Tensor:
        with torch.no_grad():
            x = model.extract_feat(image)
            result, features = detect(x)
            if association:
                embeds = in_cells(x, result.bboxes, dtype) if branch else ready
                found = FrameObjects(result.bboxes, result.scores, result.labels, embeds)
                associate(memory, found, rule, SIZE)
            basis = model.mask_head(features)
            return model.mask_head.predict_by_feat(basis, [result], [meta])[0].bboxes

    with torch.no_grad():
        pyramid = model.extract_feat(image)
        boxes = detect(pyramid)[0].bboxes
    return {
        'frame': lambda: frame(False, False),
        'association': lambda: frame(False, True),
        'whole': lambda: frame(True, True),
        'whole in bfloat16': lambda: frame(True, True, 'bfloat16'),
        'cells': torch.no_grad()(lambda: in_cells(pyramid, boxes)),
        'map': torch.no_grad()(lambda: head.embed(head(pyramid)[0], box_centers(boxes))),
    }


def overhead_rows(device: str) -> list[Row]:
    """Ratios of a frame with tracking to one without, and what reading cells alone saves."""
    run = frame_functions(device)
    details = {'detections': len(run['frame']())}
    size = f'{DETECTIONS} detections, {REMEMBERED} objects'
    pairs = (
        (f'association, {size}', 'frame', 'association', 0.0),
        (f'branch and association, {size}', 'frame', 'whole', 0.0),
        (f'branch in bfloat16 and association, {size}', 'frame', 'whole in bfloat16', 0.0),
        (f'branch in the cells of {DETECTIONS} detections / everywhere', 'cells', 'map', 1e-5),
    )
    return [
        compare(
            'track', case, run[ours], run[peer],
            device=device, tolerance=tolerance, repeats=7, memory=False, details=details,
        )
        for case, ours, peer, tolerance in pairs
    ]  # fmt: skip


def unseen(number: int, device: str) -> FrameObjects:
    """Detections of objects that resemble none before: nothing matches, all are new."""
    which = (number * DETECTIONS + torch.arange(DETECTIONS)) % EMBEDDING
    return FrameObjects(
        torch.zeros(DETECTIONS, 4, device=device),
        torch.full((DETECTIONS,), 0.5, device=device),
        torch.zeros(DETECTIONS, dtype=torch.long, device=device),
        torch.eye(EMBEDDING)[which].to(device),
    )


def memory_rows(device: str) -> list[Row]:
    """Bytes remembered after 2,000 frames of ever new objects against after 200."""
    sizes = []
    memory = TrackMemory.empty(unseen(0, device), SIZE)
    for number in range(FRAMES):
        memory = associate(memory, unseen(number, device), MatchRule(), SIZE)[1]
        if number + 1 in (FRAMES // 10, FRAMES):
            sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in memory[:5]))
    early, late = sizes
    details = {'bytes_after_200': early, 'bytes_after_2000': late, 'objects': memory.next_id}
    case = f'remembered after {FRAMES} frames / after {FRAMES // 10}'
    return [Row('track', case, 1.0, late / early, 0.0, early == late, details)]


BENCHMARKS = {'track': lambda device: [*overhead_rows(device), *memory_rows(device)]}
