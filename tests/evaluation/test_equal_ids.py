"""Images of several data sets with equal ids are told apart, or refused; repeated ones count
once."""

import json
import pickle
from copy import deepcopy
from pathlib import Path

import pytest
from evaluation.test_id_switches import frame
from evaluation.test_unsaid import SIZE, instances, sample, truth
from mmdet.registry import METRICS

from mmrefine.results.dumps import read_dump

TWO_FILES = 'was predicted of two files, .*_leftImg8bit.png and .*_leftImg8bit.png: .*ConcatDataset'
PATHS = ('a/town_0_0_leftImg8bit.png', 'b/town_0_0_leftImg8bit.png')


def video_frame() -> dict:
    made = frame(0, {7: 0}, [(0, 0)])
    (inner,) = made['video_data_samples']
    inner['ori_video_length'] = 1
    inner['instances'][0]['bbox_label'] = 0
    return made


def of_file(made: dict, path: str) -> dict:
    made = deepcopy(made)
    for one in made.get('video_data_samples', [made]):
        one['img_path'] = path
    return made


@pytest.mark.parametrize(
    ('kind', 'from_file', 'made'),
    [
        ('MaskAPMetric', True, sample(0)),
        ('ProposalARMetric', True, sample(0)),
        ('CityscapesMaskAPMetric', False, sample(0)),
        ('VideoMaskAPMetric', False, video_frame()),
        ('IdSwitchMetric', False, video_frame()),
    ],
)
def test_two_files_of_one_id_are_refused(
    tmp_path: Path, kind: str, from_file: bool, made: dict
) -> None:
    options: dict = {'ann_file': str(tmp_path / 'gt.json')} if from_file else {}
    if kind == 'CityscapesMaskAPMetric':  # its official code need not be there
        options = {'format_only': True, 'outfile_prefix': str(tmp_path)}
    text = json.dumps(truth({'segmentation': instances(0)['instances'][0]['mask']}))
    (tmp_path / 'gt.json').write_text(text)
    metric = METRICS.build({'type': kind, **options})
    metric.dataset_meta = {'classes': ('car',) if kind == 'CityscapesMaskAPMetric' else ('ant',)}
    metric.process({}, [of_file(made, PATHS[0]), of_file(made, PATHS[0])])
    metric.compute_metrics(list(metric.results))
    metric.process({}, [of_file(made, PATHS[1])])
    for order in (metric.results, metric.results[::-1]):
        with pytest.raises(ValueError, match=TWO_FILES):
            metric.compute_metrics(list(order))


def test_proposals_of_samples_with_annotations_are_told_apart() -> None:
    """One picture is right, one is wrong, and samplers repeat them."""
    metric = METRICS.build({'type': 'ProposalARMetric'})
    samples = [of_file(sample(0, **instances(x)), path) for x, path in zip((0, 12), PATHS)]
    metric.process({}, samples + samples[:1])
    assert metric.evaluate(3)['proposals/segm_AR@10'] == 0.5


def test_repeated_frames_count_once() -> None:
    metric = METRICS.build({'type': 'IdSwitchMetric'})
    found, missed = (frame(number, {7: 0}, [(0, x)]) for number, x in enumerate((0, 20)))
    metric.process({}, [found, found, missed])
    assert metric.compute_metrics(metric.results)['recall'] == 0.5


def test_dumps_of_several_data_sets_are_refused(tmp_path: Path) -> None:
    samples = [{'img_id': 1, 'ori_shape': SIZE, 'img_path': path} for path in PATHS]
    file = tmp_path / 'dump.pkl'
    file.write_bytes(pickle.dumps(samples[:1] * 2))
    assert read_dump(file) == samples[:1]
    file.write_bytes(pickle.dumps(samples))
    with pytest.raises(ValueError, match=f'dump.pkl: image 1 {TWO_FILES}'):
        read_dump(file)
