"""Memory of a very large photo, measured in a process of its own."""

import json
import sys
from pathlib import Path

import pytest
from locations import ROOT
from tiny_training import run

# 300 objects on 48 megapixels; the peak counts from the loaded model on, in MiB.
SCRIPT = """
import json, resource, sys
import cv2, numpy as np, torch
import mmrefine
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

torch.set_num_threads(1)
init_default_scope('mmdet')
config = Config.fromfile(sys.argv[1])
nms = dict(type='nms', iou_threshold=0.99)
config.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=300, nms=nms)
resize = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
config.test_dataloader.dataset.pipeline[1] = resize
torch.manual_seed(0)
model = MODELS.build(config.model)
model.init_weights()
model.cfg = config
model.dataset_meta = dict(classes=config.metainfo.classes)
grid = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
cv2.imwrite('large.jpg', cv2.resize(grid, (8000, 6000), interpolation=cv2.INTER_CUBIC))
before = int(open('/proc/self/status').read().split('VmRSS:')[1].split()[0])
open('/proc/self/clear_refs', 'w').write('5')  # the peak so far is forgotten
run = mmrefine.predict(model, 'large.jpg', 'out', score=0.0)
peak = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])
print(json.dumps(dict(objects=sum(run.objects.values()), mib=(peak - before) / 1024)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='reads the peak from /proc')
def test_300_objects_on_48_megapixels_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    config = ROOT / 'configs' / 'refinemask' / 'mask-rcnn_tiny_shapes.py'
    (tmp_path / 'measure.py').write_text(SCRIPT)
    printed = run('python', 'measure.py', config, folder=tmp_path, PYTHONPATH=str(ROOT))
    found = json.loads(printed.splitlines()[-1])
    assert found['objects'] == 300
    assert found['mib'] < 1024
    assert len(json.loads((tmp_path / 'out' / 'predictions.json').read_text())) == 300
    assert (tmp_path / 'out' / 'pictures' / 'large.jpg').is_file()
