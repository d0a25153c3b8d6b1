"""Soft targets: labels mixed as their images are, and smoothed."""

import torch


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, label_smoothing: float
) -> torch.Tensor:
    """Return mixed and smoothed targets, timm's ``mixup_target``.

    Formula: y_n = smoothing / classes everywhere, plus 1 - smoothing at each label; target_n = y_n w_n +
    y_(N-1-n) (1 - w_n).

    Args:
        labels: int64 ``[N]`` in ``[0, classes)``; or multi-hot, float32 ``[N, at most classes]`` of 0 and 1.
        weights: float64 ``[N]``, or ``None``: nothing is mixed.
        classes: number of classes.
        label_smoothing: 0 to 1.

    Returns:
        float32 ``[N, classes]``, on the labels' device. A row sums to 1; of multi-hot labels, every entry lies in [0,
        1], and nothing is normalised.
    """
    off = label_smoothing / classes
    on = 1.0 - label_smoothing + off
    own = torch.full((len(labels), classes), off, dtype=torch.float32, device=labels.device)
    if labels.dim() == 1:
        own.scatter_(1, labels[:, None], on)
    else:
        own[:, : labels.shape[1]].masked_fill_(labels > 0.0, on)
    if weights is None:
        return own
    share = weights[:, None]
    return own * share.to(torch.float32) + own.flip(0) * (1.0 - share).to(torch.float32)
