"""What is trained: systems, sets, and the config of one run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

# Where the repository keeps its configs; the systems below are named from there.
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SHAPES_CLASSES = 8
WARM_UP = 0.05


@dataclass(frozen=True)
class System:
    """One model under comparison."""

    name: str  # short name
    # file whose ``model`` is trained, below ``configs``, made for 8 classes or COCO's 80; of
    # proposal systems the whole file, with ``{set}`` for ``Set.ending``
    config: str
    start: str | None = None  # name of the proposal system whose weights it starts from
    # whether all pictures must have one size and no padding: MMDetection's YOLACT crops its masks
    # as if there were none
    one_size: bool = False

    @property
    def proposes(self) -> bool:
        """Whether it makes class-agnostic proposals, with a data pipeline of its own."""
        return '{set}' in self.config


@dataclass(frozen=True)
class Set:
    """One set of pictures."""

    name: str  # short name
    config: str  # data fragment below ``configs``
    num_classes: int  # number of classes
    max_per_img: int  # detections kept per picture
    iterations: int  # default length of a run, in batches of 4
    # side to resize pictures to for systems of one size; None where they have one
    square: int | None = None
    # whether models get MobileNetV2 with ImageNet weights and the schedule for it instead of a
    # ResNet from scratch: sets of crops of photos
    pretrained: bool = False
    # by how much larger pictures reach the models than the config says: the sizes of crops stay
    enlarge: int = 1

    @property
    def ending(self) -> str:
        """How the names of whole configs for it end, e.g. ``tiny_shapes``."""
        if self.pretrained:
            return f'mobilenetv2_1k_{self.name.removesuffix("-full")}'
        return f'tiny_{self.name}'


SYSTEMS = {
    system.name: system
    for system in (
        System('mask-rcnn', 'refinemask/mask-rcnn_tiny_shapes.py'),
        System('point-rend', '_base_/point-rend_compact.py'),
        System('refinemask', 'refinemask/refinemask_tiny_shapes.py'),
        System('refinemask-simple', '_base_/refinemask-simple_compact.py'),
        System('sharpmask-roi', 'sharpmask/sharpmask-roi_tiny_shapes.py'),
        System('yolact', '_base_/yolact_compact.py', one_size=True),
        System('condinst', '_base_/condinst_compact.py'),
        System('sipmask', 'sipmask/sipmask_tiny_shapes.py'),
        System('sipmask-1x1', 'sipmask/sipmask-1x1_tiny_shapes.py'),
        System('embedmask', 'embedmask/embedmask_tiny_shapes.py'),
        System('embedmask-adet', 'embedmask/embedmask-adet_tiny_shapes.py'),
        System('deepmask', 'sharpmask/deepmask_{set}.py'),
        System('sharpmask', 'sharpmask/sharpmask_{set}.py', start='deepmask'),
    )
}
SETS = {
    chosen.name: chosen
    for chosen in (
        Set('shapes', '_base_/shapes_instance.py', 8, 50, 1000),
        Set('nuclei', '_base_/nuclei_tiny_instance.py', 1, 200, 300, square=320),
        Set('fruit-nuts', '_base_/fruit_nuts_instance.py', 3, 50, 300),
        Set('windows', '_base_/windows_instance.py', 1, 200, 1000, pretrained=True),
        # For what the size of objects in cells of the masks' grids does.
        Set(
            'windows-double', '_base_/windows_instance.py', 1, 200, 1000, pretrained=True, enlarge=2
        ),
        Set('facades', '_base_/facades_instance.py', 10, 200, 3000, pretrained=True),
        Set('leaves', '_base_/leaves_instance.py', 2, 100, 1000, square=640, pretrained=True),
        Set('nuclei-full', '_base_/nuclei_crops_instance.py', 1, 400, 3000, 640, True),
    )
}


@dataclass(frozen=True)
class Job:
    """One training run: a system, a set, a seed."""

    system: System
    data: Set
    seed: int

    @property
    def name(self) -> str:
        """``SET/SYSTEM/seedN``: also its folder."""
        return f'{self.data.name}/{self.system.name}/seed{self.seed}'

    @property
    def file(self) -> Path:
        """The system's config file."""
        return CONFIGS / self.system.config.format(set=self.data.ending)

    @property
    def start(self) -> 'Job | None':
        """The run whose weights this one starts from."""
        first = self.system.start
        return None if first is None else Job(SYSTEMS[first], self.data, self.seed)


