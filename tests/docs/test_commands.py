"""Every command of the documentation is run: here, or by the test named beside its pattern."""

import functools
import json
import re
import shutil
from pathlib import Path

import doc_pages
import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from shapes import SceneSpec, make_shapes
from tiny_training import run

MIM = 'tests/test_mim.py'
EVALUATE = 'tests/evaluation/test_evaluate_tool.py'
SUBMIT = 'tests/submission/test_make_submission.py'
CITYSCAPES = 'tests/evaluation/test_cityscapes.py::test_files_score_as_the_metric_does'
# Pattern of a whole command -> the test that runs it at a small size, or the script that holds it.
# The first that fits counts.
COVERED = {
    r'bash tools/demo\.sh( --train)?': 'tools/demo.sh',
    r'git clone ADDRESS .*': (
        'tests/test_packaging.py::test_a_clone_holds_what_the_first_commands_need'
    ),
    r'docker build --target (cpu|cuda) .*': (
        'tests/test_dockerfile.py::test_there_is_a_stage_for_each_device'
    ),
    r'bash tools/install\.sh( --stack onedl)?( && source .*)?': '.github/workflows/test.yml',
    r'bash tools/install\.sh --check': 'tests/test_packaging_tools.py::test_check_runs',
    r'bash tools/install\.sh --(no-venv|python \S+)': 'tools/test.sh',
    r'bash tools/test\.sh( .*)?': '.github/workflows/test.yml',
    r'bash tools/check_gpu\.sh .*': (
        'tests/test_packaging_tools.py::test_the_check_of_a_gpu_refuses_to_run_without_one'
    ),
    r'pip install \.': 'tests/test_mim.py::test_mim_downloads_weights_and_config',
    r'pip install onedl-.*|mim train onedl-mmdetection .*': (
        'tests/test_packaging_tools.py::test_environment_of_another_line_is_left_alone'
    ),
    r'pip install onnx .*': 'tests/export/test_onnx_file.py::test_missing_packages_are_named',
    r'pip install .*': 'tests/docs/test_pages.py::test_pins_are_those_of_the_lock',
    r'mim train mmrefine \w+_tiny_shapes\.py': (
        f'{MIM}::test_mim_finds_a_config_of_this_package_by_name'
    ),
    r'mim train mmrefine data/my_photos/my_photos\.py': (
        'tests/apis/test_prepare_data.py::test_the_command_says_what_to_run_next'
    ),
    r'python tools/prepare_data\.py .*': (
        'tests/apis/test_prepare_data.py::test_the_command_says_what_to_run_next'
    ),
    r'python tools/predict\.py .*': (
        'tests/apis/test_predict_command.py::test_the_command_from_another_folder_with_relative_paths'
    ),
    r'python tools/get_backbone\.py .*': (
        'tests/backbones/test_packaged.py::test_the_real_weights_know_photos'
    ),
    r'mim test mmdet configs/\w+/\w+_windows\.py --checkpoint demo/.*': (
        'tests/test_demo_weights.py::test_the_whole_set_gives_the_figures_of_the_card'
    ),
    r'mim train mmdet configs/\w+/\w+_mobilenetv2_fpn_1k_windows\.py.*': (
        'tests/learning/test_plan.py::test_runs_on_photos_are_those_of_the_configs'
    ),
    r'mim gridsearch mmdet .*': f'{MIM}::test_mim_searches_a_grid',
    r'mim (train|test) mmdet configs/sipmask/sipmask-vis_.*': (
        'tests/sipmask/video/test_data.py::'
        'test_generated_clips_train_validate_and_give_a_submission'
    ),
    r'mim (train|test) mmdet configs/sharpmask/(deep|sharp|fast-).*': (
        'tests/sharpmask/test_training.py::test_deepmask_then_sharpmask_then_fast_rcnn'
    ),
    r'mim train mmdet configs/\w+/[\w-]+_r50\S*_coco\.py.*': (
        'tests/test_configs.py::test_config_loads_dumps_and_builds'
    ),
    r'mim test mmdet configs/\w+/[\w-]+_r50\S*_coco\.py.*': (
        f'{MIM}::test_mim_trains_and_tests_by_the_name_of_mmdet'
    ),
    r'mim train mmdet configs/\w+/[\w-]+_tiny_shapes\.py': (
        'tests/learning/test_runs.py::test_the_command_trains_compares_and_draws'
    ),
    r'(PYTHONPATH=\. )?mim (train|test) mmdet my_config\.py.*': (
        f'{MIM}::test_mim_trains_and_tests_by_the_name_of_mmdet'
    ),
    r'python tools/convert_checkpoint\.py .*configs/sipmask/.*': (
        'tests/sipmask/test_checkpoint.py::test_every_published_model_loads_strictly'
    ),
    r'python tools/convert_checkpoint\.py .*configs/embedmask/.*': (
        'tests/embedmask/test_checkpoint.py::test_released_keys_load_strictly'
    ),
    r'python tools/convert_checkpoint\.py model\.t7 .*': (
        'tests/sharpmask/test_checkpoint.py::test_torch7_checkpoints_fit_strictly'
    ),
    r'python tools/show_embedding\.py .*': (
        'tests/embedmask/test_show_embedding.py::test_one_row_of_three_panels_a_picture'
    ),
    r'python tools/track_video\.py .*': (
        'tests/sipmask/video/test_inference.py::test_the_tool_writes_frames_and_tracks'
    ),
    r'python tools/make_shapes\.py \S+( --format [\w-]+)?': (
        'tests/datasets/test_shapes_formats.py::test_the_command_writes_repeats_and_refuses'
    ),
    r'python tools/refine_results\.py .*': (
        'tests/apis/test_refine_results.py::test_same_entries_with_the_masks_of_the_model'
    ),
    r'python tools/export_onnx\.py .*': (
        'tests/export/test_onnx_file.py::test_tool_writes_and_checks'
    ),
    r'python tools/parity\.py .*': 'tests/replay/test_run.py::test_empty_directory_is_an_error',
    r'python tools/benchmark\.py .*': (
        'tests/benchmark/test_benchmark_tool.py::test_everything_runs_at_tiny_sizes'
    ),
    r'python tools/learning_proof\.py .*': (
        'tests/learning/test_runs.py::test_the_command_trains_compares_and_draws'
    ),
    r'python tools/mask_grids\.py .*': (
        'tests/learning/test_mask_grids.py::test_main_prints_one_line_a_grid_or_one_sentence'
    ),
    r'python tools/mixing_table\.py.*': (
        'tests/mixed/test_mixing_table.py::test_the_tables_are_current'
    ),
    r'python tools/leaderboard\.py .*': (
        'tests/evaluation/test_bootstrap.py::test_the_table_has_every_file_and_its_gain_over_the_first'
    ),
    r'python tools/publish_weights\.py .*': (
        'tests/test_safetensors_file.py::test_published_weights_fill_the_model'
    ),
    r'python tools/evaluate\.py .*--format (lvis|lvis-fixed)': (
        f'{EVALUATE}::test_numbers_are_written_by_name'
    ),
    r'python tools/evaluate\.py .*--format coco-on-lvis': (
        f'{EVALUATE}::test_ap_star_drops_images_beyond_the_annotations'
    ),
    r'python tools/evaluate\.py .*--format youtube-vis': f'{EVALUATE}::test_tracks',
    r'python tools/evaluate\.py --gt ANNOTATIONS\.json .*': (
        f'{EVALUATE}::test_options_reach_the_rules'
    ),
    r'python tools/evaluate\.py .*--format cityscapes': CITYSCAPES,
    r'python tools/submit\.py make --format lvis .*': (
        f'{SUBMIT}::test_the_best_three_hundred_of_an_image_go_to_lvis'
    ),
    r'python tools/submit\.py make --format cityscapes .*': (
        f'{SUBMIT}::test_cityscapes_tree_replaces_only_its_own_kind'
    ),
    r'python tools/submit\.py make --format youtube-vis .*': (
        f'{SUBMIT}::test_tracks_are_zipped_as_results_json'
    ),
}
# Pages whose other commands are run below, each page in a folder, and files they make.
SESSIONS = {
    'docs/tour.md': (
        'work_dirs/tour/pictures/sheet.jpg',
        'work_dirs/tour/training.png',
        'work_dirs/tour/scores.json',
        'work_dirs/tour/report.html',
    ),
    'docs/own_data.md': ('work_dirs/my_pets/epoch_1.pth', 'start.pth'),
    'docs/evaluation.md': ('OUT.json', 'REPORT.html'),
    'docs/migration.md': ('OURS.pth',),
    'configs/refinemask/README.md': ('OUT.pth',),
}
SMALL_MODEL = ' '.join(
    f'model.{setting}'
    for setting in (
        *('backbone.depth=18', 'backbone.base_channels=8', 'backbone.init_cfg=None'),
        *('neck.in_channels=[8,16,32,64]', 'neck.out_channels=16'),
        *('rpn_head.in_channels=16', 'rpn_head.feat_channels=16'),
        *('roi_head.bbox_roi_extractor.out_channels=16', 'roi_head.bbox_head.in_channels=16'),
        *('roi_head.bbox_head.fc_out_channels=32', 'roi_head.mask_roi_extractor.out_channels=16'),
        'roi_head.mask_head.conv_out_channels_instance=64',
        'roi_head.mask_head.conv_out_channels_semantic=16',
    )
)
SMALL_RUN = (
    'train_cfg.max_epochs=1 train_dataloader.num_workers=0 val_dataloader.num_workers=0 '
    'test_dataloader.num_workers=0 train_dataloader.persistent_workers=False '
    'val_dataloader.persistent_workers=False test_dataloader.persistent_workers=False '
    '"train_dataloader.dataset.pipeline.2.scale=(96,96)" '
    '"val_dataloader.dataset.pipeline.1.scale=(96,96)" '
    '"test_dataloader.dataset.pipeline.1.scale=(96,96)" env_cfg.dist_cfg.backend=gloo'
)
# What is written -> what is run: small sizes, and files for the names in capitals.
BOUND = (
    (r'data/shapes --num 400', 'data/shapes --num 8 --size 96'),
    (r'=200\b', '=2'),
    (r'\biter_200\b', 'iter_2'),
    (r'(mim (?:train|test) mmdet my_pets\.py .*)', rf'\1 --cfg-options {SMALL_MODEL} {SMALL_RUN}'),
    (r'\bepoch_12\b', 'epoch_1'),
    (r'\b(RESULTS|A|B)\.json\b', 'results.json'),
    (r'\bGT\.json\b', 'data/shapes/annotations/instances_val.json'),
    (r'\bIMAGES\b', 'data/shapes'),
    (r'\bFILE$', 'SUBMISSION/detections_test-dev2017_mmrefine_results.json'),
)


