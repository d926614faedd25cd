"""``test_cfg`` of the single-stage designs: stock keys work, others are told."""

import pytest
import tiny_embedmask
import tiny_sipmask
from families import FAMILIES
from locations import ROOT
from mmengine.config import Config

from mmrefine.embedmask import detector as embedmask
from mmrefine.fcos import candidates
from mmrefine.sipmask import detector as sipmask

KNOWN = {'sipmask': sipmask.KNOWN_KEYS, 'embedmask': embedmask.KNOWN_KEYS}
CONFIGS = sorted((ROOT / 'configs' / 'sipmask').glob('sipmask*.py')) + sorted(
    path
    for path in (ROOT / 'configs' / 'embedmask').glob('embedmask*.py')
    if 'atss' not in path.stem  # its stock head has keys of its own
)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_all_keys_of_the_configs_are_known(path) -> None:
    model = Config.fromfile(path).model
    test_cfg = model.get('detector', model).test_cfg
    assert set(test_cfg) <= KNOWN[path.parent.name]


@pytest.mark.parametrize('name', ['sipmask', 'embedmask-v3'])
def test_unknown_keys_are_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(candidates, 'print_log', lambda text, **_: told.append(text))
    FAMILIES[name].build()
    assert told == []
    if name == 'sipmask':
        tiny_sipmask.tiny_detector(test={'score_treshold': 0.3})
    else:
        tiny_embedmask.tiny_detector('v3', score_treshold=0.3)
    assert len(told) == 1
    assert 'test_cfg.score_treshold without effect' in told[0] and 'score_thr' in told[0]


@pytest.mark.parametrize('name', ['sipmask', 'embedmask-v3'])
def test_small_detections_are_left_out(name: str) -> None:
    model = FAMILIES[name].build().eval()
    pixels, samples = FAMILIES[name].batch()
    for sample in samples:
        height, width = sample.img_shape
        sample.set_metainfo(dict(scale_factor=(2.0, 2.0), ori_shape=(height // 2, width // 2)))
    found = []
    for least in (-1, 20):
        model.bbox_head.test_cfg['min_bbox_size'] = least
        boxes = model.predict(pixels, samples, rescale=True)[0].pred_instances.bboxes
        found.append((boxes[:, 2:] - boxes[:, :2]).amin(dim=1))
    assert found[0].amin() <= 20 and len(found[1]) and found[1].amin() > 20