def plan(systems: list[str] | None, sets: list[str], seeds: list[int]) -> list[Job]:
    """Every run of a proof, seed by seed, so that an unfinished proof compares everything once.

    Args:
        systems: Names; None for all that have a config for a set.
        sets: Names.
        seeds: Of the trainings.

    Raises:
        ValueError: An unknown system or set, or a proposal system whose set has no config.
    """
    for name, known in [(s, SYSTEMS) for s in systems or ()] + [(name, SETS) for name in sets]:
        if name not in known:
            raise ValueError(f'{name!r} is unknown; there are {", ".join(known)}')
    jobs = [
        Job(SYSTEMS[system], SETS[chosen], seed)
        for seed in seeds
        for chosen in sets
        for system in systems or SYSTEMS
    ]
    if systems is None:
        jobs = [job for job in jobs if job.file.is_file()]
    for job in jobs:
        if not job.file.is_file():
            raise ValueError(
                f'{job.system.name} has no config for {job.data.name}: {job.file} is missing; '
                'leave one of the two out'
            )
    return list(dict.fromkeys(job for each in jobs for job in (each.start, each) if job))


def require_pictures(data: Set) -> None:
    """Look for a set's annotations.

    Raises:
        ValueError: They are not where the environment, or the default, says.
    """
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset = Config.fromfile(CONFIGS / data.config)[loader].dataset
        file = Path(dataset.data_root, dataset.ann_file)
        if not file.is_file():
            raise ValueError(
                f'there is no {file}, which {data.name} needs: docs/learning.md says where the '
                'sets come from'
            )


def make_config(job: Job, iterations: int, start_from: Path | None = None) -> Config:
    """Resolve the config of one run.

    Args:
        job: The run.
        iterations: Its length.
        start_from: Checkpoint to start from.
    """
    system, data = job.system, job.data
    if system.proposes:
        config = Config.fromfile(job.file)
    else:
        config = Config.fromfile(CONFIGS / data.config)
        schedule = '_base_/schedule_1k.py' if data.pretrained else '_base_/schedule_tiny.py'
        config.merge_from_dict(Config.fromfile(CONFIGS / schedule).to_dict())
        config.model = Config.fromfile(job.file).model
        if data.pretrained:
            set_backbone(config.model)
        set_classes(config.model, data.num_classes)
        cap = config.model.test_cfg.get('rcnn', config.model.test_cfg)
        cap.max_per_img = data.max_per_img
        if system.one_size and data.square:
            resize_to_square(config, data.square)
        enlarge_pictures(config, data.enlarge)
    config.custom_imports = dict(imports=['mmrefine'], allow_failed_imports=False)
    set_schedule(config, iterations)
    # MMDetection's PointRend fails where one picture of several has no detections
    config.val_dataloader.batch_size = 1
    config.load_from = start_from and str(start_from)
    config.randomness = dict(seed=job.seed)
    return config


def set_backbone(model: ConfigDict) -> None:
    """Put MobileNetV2 with ImageNet weights into a compact model, as its configs for windows do."""
    shared = Config.fromfile(CONFIGS / '_base_/mobilenetv2.py')
    model.backbone = {k: v for k, v in shared.mobilenetv2.items() if k != '_delete_'}
    model.neck.in_channels = shared.mobilenetv2_channels
    if 'roi_head' in model:
        model.train_cfg.rcnn.sampler.num = 64


def resize_to_square(config: Config, side: int) -> None:
    """Give all pictures one size, whatever becomes of their proportions."""
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.pop('scale_factor', None)
                step.update(scale=(side, side), keep_ratio=False)
            elif step.type == 'RandomResize':  # the crop that follows makes one size of all scales
                step.keep_ratio = False


def enlarge_pictures(config: Config, factor: int) -> None:
    """Resize pictures to ``factor`` times the size, before any crop."""
    loaders = config.train_dataloader, config.val_dataloader, config.test_dataloader
    steps = [step for loader in loaders for step in loader.dataset.pipeline if 'scale' in step]
    for step in {id(step): step for step in steps}.values():  # loaders may share a pipeline
        step.scale = tuple(factor * side for side in step.scale)


def set_classes(model: ConfigDict, num_classes: int) -> None:
    """Change the number of classes wherever the model states it.

    Raises:
        ValueError: It states none.
    """
    found = [part for part in parts(model) if part.get('num_classes') in (SHAPES_CLASSES, 80)]
    if not found:
        raise ValueError(f'model {model.get("type")!r} states no number of classes')
    for part in found:
        part.num_classes = num_classes


def parts(model: Any) -> Iterator[ConfigDict]:
    """A model's dict and all dicts inside it."""
    if isinstance(model, dict):
        yield model
        for value in model.values():
            yield from parts(value)


def set_schedule(config: Config, iterations: int) -> None:
    """Warm up for the first twentieth, decay along a cosine, evaluate once at the end."""
    warm_up = max(1, round(WARM_UP * iterations))
    config.train_cfg.update(max_iters=iterations, val_interval=iterations)
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=warm_up),
        dict(
            type='CosineAnnealingLR',
            eta_min_ratio=0.02,
            by_epoch=False,
            begin=warm_up,
            end=iterations,
        ),
    ]
    config.default_hooks.logger.interval = min(20, iterations)
    config.default_hooks.checkpoint.update(interval=max(iterations // 4, 50))