def covering(command: str) -> str | None:
    """What runs a command elsewhere."""
    found = (where for pattern, where in COVERED.items() if re.fullmatch(pattern, command))
    return next(found, None)


@functools.lru_cache
def definitions(path: str) -> set[str]:
    return set(re.findall(r'^def (\w+)\(', (ROOT / path).read_text(), re.M))


def exists(where: str, command: str) -> bool:
    """Whether a test is there, or a script that holds the command."""
    path, _, test = where.partition('::')
    if not (ROOT / path).is_file():
        return False
    if test:
        return test in definitions(path)
    return ' '.join(command.split()[:2]) in (ROOT / path).read_text()


@pytest.mark.parametrize('page', doc_pages.pages(), ids=doc_pages.name)
def test_every_command_is_run_somewhere(page: Path) -> None:
    missing = []
    for block, command in doc_pages.all_commands():
        if block.page != page:
            continue
        where = covering(command)
        if where is None and doc_pages.name(page) not in SESSIONS:
            missing.append(f'line {block.line}: {command}')
        elif where is not None and not exists(where, command):
            missing.append(f'line {block.line}: {where} is not there')
    assert missing == []


@pytest.mark.parametrize('page', doc_pages.pages(), ids=doc_pages.name)
def test_tools_have_the_options_of_the_commands(page: Path) -> None:
    wrong = []
    for block, command in doc_pages.all_commands():
        tool = re.match(r'python (tools/\w+\.py)', command)
        if block.page != page or not tool:
            continue
        source = (ROOT / tool[1]).read_text()
        flags = re.findall(r'--[\w-]+', command)
        wrong += [f'{tool[1]} {flag}' for flag in flags if f"'{flag}'" not in source]
    assert wrong == []


