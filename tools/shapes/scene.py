"""Arrange shapes in a picture: touching, hiding one another, cut by the frame."""

from dataclasses import dataclass, field, replace

import numpy as np

from .outlines import MAKERS
from .raster import LARGEST_IMAGE, TURN, UNIT, Part, draw, place, polar
from .rng import Rng
from .textures import Paint, background, class_paint, soften

CLASSES = tuple(MAKERS)


@dataclass(frozen=True)
class SceneSpec:
    """How hard the pictures are.

    Args:
        height, width: Pixels, 32 .. 2048.
        objects: Fewest and most objects tried per picture.
        weights: How often each class is drawn, relative to the others.
        scales: How often small, medium and large objects are drawn.
        touching: Percent of objects pushed against one of the same class.
        hiding: Percent of objects that may lie on top of others.
        keep_visible: Percent of an object that stays in view when others cover it.
        empty: Percent of pictures without any object.
        contrast: Percent; lower makes backgrounds calmer.
        colour_spread: Largest departure from the class colour, 0 .. 255.
    """

    height: int = 192
    width: int = 192
    objects: tuple[int, int] = (2, 6)
    weights: tuple[int, ...] = (24, 16, 14, 12, 10, 9, 8, 7)
    scales: tuple[int, int, int] = (20, 45, 35)
    touching: int = 20
    hiding: int = 25
    keep_visible: int = 55
    empty: int = 2
    contrast: int = 75
    colour_spread: int = 28

    def __post_init__(self) -> None:
        if not 32 <= min(self.height, self.width) <= max(self.height, self.width) <= LARGEST_IMAGE:
            raise ValueError(
                f'pictures are 32 to {LARGEST_IMAGE} pixels a side, '
                f'got {self.height} x {self.width}'
            )
        if not 0 <= self.objects[0] <= self.objects[1]:
            raise ValueError(f'objects must be (fewest, most), got {self.objects}')
        if len(self.weights) != len(CLASSES):
            raise ValueError(f'{len(CLASSES)} classes need as many weights, got {self.weights}')


@dataclass(frozen=True)
class Thing:
    """An object: what it is and where.

    Args:
        label: Index into ``CLASSES``.
        parts: Outline around the origin.
        centre: (x, y) in 1/16 pixel.
        angle: In 1/1024 turn.
        scale: Times 1/256.
        radius: Of the outline, 1/16 pixel.
    """

    label: int
    parts: list[Part] = field(repr=False)
    paint: Paint = field(repr=False)
    radius: int
    centre: tuple[int, int] = (0, 0)
    angle: int = 0
    scale: int = 256

    def mask(self, spec: SceneSpec) -> np.ndarray:
        """Draw the whole object, bool[height, width], as if nothing covered it."""
        placed = [place(part, self.angle, self.scale, self.centre) for part in self.parts]
        return draw(placed, spec.height, spec.width)


