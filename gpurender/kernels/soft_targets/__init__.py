"""Soft targets: labels mixed as their images are, and smoothed."""

import torch

from gpurender.kernels.soft_targets import cpu
from gpurender.runtime import dispatch

__all__ = ["soft_targets"]


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, label_smoothing: float
) -> torch.Tensor:
    """Return mixed and smoothed targets, timm's ``mixup_target``.

    Formula, in float32: y_n = smoothing / classes everywhere, plus 1 - smoothing at each label; target_n = y_n w_n +
    y_(N-1-n) (1 - w_n).

    Args:
        labels: int64 ``[N]`` in ``[0, classes)`` (on a GPU any other label is no class); or multi-hot, float32 ``[N, at
            most classes]`` of 0 and 1.
        weights: float64 ``[N]``, or ``None``: nothing is mixed.
        classes: number of classes.
        label_smoothing: 0 to 1.

    Returns:
        float32 ``[N, classes]``, on the labels' device. A row sums to 1; of multi-hot labels, every entry lies in [0,
        1], and nothing is normalised.
    """
    off = label_smoothing / classes
    if labels.dim() > 1:  # by torch's operators on every device
        return cpu.soft_targets(labels, weights, classes, 1.0 - label_smoothing + off, off)
    implementation = dispatch.implementation("soft_targets", labels.device)
    return implementation.soft_targets(labels.contiguous(), weights, classes, 1.0 - label_smoothing + off, off)
