"""One training step of a tiny model on one of two ranks: python distributed_step.py RANK FOLDER
[FAMILY].

On GPUs, one a rank, where ``MMREFINE_TEST_DEVICE`` is ``cuda`` and there are two.
"""

import gc
import os
import sys

import tiny_embedmask
import tiny_refinemask
import tiny_sipmask
import torch
from mmengine.registry import init_default_scope
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

FAMILIES = {'refinemask': tiny_refinemask, 'sipmask': tiny_sipmask, 'embedmask': tiny_embedmask}
GPUS = os.environ.get('MMREFINE_TEST_DEVICE') == 'cuda' and torch.cuda.device_count() > 1
BOXES = [[8.0, 8.0, 60.0, 50.0], [50.0, 40.0, 120.0, 90.0], [70.0, 5.0, 100.0, 30.0]]


def gradient_norms(rank: int, name: str) -> dict[str, float]:
    """The norms this rank ends with, although only rank 0 has objects."""
    torch.manual_seed(0)
    family = FAMILIES[name]
    device = torch.device('cuda', rank) if GPUS else torch.device('cpu')
    detector = family.tiny_detector().to(device)
    model = DistributedDataParallel(detector, broadcast_buffers=False)
    data = [family.sample(BOXES if rank == 0 else [])]
    pixels = family.images(1 if family is tiny_refinemask else data)
    data = [sample.to(device) for sample in data]
    losses = model(pixels.to(device), data, mode='loss')
    total, _ = detector.parse_losses(losses)
    total.backward()
    return {n: p.grad.norm().item() for n, p in detector.named_parameters() if p.grad is not None}


def train(rank: int, folder: str, name: str = 'refinemask') -> None:
    """Take the step and write its gradient norms."""
    init_default_scope('mmdet')
    torch.set_num_threads(1)
    distributed.init_process_group(
        'nccl' if GPUS else 'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=2,
    )
    # The wrapped model is gone before the group ends: as the last owner of the group it would wait
    # for gloo's threads while it holds the interpreter lock which they want.
    norms = gradient_norms(rank, name)
    gc.collect()
    distributed.destroy_process_group()
    torch.save(norms, f'{folder}/{rank}.pth')


if __name__ == '__main__':
    train(int(sys.argv[1]), *sys.argv[2:])
