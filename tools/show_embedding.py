"""Show the embedding space of a picture: photo, PCA of pixel embeddings, masks that come of it."""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.apis import inference_detector

import mmrefine  # noqa: F401  (registers the components)
from mmrefine.apis.class_names import class_names
from mmrefine.apis.load_model import load_model
from mmrefine.masks import to_dense
from mmrefine.results.files import refuse_overwriting
from mmrefine.results.log import EXPECTED_ERRORS
from mmrefine.visualization.embedding import embedding_colours
from mmrefine.visualization.overlays import contact_sheet, draw_instances, instance_colour


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a config with an EmbedMask model')
    parser.add_argument('checkpoint')
    parser.add_argument('images', nargs='+', type=Path)
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    parser.add_argument('--score', type=float, default=0.4, help='lowest score of masks drawn')
    parser.add_argument('--scale', type=int, default=2, help='enlargement, at least 1')
    parser.add_argument('--free', action='store_true', help='leave out the two coordinates')
    parser.add_argument('--device', default='cpu')
    return parser.parse_args(argv)


def row(model: torch.nn.Module, path: Path, args: argparse.Namespace) -> list[np.ndarray]:
    """Three panels of one picture."""
    image = cv2.imread(str(path))
    if image is None:
        raise OSError(f'cannot read {path}')
    maps: list[torch.Tensor] = []
    handle = model.mask_head.register_forward_hook(lambda head, inputs, out: maps.append(out[0]))
    found = inference_detector(model, image).pred_instances
    handle.remove()
    found = found[found.scores >= args.score]
    pixels = maps[0].cpu()
    # the padding on the right and at the bottom is no part of the picture
    height, width = image.shape[:2]
    shown = model.mask_head.stride
    scale = min(1.0, *(n * shown / side for n, side in zip(pixels.shape[1:], (height, width))))
    pixels = pixels[:, : round(height * scale / shown), : round(width * scale / shown)]
    if args.free and model.mask_head.coord_embed:
        pixels = pixels[2:]
    names = class_names(model)
    labels = [f'{names[i]} {s:.2f}' for i, s in zip(found.labels.tolist(), found.scores.tolist())]
    masks = to_dense(found.masks, (height, width)).cpu().numpy()
    colours = [instance_colour(i) for i in range(len(masks))]
    photo = image[..., ::-1].copy()
    size = (width * args.scale, height * args.scale)
    return [
        cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC),
        embedding_colours(pixels, size[::-1]),
        draw_instances(photo, masks, labels, colours, args.scale),
    ]


def check_out(args: argparse.Namespace) -> None:
    """Make sure that the picture can be written, before the work.

    Raises:
        ValueError: OpenCV writes no such files, it would replace a file that is read, or ``scale``
            leaves no picture.
    """
    if args.scale < 1:
        raise ValueError(f'--scale must be at least 1, got {args.scale}')
    if not cv2.haveImageWriter(str(args.out)):
        raise ValueError(f'--out {args.out} names no picture file: end it with .png or .jpg')
    refuse_overwriting(args.out, config=args.config, checkpoint=args.checkpoint)
    for path in args.images:
        refuse_overwriting(args.out, images=path)


def draw(args: argparse.Namespace) -> None:
    """Draw one row of panels a picture.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The model has no pixel embeddings, or cannot be loaded.
    """
    check_out(args)
    model = load_model(args.config, args.checkpoint, args.device)
    if not hasattr(getattr(model, 'mask_head', None), 'coord_embed'):
        raise ValueError(f'{args.config}: {type(model).__name__} has no pixel embeddings')
    panels = [panel for path in args.images for panel in row(model, path, args)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.out), contact_sheet(panels, columns=3)[..., ::-1]):
        raise OSError(f'cannot write {args.out}')


def main(argv: list[str] | None = None) -> int:
    """Draw; exit status 1 with one sentence if something cannot be drawn."""
    args = parse_args(argv)
    try:
        draw(args)
    except EXPECTED_ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    print(f'{len(args.images)} pictures written to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