def test_an_unknown_command_is_found() -> None:
    assert covering('python tools/no_such_tool.py') is None
    assert covering('mim train mmdet configs/refinemask/no_such_config.py') is None
    assert not exists('tests/test_mim.py::test_that_is_not_there', 'mim train')
    assert not exists('tools/demo.sh', 'rm everything')


def write_pets(folder: Path) -> None:
    """The reader's data set of docs/own_data.md: shapes under the names of two classes."""
    make_shapes(folder / 'source', 'coco', 4, 2, SceneSpec(height=96, width=96), seed=0)
    shutil.copytree(folder / 'source', folder / 'data' / 'pets' / 'images')
    for split in ('train', 'val'):
        source = folder / 'source' / 'annotations' / f'instances_{split}.json'
        content = json.loads(source.read_text())
        content['categories'] = [dict(id=1, name='cat'), dict(id=2, name='dog')]
        for annotation in content['annotations']:
            annotation['category_id'] = annotation['category_id'] % 2 + 1
        (folder / 'data' / 'pets' / f'{split}.json').write_text(json.dumps(content))


def write_results(folder: Path) -> None:
    """The pictures of the tour and a result file for them: the truth with scores."""
    make_shapes(folder / 'data' / 'shapes', 'coco', 8, 2, SceneSpec(height=96, width=96), seed=0)
    content = json.loads((folder / 'data/shapes/annotations/instances_val.json').read_text())
    keys = ('image_id', 'category_id', 'segmentation')
    results = [{key: a[key] for key in keys} | {'score': 0.9} for a in content['annotations']]
    (folder / 'results.json').write_text(json.dumps(results))


