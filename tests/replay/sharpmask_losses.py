"""Losses, gradients and optimiser steps of the DeepMask and SharpMask recordings."""

from collections.abc import Iterable

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmrefine.sharpmask.checkpoint import port_names

from .golden import Golden
from .report import Report
from .sharpmask_weights import build_model, network_input

_RTOL = 1e-3


def _samples(golden: Golden, device: torch.device) -> list[DetDataSample]:
    masks = (golden.tensor('mask_labels', device) > 0).to(torch.uint8)
    scores = (golden.tensor('score_labels', device) > 0).float()
    flag = torch.ones(1, dtype=torch.bool, device=device)
    samples = []
    for mask, score in zip(masks, scores):
        truth = InstanceData(
            patch_masks=mask[None], patch_scores=score[None], has_mask=flag, has_score=flag
        )
        samples.append(DetDataSample(gt_instances=truth))
    return samples


class _Replay:
    """Loss terms of a recording on a model of one arithmetic."""

    def __init__(self, golden: Golden, flavour: str, device: torch.device) -> None:
        self.refined = any('neths.' in key for key in golden)
        patch = golden['images'].shape[1] - 32  # patches carry 16 px of context on each side
        model = build_model(flavour, int(golden['seed']), self.refined, patch, score_floor=1e-6)
        self.model = model.to(device)
        self.images = network_input(golden['images'], device)
        self.samples = _samples(golden, device)
        self.names = port_names(self.refined)
        self.parameters = dict(self.model.named_parameters())

    @property
    def batch(self) -> int:
        return len(self.samples)

    def loss(self, kind: str) -> Tensor:
        """Mask losses summed over the batch, or the mean of the score losses (as the originals
        backpropagate)."""
        losses = self.model.loss(self.images, self.samples)
        if kind == 'mask':
            return losses['loss_mask']
        return losses['loss_score'] / self.model.mask_head.score_weight / self.batch

    def mean(self, kind: str) -> float:
        """Value as the originals print it."""
        with torch.no_grad():
            value = self.loss(kind).item()
        return value / self.batch if kind == 'mask' else value

    def gradients(self, kind: str) -> dict[str, Tensor]:
        """Gradient by port key; the port's one bias per channel collects its positions."""
        self.model.zero_grad(set_to_none=True)
        self.loss(kind).backward()
        found = {}
        for key, ours in self.names.items():
            if ours in self.parameters and self.parameters[ours].grad is not None:
                found[key] = self.parameters[ours].grad
        return found

    def per_channel(self, gradient: Tensor) -> Tensor:
        """Sum of the encoding bias's gradient over the positions of each channel."""
        return gradient.view(self.model.refine_head.channels, -1).sum(1)

    def tie_encoding_bias(self) -> None:
        """Make the next step move all positions of a channel alike, as the port's transposed
        convolution does."""
        bias = self.model.refine_head.mask_encoding.bias
        summed = self.per_channel(bias.grad)
        bias.grad = summed.repeat_interleave(bias.numel() // summed.numel())


def _compare_norms(
    report: Report, replay: _Replay, kind: str, recorded: Iterable[tuple[str, float]], label: str
) -> None:
    gradients = replay.gradients(kind)
    for key, norm in recorded:
        full = key.endswith('_full')
        gradient = gradients[key.removesuffix('_full')]
        if key.startswith('netvs.0.bias') and not full:
            gradient = replay.per_channel(gradient)
        report.close(f'{label} {key}', gradient.norm(), norm, rtol=_RTOL)


def _norms(golden: Golden, prefix: str) -> list[tuple[str, float]]:
    return [(k.removeprefix(prefix), float(golden[k])) for k in golden if k.startswith(prefix)]


def _frozen_coarse(model: nn.Module) -> list[nn.Parameter]:
    return list(model.refine_head.parameters())


def check_losses(golden: Golden, report: Report, device: torch.device) -> None:
    """Port arithmetic: losses, gradient norms and three optimiser steps."""
    replay = _Replay(golden, 'port', device)
    mean = replay.mean('mask')
    report.close('loss_mask_mean', mean, golden['loss_mask_mean'], rtol=_RTOL)
    report.close(
        'loss_mask_times_batch', mean * replay.batch, golden['loss_mask_times_batch'], rtol=_RTOL
    )
    _compare_norms(report, replay, 'mask', _norms(golden, 'gradnorm_mask/'), 'gradient (mask)')
    if 'loss_score_mean' in golden:
        report.close('loss_score_mean', replay.mean('score'), golden['loss_score_mean'], rtol=_RTOL)
        _compare_norms(
            report, replay, 'score', _norms(golden, 'gradnorm_score/'), 'gradient (score)'
        )
    losses, kinds = _port_steps(replay, len(golden['sgd_losses']))
    for i, (loss, kind) in enumerate(zip(losses, kinds)):
        report.close(f'step {i + 1} ({kind})', loss, golden['sgd_losses'][i], rtol=_RTOL)
    report.close('after_loss_mask', replay.mean('mask'), golden['after_loss_mask'], rtol=_RTOL)
    report.close('after_loss_score', replay.mean('score'), golden['after_loss_score'], rtol=_RTOL)


def _port_steps(replay: _Replay, count: int) -> tuple[list[float], list[str]]:
    if replay.refined:
        optimiser = torch.optim.SGD(_frozen_coarse(replay.model), lr=1e-3)
        kinds = ['mask'] * count
    else:
        optimiser = torch.optim.SGD(
            replay.model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4
        )
        kinds = ['mask' if i % 2 == 0 else 'score' for i in range(count)]
    losses = []
    for kind in kinds:
        replay.model.zero_grad(set_to_none=True)
        loss = replay.loss(kind)
        losses.append(loss.item() / (replay.batch if kind == 'mask' else 1))
        loss.backward()
        if replay.refined:
            replay.tie_encoding_bias()
        optimiser.step()
    return losses, kinds


def check_torch7_losses(
    golden: Golden, report: Report, prefix: str, source: Golden, device: torch.device
) -> None:
    """Losses, gradients and steps of the executed Torch7 code on the images of ``source``."""
    replay = _Replay(source, 'lua', device)
    head = f'loss_{prefix}_'
    if f'{head}loss_mask_mean' in golden:
        report.close(
            f'{head}mask', replay.mean('mask'), golden[f'{head}loss_mask_mean'], rtol=_RTOL
        )
    if f'{head}loss_score_mean' in golden:
        report.close(
            f'{head}score', replay.mean('score'), golden[f'{head}loss_score_mean'], rtol=_RTOL
        )
        _compare_norms(
            report, replay, 'score', _norms(golden, f'{head}gs.'), f'{head}gradient (score)'
        )
    _compare_norms(report, replay, 'mask', _norms(golden, f'{head}gm.'), f'{head}gradient (mask)')
    recorded = [golden[f'{head}loss{i}'] for i in range(1, 9) if f'{head}loss{i}' in golden]
    if not recorded:
        return
    optimiser = torch.optim.SGD(_frozen_coarse(replay.model), lr=1e-3)
    for i, value in enumerate(recorded):
        replay.model.zero_grad(set_to_none=True)
        loss = replay.loss('mask')
        report.close(f'{head}step {i + 1}', loss.item() / replay.batch, value, rtol=_RTOL)
        loss.backward()
        optimiser.step()
    report.close(
        f'{head}after', replay.mean('mask'), np.asarray(golden[f'{head}loss_after']), rtol=_RTOL
    )
