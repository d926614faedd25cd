"""Every key of the authors' checkpoints lands where the published table says, strictly."""

import json

import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner.checkpoint import load_checkpoint

from mmrefine.checkpoint import CheckpointError, convert, read_checkpoint, recognise

CONFIGS = dict(
    v1=dict(r50='embedmask-v1_r50_fpn_1x_coco', r101='embedmask-v1_r101_fpn_ms-3x_coco'),
    v2=dict(r50='embedmask-v2_r50_fpn_1x_coco', r101='embedmask-v2_r101_fpn_ms-3x_coco'),
    v3=dict(r50='embedmask_r50_fpn_1x_coco', r101='embedmask_r101_fpn_ms-3x_coco'),
    adet=dict(r50='embedmask-adet_r50_fpn_ms-1x_coco', r101='embedmask-adet_r101_fpn_ms-3x_coco'),
)
TABLES = {
    name: json.loads((ROOT / 'tests' / 'data' / f'embedmask_keys_{name}.json').read_text())
    for name in CONFIGS
}
CASES = [(variant, depth) for variant in CONFIGS for depth in ('r50', 'r101')]


def model(variant: str, depth: str, classes: int | None = None) -> torch.nn.Module:
    """The config's detector without memory for its weights."""
    path = ROOT / 'configs' / 'embedmask' / f'{CONFIGS[variant][depth]}.py'
    cfg = Config.fromfile(path).model
    if classes is not None:
        cfg.bbox_head.num_classes = cfg.mask_head.num_classes = classes
    with torch.device('meta'):
        return MODELS.build(cfg)


def published(variant: str, depth: str, device: str = 'meta') -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of a released file."""
    table = TABLES[variant][depth]
    shapes = {k: v[0] if depth == 'r50' else v for k, v in table.items()}
    return {
        key: torch.rand(shape, device=device)
        if device != 'meta'
        else torch.empty(shape, device=device)
        for key, shape in shapes.items()
    }


@pytest.mark.parametrize(('variant', 'depth'), CASES)
def test_released_keys_load_strictly(variant, depth):
    weights, kind = convert(published(variant, depth), model(variant, depth))
    assert kind == f'embedmask-{variant}'


@pytest.mark.parametrize('variant', CONFIGS)
def test_values_arrive_under_the_published_target_names(variant):
    source = published(variant, 'r50', device='cpu')
    weights, _ = convert(source)
    named = set()
    for key, (_, target, op) in TABLES[variant]['r50'].items():
        if op == 'drop':
            continue
        named.add(target)
        expected = source[key]
        if op == 'sub:1e-5':
            expected = expected - 1e-5
        elif op == 'reshape:[]':
            assert weights[target].shape == ()
            expected = expected.reshape(())
        assert torch.equal(weights[target], expected), key
    extra = set(weights) - named
    assert all(key.endswith('num_batches_tracked') for key in extra)


@pytest.mark.parametrize('variant', CONFIGS)
def test_generations_are_told_apart(variant):
    assert recognise(published(variant, 'r50')).name == f'embedmask-{variant}'


@pytest.mark.parametrize('variant', ['v3', 'adet'])
def test_an_authors_file_loads_into_the_detector_as_it_is(variant, tmp_path):
    source = published(variant, 'r50', device='cpu')
    wrapped = {f'module.{k}': v for k, v in source.items()} if variant == 'v3' else source
    torch.save(dict(model=wrapped, iteration=90000), tmp_path / 'author.pth')
    detector = model(variant, 'r50').to_empty(device='cpu')
    content = torch.load(tmp_path / 'author.pth', weights_only=True)['model']
    result = detector.load_state_dict(content, strict=True)
    assert not result.missing_keys
    expected, _ = convert(read_checkpoint(tmp_path / 'author.pth'))
    for key, value in detector.state_dict().items():
        assert torch.equal(value, expected[key].to(value.dtype)), key


def test_our_own_checkpoints_pass_through_unchanged(tmp_path):
    first = model('v3', 'r50').to_empty(device='cpu')
    for value in first.state_dict().values():
        value.fill_(1)
    torch.save(dict(state_dict=first.state_dict(), meta={}), tmp_path / 'own.pth')
    second = model('v3', 'r50').to_empty(device='cpu')
    load_checkpoint(second, str(tmp_path / 'own.pth'), strict=True)
    assert all(bool((v == 1).all()) for v in second.state_dict().values())


def test_wrong_class_count_is_refused_by_name_and_skipped_on_request():
    source = published('adet', 'r50')
    with pytest.raises(CheckpointError, match=r'conv_cls\.weight has shape \(80, 256, 3, 3\)'):
        convert(source, model('adet', 'r50', classes=5))
    weights, _ = convert(source, model('adet', 'r50', classes=5), skip_classifier=True)
    assert 'bbox_head.conv_cls.weight' not in weights
    assert 'mask_head.conv_seg.bias' not in weights


def test_weights_of_another_generation_are_refused_with_the_keys():
    with pytest.raises(CheckpointError, match='conv_embed_spatial'):
        convert(published('v2', 'r50'), model('v1', 'r50'))
