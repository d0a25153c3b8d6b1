"""Soft targets: labels mixed as their images are, and smoothed."""

import torch


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, label_smoothing: float
) -> torch.Tensor:
    """Return mixed and smoothed targets, timm's ``mixup_target``.

    Formula: y_n = smoothing / classes everywhere, plus 1 - smoothing at the label; target_n = y_n w_n +
    y_(N-1-n) (1 - w_n).

    Args:
        labels: int64 ``[N]`` in ``[0, classes)``.
        weights: float64 ``[N]``, or ``None``: nothing is mixed.
        classes: number of classes.
        label_smoothing: 0 to 1.

    Returns:
        float32 ``[N, classes]``, on the labels' device; each row sums to 1.
    """
    off = label_smoothing / classes
    on = 1.0 - label_smoothing + off
    own = torch.full((len(labels), classes), off, dtype=torch.float32, device=labels.device).scatter_(
        1, labels[:, None], on
    )
    if weights is None:
        return own
    share = weights[:, None]
    return own * share.to(torch.float32) + own.flip(0) * (1.0 - share).to(torch.float32)
