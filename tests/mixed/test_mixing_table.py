"""The pages show the mixtures that are run; examples stay short; ConvNeXt fits when it is there."""

import re
import sys
from pathlib import Path

import pytest
from locations import ROOT
from mixed.shrink import SWIN
from mixed.test_mixtures import small_model, train_and_predict
from mmengine.config import Config, ConfigDict

sys.path.insert(0, str(ROOT / 'tools'))
import mixing_table

EXAMPLES = sorted((ROOT / 'configs' / 'mixed').glob('*.py'))


@pytest.mark.parametrize('name', ['long', 'short'])
def test_the_tables_are_current(name: str) -> None:
    lines = mixing_table.long_table() if name == 'long' else mixing_table.short_table()
    text = mixing_table.PAGES[name].read_text()
    assert mixing_table.page_with(text, lines) == text, 'run python tools/mixing_table.py --write'


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match='once each'):
        mixing_table.page_with('text', [])


@pytest.mark.parametrize('path', EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_are_short_and_stand_on_one_stock_config(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 15
    bases = [line for line in lines if line.startswith('_base_')]
    assert len(bases) == 1 and re.fullmatch(r"_base_ = 'mmdet::[\w./+-]+'", bases[0])
    hook = "default_hooks = dict(learnable=dict(type='LearnableDataHook'))"
    allowed = (
        '# ',
        '_base_ = ',
        'custom_imports = ',
        'model = ',
        'optim_wrapper = ',
        ' ',
        ')',
        hook,
    )
    assert [line for line in lines if not line.startswith(allowed)] == []


def readme_blocks() -> list[str]:
    text = (ROOT / 'configs' / 'mixed' / 'README.md').read_text()
    return re.findall(r'```python\n(.*?)```', text, re.S)


def test_every_snippet_of_the_page_is_a_config(tmp_path: Path) -> None:
    for number, block in enumerate(readme_blocks()):
        (tmp_path / f'block{number}.py').write_text(block)
        config = Config.fromfile(tmp_path / f'block{number}.py', import_custom_modules=False)
        assert config.custom_imports['imports'][-1] == 'mmrefine'


def test_the_convnext_snippet_fits_maps_of_its_widths(tmp_path: Path) -> None:
    """Its backbone needs mmpretrain; one of MMDetection with as many maps takes its place."""
    (block,) = [block for block in readme_blocks() if 'convnext' in block]
    # the snippet imports mmpretrain, which need not be installed here
    (tmp_path / 'convnext.py').write_text(block.replace("'mmpretrain.models', ", ''))
    config = Config.fromfile(tmp_path / 'convnext.py')
    assert config.model.backbone.type == 'mmpretrain.ConvNeXt'
    widths = config.model.neck.in_channels
    stand_in = ConfigDict(SWIN, type='SwinTransformer', embed_dims=96)
    assert widths == [stand_in.embed_dims << stage for stage in range(4)]
    config.model.backbone = stand_in
    train_and_predict(small_model(config))
