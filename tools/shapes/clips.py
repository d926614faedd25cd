"""Clips whose objects move, turn, grow and cross, as a YouTube-VIS data set."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmrefine.results.progress import show_progress

from .folder import ShapesFolder
from .image_formats import SPLITS
from .raster import UNIT
from .records import categories, mask_record
from .rng import Rng
from .scene import SceneSpec, Thing, make_thing, paint_scene, visible_masks
from .textures import background

FRAMES = 8


@dataclass(frozen=True)
class Motion:
    """How an object changes from frame to frame.

    Args:
        velocity: (x, y) in 1/16 pixel.
        spin: In 1/1024 turn.
        growth: Added to the scale, times 1/256.
    """

    velocity: tuple[int, int]
    spin: int
    growth: int

    def at(self, thing: Thing, time: int) -> Thing:
        """Return the object ``time`` frames after the moment it was described."""
        (x, y), (dx, dy) = thing.centre, self.velocity
        return replace(
            thing,
            centre=(x + time * dx, y + time * dy),
            angle=thing.angle + time * self.spin,
            scale=max(64, thing.scale + time * self.growth),
        )


def make_clip(
    rng: Rng, spec: SceneSpec, frames: int = FRAMES
) -> tuple[list[np.ndarray], list[np.ndarray], list[int]]:
    """Make one clip of objects that pass through its middle at different moments.

    Returns:
        images: ``frames`` x uint8[H, W, 3] RGB.
        masks: ``frames`` x bool[N, H, W], disjoint; all false where an object is out of view.
        labels: N indices into ``CLASSES``.
    """
    ground = background(rng, spec.height, spec.width, spec.contrast)
    count = max(2, rng.between(*spec.objects))
    actors = [_enter(rng, spec, frames) for _ in range(count)]
    images, masks = [], []
    for frame in range(frames):
        things = [motion.at(thing, frame - frames // 2) for thing, motion in actors]
        visible = visible_masks(things, spec)
        images.append(paint_scene(ground, things, visible))
        masks.append(visible)
    return images, masks, [thing.label for thing, _ in actors]


def write_youtube_vis(
    folder: ShapesFolder, counts: dict[str, int], spec: SceneSpec, seed: int
) -> None:
    """Write frames and annotations of ``counts`` clips per split.

    ``annotations/youtube_vis_2019_<split>.json`` has the official layout (one record per track,
    null where it is out of view), ``annotations/cocovid_<split>.json`` the one MMDetection's
    video data sets read (one record per object and frame).
    """
    for index, split in enumerate(SPLITS):
        content: dict[str, list[Any]] = {'videos': [], 'tracks': [], 'images': [], 'boxes': []}
        for number in show_progress(range(counts[split]), split):
            clip = make_clip(Rng(seed, index, number), spec)
            _write_clip(folder, split, number + 1, clip, content)
        names = categories()
        official = {
            'info': {'description': 'Generated shapes, YouTube-VIS format', 'version': '1.0'},
            'licenses': [],
            'categories': names,
            'videos': content['videos'],
            'annotations': content['tracks'],
        }
        folder.write_json(f'annotations/youtube_vis_2019_{split}.json', official)
        cocovid = {
            'categories': names,
            'videos': [
                {'id': v['id'], 'name': v['name'], 'width': v['width'], 'height': v['height']}
                for v in content['videos']
            ],
            'images': content['images'],
            'annotations': content['boxes'],
        }
        folder.write_json(f'annotations/cocovid_{split}.json', cocovid)


def _enter(rng: Rng, spec: SceneSpec, frames: int) -> tuple[Thing, Motion]:
    """Choose an object near the middle at half time, and its way in and out."""
    thing = make_thing(rng, spec)
    width, height = spec.width * UNIT, spec.height * UNIT
    centre = (rng.between(width // 4, 3 * width // 4), rng.between(height // 4, 3 * height // 4))
    reach = 10 * min(width, height) // (16 * frames)
    velocity = (rng.between(-reach, reach), rng.between(-reach, reach))
    motion = Motion(velocity, rng.between(-24, 24), rng.between(-8, 8))
    return replace(thing, centre=centre), motion


def _write_clip(
    folder: ShapesFolder,
    split: str,
    video_id: int,
    clip: tuple[list[np.ndarray], list[np.ndarray], list[int]],
    content: dict[str, list[Any]],
) -> None:
    images, masks, labels = clip
    name = f'{video_id:04d}'
    files = [f'{name}/{frame:05d}.png' for frame in range(len(images))]
    height, width = images[0].shape[:2]
    size = {'width': width, 'height': height}
    content['videos'].append(
        {'id': video_id, 'name': name, **size, 'length': len(images), 'file_names': files}
    )
    first_track = len(content['tracks']) + 1
    for frame, (file, image) in enumerate(zip(files, images, strict=True)):
        folder.write_image(f'{split}/JPEGImages/{file}', image)
        image_id = len(content['images']) + 1
        content['images'].append(
            {'id': image_id, 'file_name': file, **size, 'frame_id': frame, 'video_id': video_id}
        )
    records = _track_records(masks, labels)
    for offset, (label, frames) in enumerate(records):
        track = first_track + offset
        category = {'category_id': label + 1, 'video_id': video_id, 'iscrowd': 0}
        columns = {
            plural: [None if record is None else record[key] for record in frames]
            for key, plural in (
                ('segmentation', 'segmentations'),
                ('bbox', 'bboxes'),
                ('area', 'areas'),
            )
        }
        content['tracks'].append(
            {'id': track, **category, **size, 'length': len(images), **columns}
        )
        first_image = len(content['images']) - len(images) + 1
        for frame, record in enumerate(frames):
            if record is not None:
                content['boxes'].append(
                    {
                        'id': len(content['boxes']) + 1,
                        'image_id': first_image + frame,
                        'instance_id': track,
                        **category,
                        **record,
                    }
                )


def _track_records(
    masks: list[np.ndarray], labels: list[int]
) -> list[tuple[int, list[dict[str, Any] | None]]]:
    """Collect label and one record or None per frame for every object that is ever seen."""
    tracks = []
    for k, label in enumerate(labels):
        frames = [mask_record(mask[k]) if mask[k].any() else None for mask in masks]
        if any(record is not None for record in frames):
            tracks.append((label, frames))
    return tracks
