"""Soft targets by torch's operators: the reference, and for multi-hot labels the implementation on every device."""

import torch


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, on: float, off: float
) -> torch.Tensor:
    """Return targets float32 ``[N, classes]`` from labels, int64 ``[N]`` or multi-hot float32 ``[N, at most classes]``,
    and weights float64 ``[N]`` or ``None``.

    on, off: the smoothed values at a label and elsewhere.
    """
    own = torch.full((len(labels), classes), off, dtype=torch.float32, device=labels.device)
    if labels.dim() == 1:
        own.scatter_(1, labels[:, None], on)
    else:
        own[:, : labels.shape[1]].masked_fill_(labels > 0.0, on)
    if weights is None:
        return own
    share = weights[:, None]
    return own * share.to(torch.float32) + own.flip(0) * (1.0 - share).to(torch.float32)
