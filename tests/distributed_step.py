"""One training step of a tiny RefineMask on one of two ranks: python distributed_step.py RANK PORT
FOLDER."""

import os
import sys

import torch
from mmengine.registry import init_default_scope
from tiny_refinemask import BOXES, images, sample, tiny_detector
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


def train(rank: int, port: str, folder: str) -> None:
    """Only rank 0 has objects; write the gradient norms this rank ends with."""
    init_default_scope('mmdet')
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    distributed.init_process_group('gloo', rank=rank, world_size=2)
    torch.manual_seed(0)
    detector = tiny_detector()
    model = DistributedDataParallel(detector, broadcast_buffers=False)
    losses = model(images(1), [sample(BOXES if rank == 0 else [])], mode='loss')
    total, _ = detector.parse_losses(losses)
    total.backward()
    norms = {n: p.grad.norm().item() for n, p in detector.named_parameters() if p.grad is not None}
    torch.save(norms, f'{folder}/{rank}.pth')
    distributed.destroy_process_group()


if __name__ == '__main__':
    train(int(sys.argv[1]), *sys.argv[2:])