def write_weights(folder: Path) -> None:
    """A file with the keys and shapes of the authors' RefineMask."""
    config = Config.fromfile(ROOT / 'configs/refinemask/refinemask_r50_fpn_1x_coco.py')
    with torch.device('meta'):
        shapes = MODELS.build(config.model).state_dict()
    weights = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in shapes.items()}
    torch.save(dict(state_dict=weights, meta={}), folder / 'AUTHORS.pth')


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A checkout, as far as the commands see it, with the files a reader has."""
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    write_pets(tmp_path)
    write_weights(tmp_path)
    for block in doc_pages.blocks(ROOT / 'docs' / 'own_data.md', 'python'):
        if title := re.match(r'# (\w+\.py)\n', block.text):
            (tmp_path / title[1]).write_text(block.text)
    return tmp_path


def bound_commands(page: str) -> list[str]:
    """The commands of a page that are not covered, as they are run."""
    found = []
    for block, command in doc_pages.all_commands():
        if doc_pages.name(block.page) == page and covering(command) is None:
            for pattern, value in BOUND:
                command = re.sub(pattern, value, command)
            found.append(command)
    return found


def test_no_name_in_capitals_stays_unbound() -> None:
    files = {'AUTHORS.pth', 'OURS.pth', 'OUT.pth', 'OUT.json', 'REPORT.html', 'SUBMISSION'}
    for command in (command for page in SESSIONS for command in bound_commands(page)):
        names = set(re.findall(r'(?<![\w=])[A-Z]{2,}(?:\.\w+)?(?![\w/])', command))
        assert names <= files, command


@pytest.mark.slow
@pytest.mark.parametrize('page', SESSIONS)
def test_the_commands_of_a_page_run(page: str, workplace: Path) -> None:
    if page == 'docs/evaluation.md':
        write_results(workplace)
    for command in bound_commands(page):
        run('bash', '-c', command, folder=workplace, MMREFINE_SHAPES='data/shapes')
    for name in SESSIONS[page]:
        assert (workplace / name).stat().st_size > 0, name
    if page == 'docs/evaluation.md':
        scores = json.loads((workplace / 'OUT.json').read_text())
        assert scores['segm_AP'] == scores['boundary_AP'] == pytest.approx(1.0)
