"""Print what is installed, whether mmcv's compiled operators load, and which of them run where.

Run through ``tools/install.sh --check``. Exit status 1 if something mmrefine needs does not work.
"""

import platform
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

PACKAGES = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'numpy': ('numpy',),
    'opencv': ('opencv-python-headless', 'opencv-python', 'opencv-contrib-python'),
    'setuptools': ('setuptools',),
    'mmengine': ('mmengine', 'onedl-mmengine'),
    'mmcv': ('mmcv', 'onedl-mmcv', 'mmcv-lite'),
    'mmdet': ('mmdet', 'onedl-mmdetection'),
    'openmim': ('openmim', 'onedl-mim'),
    'pycocotools': ('pycocotools',),
    'mmrefine': ('mmrefine',),
}


def installed(distributions: tuple[str, ...]) -> str:
    """Versions of those ``distributions`` that are installed."""
    found = []
    for name in distributions:
        try:
            found.append(f'{version(name)}' + (f' ({name})' if len(distributions) > 1 else ''))
        except PackageNotFoundError:
            continue
    return ', '.join(found) or '-'


def operators() -> dict[str, Callable[[str], object]]:
    """Small calls of mmcv's compiled operators, by name; each takes the device."""
    import torch
    from mmcv import ops

    def features(device: str, size: int = 8) -> torch.Tensor:
        grid = torch.arange(4 * size * size, dtype=torch.float32).reshape(1, 4, size, size)
        return (grid / grid.numel()).to(device).requires_grad_()

    def rois(device: str) -> torch.Tensor:
        return torch.tensor([[0.0, 0, 0, 6, 6], [0, 1, 2, 5, 7]], device=device)

    def backward(result: torch.Tensor) -> None:
        result.sum().backward()

    def nms(device: str) -> None:
        boxes = rois(device)[:, 1:].repeat(2, 1)
        kept = ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6], device=device), 0.9)[1]
        if kept.tolist() != [0, 1]:
            raise RuntimeError(f'kept boxes {kept.tolist()}, not [0, 1]')

    def deform_conv(device: str) -> None:
        layer = ops.DeformConv2d(4, 2, 3, padding=1).to(device)
        backward(layer(features(device), torch.zeros(1, 18, 8, 8, device=device)))

    def modulated(device: str) -> None:
        backward(ops.ModulatedDeformConv2dPack(4, 2, 3, padding=1).to(device)(features(device)))

    def carafe(device: str) -> None:
        kernel = torch.full((1, 25, 16, 16), 0.04, device=device)
        backward(ops.CARAFE(5, 1, 2)(features(device), kernel))

    def focal(device: str) -> None:
        target = torch.tensor([0, 3], device=device)
        backward(ops.sigmoid_focal_loss(rois(device)[:, 1:].requires_grad_(), target))

    return {
        'RoIAlign': lambda device: backward(ops.RoIAlign(4)(features(device), rois(device))),
        'RoIPool': lambda device: backward(ops.RoIPool(4)(features(device), rois(device))),
        'NMS': nms,
        'DeformConv2d': deform_conv,
        'ModulatedDeformConv2d': modulated,
        'CARAFE': carafe,
        'SigmoidFocalLoss': focal,
    }


def run_operator(call: Callable[[str], object], device: str) -> str:
    """Call one operator forward and backward: ``ok``, or why it does not run."""
    try:
        call(device)
    except (RuntimeError, NotImplementedError, AssertionError, AttributeError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        if 'implementation for device' in text:
            return 'CUDA only' if device == 'cpu' else 'not built'
        return text[:60]
    return 'ok'


def report_operators() -> bool:
    """Print the table of operators; true if those every detector needs run on the CPU."""
    import torch

    devices = ['cpu'] + (['cuda'] if torch.cuda.is_available() else [])
    print(f'\n{"operator":24}' + ''.join(f'{device:12}' for device in devices))
    needed = True
    for name, call in operators().items():
        states = [run_operator(call, device) for device in devices]
        print(f'{name:24}' + ''.join(f'{state:12}' for state in states))
        needed &= name not in ('RoIAlign', 'NMS') or all(state == 'ok' for state in states)
    if len(devices) == 1:
        print('(no CUDA device visible: operators tried on the CPU alone)')
    return needed


def main() -> int:
    """Print the whole report; the exit status."""
    print(f'Python {platform.python_version()} at {sys.executable}')
    for name, distributions in PACKAGES.items():
        print(f'  {name:14}{installed(distributions)}')
    try:
        import torch

        print(f'  CUDA          torch built for {torch.version.cuda or "no CUDA"}, ', end='')
        print('device visible' if torch.cuda.is_available() else 'no device visible')
        import_module('mmcv._ext')
        print('  mmcv._ext     loads')
    except ImportError as error:
        print(f'  mmcv._ext     does NOT load: {error}\n  -> bash tools/install.sh')
        return 1
    complete = report_operators()
    try:
        print(f'\nmmrefine {import_module("mmrefine").__version__} imports')
    except ImportError as error:
        print(f'\nmmrefine does NOT import: {error}')
        return 1
    return 0 if complete else 1


if __name__ == '__main__':
    raise SystemExit(main())
