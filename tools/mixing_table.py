"""Table of the mixtures that the tests build, train for a step and run.

``python tools/mixing_table.py`` prints it. --write puts it into configs/mixed/README.md and into
the README of the repository, --check tells whether it is there.
"""

import argparse
import copy
import functools
import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config, ConfigDict

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = '<!-- mixing table: begin -->', '<!-- mixing table: end -->'
PAGES = {'long': ROOT / 'configs' / 'mixed' / 'README.md', 'short': ROOT / 'README.md'}
# Mixtures that live with their family.
FAMILY = (
    'refinemask/refinemask_r50_fpn_1x_coco',
    'sharpmask/sharpmask-neck_mask-rcnn_r50_1x_coco',
    'sharpmask/sharpmask-roi-agnostic_r50_fpn_1x_coco',
    'sharpmask/sharpmask-roi-cascade_r50_fpn_1x_coco',
    'sharpmask/sharpmask-roi_r50_fpn_1x_coco',
    'embedmask/embedmask_atss_r50_fpn_1x_coco',
)
# Mask heads run in a config, by the beginning of its name; the first is the one that it names.
HEADS = {
    'refinemask-simple': ('SimpleRefineMaskHead',),
    'refinemask': ('RefineMaskHead', 'SimpleRefineMaskHead'),
    'sharpmask-neck': ('FCNMaskHead',),
    'sharpmask': ('SharpMaskHead',),
    'sipmask': ('SipMaskHead',),
    'embedmask': ('EmbedMaskHead',),
}
BOXES = {
    'HTCSharpMask': 'HTC',
    'HTCRefine': 'HTC',
    'CascadeRefine': 'Cascade R-CNN',
    'Cascade': 'Cascade R-CNN',
    'DynamicRefine': 'Dynamic R-CNN',
    'DynamicSharpMask': 'Dynamic R-CNN',
    'CascadeSharpMask': 'Cascade R-CNN',
    'SparseRefine': 'QueryInst',
    'Refine': 'Faster R-CNN',
    'SharpMask': 'Faster R-CNN',
    'Standard': 'Faster R-CNN',
    'SipMaskBBoxHead': 'SipMask',
    'EmbedMaskBBoxHead': 'EmbedMask',
    'EmbeddedHead': 'ATSS',
}
BACKBONES = {'SwinTransformer': 'Swin-T', 'HRNet': 'HRNetV2p-W18'}
NECKS = {'TopDownRefineNeck': '`TopDownRefineNeck`', 'NASFPN': 'NAS-FPN'}


class Mixture(NamedTuple):
    """A config of this package and the mask head that is run in it."""

    config: str  # path below ``configs``, without ``.py``
    mask_head: str  # name of the mask head's class
    swapped: bool  # whether it replaces the one that the config names

    def load(self) -> Config:
        """The config with this mask head.

        Raises:
            ValueError: The config names another one than its own name tells.
        """
        config = copy.deepcopy(read(self.config))
        head = mask_head_of(config.model)
        if self.swapped:
            head['type'] = self.mask_head
            head.pop('loss_cfg', None)  # each variant has its own
        elif head['type'] != self.mask_head:
            raise ValueError(f'{self.config} names {head["type"]}, expected {self.mask_head}')
        return config


@functools.cache
def read(name: str) -> Config:
    """Config of a path below ``configs``, read once; not to be changed."""
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def mask_head_of(model: ConfigDict) -> ConfigDict:
    """Config of the mask head of a two-stage or a single-stage detector."""
    return model.roi_head.mask_head if 'roi_head' in model else model.mask_head


