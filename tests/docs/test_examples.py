"""Python of the pages: everything parses, imports exist, and what is a config builds its model."""

import ast
import importlib
from pathlib import Path

import doc_pages
import pytest
import torch
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config

BLOCKS = [block for page in doc_pages.pages() for block in doc_pages.blocks(page, 'python')]
# Tested where they are made: with a head of the reader's, or with packages that are not installed.
ELSEWHERE = ('docs/adding_a_head.md', 'configs/mixed/README.md')
CONFIGS = [
    block
    for block in BLOCKS
    if '\n_base_ = ' in f'\n{block.text}' and doc_pages.name(block.page) not in ELSEWHERE
]


def title(block: doc_pages.Block) -> str:
    return f'{doc_pages.name(block.page)}:{block.line}'


@pytest.mark.parametrize('block', BLOCKS, ids=title)
def test_python_parses_and_imports_exist(block: doc_pages.Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == []


def test_own_data_and_every_family_show_a_config() -> None:
    shown = {doc_pages.name(block.page) for block in CONFIGS}
    assert shown >= {'README.md', 'docs/own_data.md', 'configs/refinemask/README.md'}


@pytest.mark.parametrize('block', CONFIGS, ids=title)
def test_configs_build_their_model(block: doc_pages.Block, tmp_path: Path) -> None:
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    path = tmp_path / 'my_config.py'
    path.write_text(block.text)
    config = Config.fromfile(path)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert sum(weight.numel() for weight in model.parameters()) > 10_000


def test_the_readers_data_set_is_checked(tmp_path: Path) -> None:
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    block = next(block for block in CONFIGS if block.page.name == 'own_data.md')
    (tmp_path / 'my_pets.py').write_text(block.text)
    config = Config.fromfile(tmp_path / 'my_pets.py')
    for loader, file in (
        (config.train_dataloader, 'train.json'),
        (config.val_dataloader, 'val.json'),
    ):
        assert loader.dataset.type == 'CheckedCocoDataset'
        assert (loader.dataset.data_root, loader.dataset.ann_file) == ('data/pets/', file)
        assert loader.dataset.metainfo == dict(classes=('cat', 'dog'))
    assert config.test_evaluator == dict(type='MaskAPMetric', ann_file='data/pets/val.json')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert model.roi_head.mask_head.num_classes == 2
