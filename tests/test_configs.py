"""Every config loads, survives a dump, builds its model, and is named as its metafile says."""

import ast
import functools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from locations import ROOT
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from torch.overrides import TorchFunctionMode

FILES = sorted((ROOT / 'configs').rglob('*.py'))
LEAVES = [path for path in FILES if '_base_' not in path.parts]
METAFILES = sorted((ROOT / 'configs').rglob('metafile.yml'))


class RealSchedules(TorchFunctionMode):
    """Keep ``linspace`` on the CPU: backbones read their rates of stochastic depth off it."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.linspace:
            kwargs = {**(kwargs or {}), 'device': 'cpu'}
        return func(*args, **(kwargs or {}))


def ids(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT / 'configs').as_posix() for path in paths]


@functools.cache
def loaded(path: Path) -> Config:
    return Config.fromfile(path)


def entries() -> list[tuple[Path, dict]]:
    """Metafile and entry of every published model."""
    return [
        (path, entry) for path in METAFILES for entry in yaml.safe_load(path.read_text())['Models']
    ]


@pytest.mark.parametrize('path', LEAVES, ids=ids(LEAVES))
def test_config_loads_dumps_and_builds(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The layout of the dumped file is yapf's, which takes longer than all the rest.
    monkeypatch.setattr(
        mmengine_config, 'FormatCode', lambda text, **style: (text, True), raising=False
    )
    config = loaded(path)
    assert config.custom_imports == dict(imports=['mmrefine'], allow_failed_imports=False)
    config.dump(tmp_path / path.name)
    again = Config.fromfile(tmp_path / path.name)
    assert again.to_dict() == config.to_dict()
    # No memory for weights: on the meta device even the largest model builds in a moment.
    with torch.device('meta'), RealSchedules():
        model = MODELS.build(config.model)
    assert sum(weight.numel() for weight in model.parameters()) > 10_000


def test_example_of_the_readme_builds(tmp_path: Path) -> None:
    blocks = re.findall(r'```python\n(_base_.*?)```', (ROOT / 'README.md').read_text(), re.S)
    assert len(blocks) == 1
    (tmp_path / 'my_config.py').write_text(blocks[0])
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(tmp_path / 'my_config.py').model)
    assert type(model.roi_head.mask_head).__name__ == 'RefineMaskHead'


@pytest.mark.parametrize('path', FILES, ids=ids(FILES))
def test_config_is_plain_data(path: Path) -> None:
    """Imports break inheritance inside virtual environments, classes break the dump."""
    forbidden = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.For, ast.If)
    tree = ast.parse(path.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, forbidden)]


def test_no_two_configs_share_a_name() -> None:
    """``mim`` finds configs by their names alone and stops at a second of the same name."""
    assert [name for name, times in Counter(path.name for path in FILES).items() if times > 1] == []


def test_families_are_complete() -> None:
    for folder in {path.parent for path in LEAVES}:
        assert (folder / 'README.md').is_file(), f'{folder.name} has no README.md'
        assert (folder / 'metafile.yml').is_file(), f'{folder.name} has no metafile.yml'


def test_metafile_entries_name_their_configs() -> None:
    collections: dict[Path, set[str]] = {}
    for path in METAFILES:
        listed = yaml.safe_load(path.read_text()).get('Collections', [])
        collections[path] = {collection['Name'] for collection in listed}
    for path, entry in entries():
        config = ROOT / entry['Config']
        assert config.is_file() and config.parent == path.parent, entry['Config']
        assert entry['Name'] == config.stem
        assert entry['In Collection'] in collections[path]
        assert entry.get('Results') is None or all(row['Metrics'] for row in entry['Results'])
    names = [entry['Name'] for _, entry in entries()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize('family', ['refinemask', 'sharpmask', 'sipmask', 'embedmask'])
def test_cityscapes_trains_from_imagenet_at_a_rate_for_eight_images(family: str) -> None:
    (path,) = (ROOT / 'configs' / family).glob('*_cityscapes.py')
    config = Config.fromfile(path)
    assert config.auto_scale_lr.base_batch_size == 8
    assert config.load_from is None
    assert 'resnet50' in config.model.backbone.init_cfg.checkpoint


# Mixtures keep the pipeline of the stock config that they stand on.
OWN = [path for path in LEAVES if path.parent.name != 'mixed']


@pytest.mark.parametrize('path', OWN, ids=ids(OWN))
def test_no_config_takes_objects_in_rle_for_background(path: Path) -> None:
    nodes = [loaded(path).train_dataloader.dataset]
    while nodes:
        node = nodes.pop()
        for step in node.get('pipeline') or []:
            assert step.type != 'LoadAnnotations' or step.get('poly2mask', True), step
        nodes += [node.dataset] if 'dataset' in node else []


@pytest.mark.parametrize('path', LEAVES, ids=ids(LEAVES))
def test_recall_is_of_as_many_proposals_as_it_says(path: Path) -> None:
    config = loaded(path)
    if 'ProposalARMetric' in repr(config.test_evaluator):
        assert config.model.test_cfg.max_per_img >= 1000