def mixtures() -> list[Mixture]:
    """Every mixture: configs of ``configs/mixed`` and ``FAMILY``, RefineMask in both variants.

    Raises:
        ValueError: A config's name begins with none of ``HEADS``.
    """
    own = sorted(f'mixed/{path.stem}' for path in (ROOT / 'configs' / 'mixed').glob('*.py'))
    found = []
    for name in (*FAMILY, *own):
        stem = Path(name).name
        heads = next((heads for start, heads in HEADS.items() if stem.startswith(start)), None)
        if heads is None:
            raise ValueError(f'{name}: begin the name with one of {", ".join(HEADS)}')
        found += [Mixture(name, head, head != heads[0]) for head in heads]
    return found


def parts(model: ConfigDict) -> tuple[str, str, str]:
    """Boxes, backbone and neck of a model in words."""
    if 'roi_head' in model:
        boxes = BOXES[model.roi_head.type.removesuffix('RoIHead')]
        heads = model.roi_head.bbox_head
        losses = [head.loss_cls.type for head in (heads if isinstance(heads, list) else [heads])]
        boxes += ', Seesaw, LVIS v1' if 'SeesawLoss' in losses else ''
    else:
        boxes = BOXES[model.bbox_head.type]
    backbone = model.backbone
    name = BACKBONES.get(backbone.type, backbone.type)
    if name == 'ResNet':
        name = f'R{backbone.depth}'
    elif name == 'ResNeXt':
        name = f'X{backbone.depth}-{backbone.groups}x{backbone.base_width}d'
    elif name == 'RegNet':
        name = backbone.arch.replace('regnetx_', 'RegNetX-').replace('gf', 'GF').replace('mf', 'MF')
    return boxes, name, NECKS.get(model.neck.type, model.neck.type)


def long_table() -> list[str]:
    """One row per config, for the page of the mixtures."""
    lines = ['| config | boxes | backbone | neck | mask heads run |', '|---|---|---|---|---|']
    for name, group in groupby(mixtures(), key=lambda mixture: mixture.config):
        rows = list(group)
        link = f'{name.removeprefix("mixed/")}.py'
        target = link if name.startswith('mixed/') else f'../{link}'
        heads = ', '.join(f'`{row.mask_head}`' for row in rows)
        boxes, backbone, neck = parts(rows[0].load().model)
        lines.append(f'| [{Path(link).stem}]({target}) | {boxes} | {backbone} | {neck} | {heads} |')
    return lines


def short_table() -> list[str]:
    """One row per mask head, for the first page."""
    rows: dict[str, list[dict[str, None]]] = {}
    for mixture in mixtures():
        if mixture.mask_head == 'FCNMaskHead':
            continue  # stock: the mixture is about the neck
        columns = rows.setdefault(mixture.mask_head, [{}, {}, {}])
        for column, part in zip(columns, parts(mixture.load().model)):
            column[part] = None
    lines = ['| mask head | boxes | backbones | necks |', '|---|---|---|---|']
    for head, columns in rows.items():
        cells = ['; '.join(column) for column in columns]
        lines.append(f'| `{head}` | {" | ".join(cells)} |')
    return lines


def page_with(text: str, lines: list[str]) -> str:
    """A page with new lines between its markers.

    Raises:
        ValueError: The page has no such markers.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f'the page needs the lines {BEGIN} and {END}, once each')
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return '\n'.join([f'{before}{BEGIN}', *lines, f'{END}{after}'])


def main() -> int:
    """Print the long table, write both, or check that both are current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--write', action='store_true', help='put the tables into the pages')
    parser.add_argument('--check', action='store_true', help='exit status 1 if a page is stale')
    arguments = parser.parse_args()
    tables = {'long': long_table(), 'short': short_table()}
    stale = []
    for name, page in PAGES.items():
        old = page.read_text()
        new = page_with(old, tables[name])
        if new != old:
            stale.append(str(page.relative_to(ROOT)))
            if arguments.write:
                page.write_text(new)
    if arguments.check and stale:
        print(f'stale: {", ".join(stale)}; run python tools/mixing_table.py --write')
        return 1
    if not arguments.write and not arguments.check:
        print('\n'.join(tables['long']))
    return 0


if __name__ == '__main__':
    sys.exit(main())
