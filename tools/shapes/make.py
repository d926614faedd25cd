"""Make a whole data set of generated shapes."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .clips import FRAMES, write_youtube_vis
from .folder import ShapesFolder, find_shapes, new_folder
from .image_formats import CITYSCAPES_CLASSES, SPLITS, write_cityscapes, write_coco, write_lvis
from .scene import CLASSES, SceneSpec

VERSION = 1
"""Raised whenever the same seed gives other pictures."""

Writer = Callable[[ShapesFolder, dict[str, int], SceneSpec, int], None]
WRITERS: dict[str, Writer] = {
    'coco': write_coco,
    'lvis': write_lvis,
    'cityscapes': write_cityscapes,
    'youtube-vis': write_youtube_vis,
}

_DATASETS = {
    'coco': """\
type='CocoDataset',
ann_file='annotations/instances_train.json',
data_prefix=dict(img=''),
metainfo=dict(classes={classes})""",
    'lvis': """\
type='LVISV1Dataset',            # or LVISV05Dataset with lvis_v0.5_train.json
ann_file='annotations/lvis_v1_train.json',
data_prefix=dict(img=''),
metainfo=dict(classes={classes})""",
    'cityscapes': """\
type='CityscapesDataset',
ann_file='annotations/instancesonly_filtered_gtFine_train.json',
data_prefix=dict(img='leftImg8bit/train/')""",
    'youtube-vis': """\
type='YouTubeVISDataset', dataset_version='2019',
ann_file='annotations/cocovid_train.json',
data_prefix=dict(img_path='train/JPEGImages/'),
metainfo=dict(classes={classes})""",
}

_README = """\
# Generated shapes, {form} format

Pictures drawn by a program, with masks that are exact to the pixel: thin and bent parts, holes,
concave outlines, objects of one class that touch, objects that hide others. Same version, seed and
size: same bytes on every machine. Nothing here is a photograph; use it as you like (CC0).

| | |
|---|---|
| Command | `python tools/make_shapes.py OUT --format {form} --num {train} --val {val} \
--size {height} {width} --seed {seed}` |
| Version | {version} |
| train / val | {train} / {val} {unit} of {height} x {width} (height x width) |
| Classes, frequent to rare | {names} |
| Masks | COCO run lengths of the visible pixels; they never overlap |
| Boxes | [x, y, width, height] of the visible pixels |

Some pictures are empty on purpose. PNG files are stored without compression, so that their bytes
depend on no library. `shapes.json` says how the set was made.

In an MMDetection config:

```python
dataset=dict(
    data_root='OUT/',
{dataset})
```
{note}"""

_NOTES = {
    'cityscapes': f"""
The shapes go by Cityscapes names, in the same order: {', '.join(CITYSCAPES_CLASSES)}.
Background is `static` (4). Evaluate with `CityScapesMetric` and
`seg_prefix='.../gtFine/val'`, or with cityscapesScripts on `gtFine/`.
""",
    'lvis': """
`neg_category_ids`, `not_exhaustive_category_ids` and `frequency` are filled in. Where a class is
not exhaustive, one of its objects is left out of the annotation. A class is rare below 25 % and
common below 45 % of the training pictures (LVIS counts 10 and 100 pictures of 100,000).
""",
    'youtube-vis': f"""
{FRAMES} frames a clip. `youtube_vis_2019_*.json` is the official layout (null where an object is
out of view), `cocovid_*.json` what MMDetection reads. Objects move, turn, grow and cross.
""",
}


def make_shapes(
    out: str | Path,
    form: str = 'coco',
    train: int = 400,
    val: int = 100,
    spec: SceneSpec | None = None,
    seed: int = 0,
) -> bool:
    """Write a data set of generated shapes, or find it already there.

    Args:
        out: New or empty folder, or one that holds this very set.
        form: 'coco', 'lvis', 'cityscapes' or 'youtube-vis'.
        train: Pictures (clips) to train on.
        val: Pictures (clips) to test on; none is in both.
        spec: Size and difficulty.
        seed: Any non-negative integer.

    Returns:
        Whether it was written now.

    Raises:
        ValueError: An argument makes no sense.
        FileExistsError: ``out`` holds something else.
        PermissionError: ``out`` cannot be written.
    """
    out, spec = Path(out), spec or SceneSpec()
    if form not in WRITERS:
        raise ValueError(f'unknown format {form!r}: choose from {", ".join(WRITERS)}')
    if train < 1 or val < 1 or seed < 0:
        raise ValueError(
            f'need at least one picture per split and a seed of 0 or more, '
            f'got train {train}, val {val}, seed {seed}'
        )
    counts = dict(zip(SPLITS, (train, val), strict=True))
    recipe = {'version': VERSION, 'format': form, **counts, 'seed': seed, 'spec': asdict(spec)}
    if find_shapes(out, recipe):
        return False
    with new_folder(out, recipe) as folder:
        WRITERS[form](folder, counts, spec, seed)
        folder.write_text('README.md', _readme(form, counts, spec, seed))
    return True


def _readme(form: str, counts: dict[str, int], spec: SceneSpec, seed: int) -> str:
    dataset = _DATASETS[form].format(classes=CLASSES)
    return _README.format(
        form=form,
        **counts,
        height=spec.height,
        width=spec.width,
        seed=seed,
        version=VERSION,
        unit='clips' if form == 'youtube-vis' else 'pictures',
        names=', '.join(CLASSES),
        dataset='\n'.join(f'    {line}' for line in dataset.splitlines()),
        note=_NOTES.get(form, ''),
    )
