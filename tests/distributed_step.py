"""One training step of a tiny RefineMask on one of two ranks: python distributed_step.py RANK
FOLDER."""

import sys

import torch
from mmengine.registry import init_default_scope
from tiny_refinemask import BOXES, images, sample, tiny_detector
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


def gradient_norms(rank: int) -> dict[str, float]:
    """The norms this rank ends with, although only rank 0 has objects."""
    torch.manual_seed(0)
    detector = tiny_detector()
    model = DistributedDataParallel(detector, broadcast_buffers=False)
    losses = model(images(1), [sample(BOXES if rank == 0 else [])], mode='loss')
    total, _ = detector.parse_losses(losses)
    total.backward()
    return {n: p.grad.norm().item() for n, p in detector.named_parameters() if p.grad is not None}


def train(rank: int, folder: str) -> None:
    """Take the step and write its gradient norms."""
    init_default_scope('mmdet')
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    # The wrapped model is gone before the group ends: as the last owner of the group it would wait
    # for gloo's threads while it holds the interpreter lock which they want.
    norms = gradient_norms(rank)
    distributed.destroy_process_group()
    torch.save(norms, f'{folder}/{rank}.pth')


if __name__ == '__main__':
    train(int(sys.argv[1]), sys.argv[2])
