"""Soft targets: labels mixed as their images are, and smoothed."""

import torch

from gpurender.runtime import dispatch

__all__ = ["soft_targets"]


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, label_smoothing: float
) -> torch.Tensor:
    """Return mixed and smoothed targets, timm's ``mixup_target``.

    Formula, in float32: y_n = smoothing / classes everywhere, plus 1 - smoothing at the label; target_n = y_n w_n +
    y_(N-1-n) (1 - w_n).

    Args:
        labels: int64 ``[N]`` in ``[0, classes)``. (On a GPU any other label is no class.)
        weights: float64 ``[N]``, or ``None``: nothing is mixed.
        classes: number of classes.
        label_smoothing: 0 to 1.

    Returns:
        float32 ``[N, classes]``, on the labels' device; each row sums to 1.
    """
    off = label_smoothing / classes
    implementation = dispatch.implementation("soft_targets", labels.device)
    return implementation.soft_targets(labels.contiguous(), weights, classes, 1.0 - label_smoothing + off, off)