def make_thing(rng: Rng, spec: SceneSpec, label: int | None = None) -> Thing:
    """Draw class, size and looks of one object; it still has no place."""
    if label is None:
        label = rng.weighted(spec.weights)
    side = min(spec.height, spec.width) * UNIT
    low, high = ((75, 110), (120, 210), (210, 390))[rng.weighted(spec.scales)]
    radius = max(5 * UNIT, side * rng.between(low, high) // 1000)
    parts = list(MAKERS.values())[label](rng, radius)
    paint = class_paint(rng, label, spec.colour_spread)
    return Thing(label, parts, paint, radius, angle=rng.below(TURN))


def arrange(rng: Rng, spec: SceneSpec) -> list[Thing]:
    """Choose the objects of a picture, from back to front.

    An object that finds no place in a dozen tries is left out.
    """
    things: list[Thing] = []
    masks: list[np.ndarray] = []
    if rng.chance(spec.empty):
        return things
    for _ in range(rng.between(*spec.objects)):
        thing = make_thing(rng, spec)
        hiding = rng.chance(spec.hiding)
        if things and rng.chance(spec.touching):
            neighbour = rng.below(len(things))
            thing = make_thing(rng, spec, things[neighbour].label)
            tries = [_push_against(rng, spec, thing, things[neighbour], masks[neighbour])]
            tries += [_push_against(rng, spec, thing, things[neighbour], masks[neighbour])]
        else:
            tries = [_anywhere(rng, spec, thing) for _ in range(12)]
        for candidate in tries:
            mask = candidate.mask(spec)
            if _fits(mask, masks, spec, hiding):
                things.append(candidate)
                masks.append(mask)
                break
    return things


def visible_masks(things: list[Thing], spec: SceneSpec) -> np.ndarray:
    """Cut from each object what those in front of it cover.

    Returns:
        bool[N, height, width], disjoint.
    """
    masks = np.zeros((len(things), spec.height, spec.width), bool)
    taken = np.zeros((spec.height, spec.width), bool)
    for index in reversed(range(len(things))):
        masks[index] = things[index].mask(spec) & ~taken
        taken |= masks[index]
    return masks


def paint_scene(ground: np.ndarray, things: list[Thing], masks: np.ndarray) -> np.ndarray:
    """Colour the visible pixels.

    Args:
        ground: int64[H, W, 3], left as it is.

    Returns:
        uint8[H, W, 3] RGB.
    """
    canvas = ground.copy()
    for thing, mask in zip(things, masks, strict=True):
        ys, xs = np.nonzero(mask)
        x, y = thing.centre[0] // UNIT, thing.centre[1] // UNIT
        canvas[ys, xs] = thing.paint.at(ys - y, xs - x)
    return soften(canvas)


def make_picture(rng: Rng, spec: SceneSpec) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Make one picture.

    Returns:
        image: uint8[H, W, 3] RGB.
        masks: bool[N, H, W], disjoint and exact, none empty.
        labels: N indices into ``CLASSES``.
    """
    ground = background(rng, spec.height, spec.width, spec.contrast)
    things = arrange(rng, spec)
    masks = visible_masks(things, spec)
    return paint_scene(ground, things, masks), masks, [thing.label for thing in things]


def _anywhere(rng: Rng, spec: SceneSpec, thing: Thing) -> Thing:
    """Put the centre anywhere that keeps most of the object inside the frame."""
    x_margin = min(thing.radius * 6 // 10, spec.width * UNIT // 2 - 1)
    y_margin = min(thing.radius * 6 // 10, spec.height * UNIT // 2 - 1)
    x = rng.between(x_margin, spec.width * UNIT - 1 - x_margin)
    y = rng.between(y_margin, spec.height * UNIT - 1 - y_margin)
    return replace(thing, centre=(x, y))


def _push_against(
    rng: Rng, spec: SceneSpec, thing: Thing, other: Thing, other_mask: np.ndarray
) -> Thing:
    """Slide an object towards another, pixel by pixel, until the next step would overlap."""
    angle, distance = rng.below(TURN), thing.radius + other.radius
    at = thing
    for gap in range(distance, 0, -UNIT):
        dx, dy = polar(angle, gap)
        step = replace(thing, centre=(other.centre[0] + dx, other.centre[1] + dy))
        if (step.mask(spec) & other_mask).any():
            break
        at = step
    return at


def _fits(mask: np.ndarray, masks: list[np.ndarray], spec: SceneSpec, hiding: bool) -> bool:
    """Tell whether an object in front leaves enough of itself and of all others in view."""
    area = int(mask.sum())
    if area < 24:
        return False
    covered = mask.copy()
    for index in reversed(range(len(masks))):
        below = masks[index]
        shared = int((below & covered).sum())
        if not hiding and (below & mask).any():
            return False
        if 100 * (int(below.sum()) - shared) < spec.keep_visible * int(below.sum()):
            return False
        covered |= below
    return True
