"""Soft targets on the CPU, by torch's operators: the reference."""

import torch


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, on: float, off: float
) -> torch.Tensor:
    """Return targets float32 ``[N, classes]`` from labels int64 ``[N]`` and weights float64 ``[N]`` or ``None``.

    on, off: the smoothed values at the label and elsewhere.
    """
    own = torch.full((len(labels), classes), off, dtype=torch.float32, device=labels.device).scatter_(
        1, labels[:, None], on
    )
    if weights is None:
        return own
    share = weights[:, None]
    return own * share.to(torch.float32) + own.flip(0) * (1.0 - share).to(torch.float32)
