"""Look-up tables of the draws, computed once per device."""

import itertools

import torch

from gpurender.kernels.augment_params.params import JITTERED, LEVEL_FIELDS, JitterParams, LayerOp
from gpurender.kernels.image_ops.ops import Operation
from gpurender.util import device_tables


@device_tables.on_device
def levels(alternatives: tuple[tuple[LayerOp, ...], ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the operations' LEVEL_FIELDS, float64 ``[A, D, len(LEVEL_FIELDS)]``, and their codes, int64 ``[A, D]``."""
    rows = [[(each.probability, each.level, *each.rule) for each in alternative] for alternative in alternatives]
    codes = [[int(each.operation) for each in alternative] for alternative in alternatives]
    table = torch.tensor(rows, dtype=torch.float64, device=device)
    assert table.shape[2] == len(LEVEL_FIELDS)
    return table, torch.tensor(codes, dtype=torch.int64, device=device)


@device_tables.on_device
def weights(of_alternatives: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return the weights of alternatives, int64 ``[A]``."""
    return torch.tensor(of_alternatives, dtype=torch.int64, device=device)


@device_tables.on_device
def jitter(params: JitterParams, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return component orders int64 ``[k!, k]``; lowest factors and spans float64 ``[k]``; codes int64 ``[k]``."""
    components = params.components
    orders = torch.tensor(list(itertools.permutations(range(len(components)))), dtype=torch.int64, device=device)
    ranges = []
    for i in components:
        strength, hue = params.strengths[i], JITTERED[i] is Operation.HUE
        low, high = (-strength, strength) if hue else (max(0.0, 1.0 - strength), 1.0 + strength)
        ranges.append((low, high - low))
    lows, spans = torch.tensor(ranges, dtype=torch.float64, device=device).unbind(1)
    codes = torch.tensor([int(JITTERED[i]) for i in components], dtype=torch.int64, device=device)
    return orders, lows, spans, codes
