# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""Soft targets in Triton, with the values of ``cpu.py``: one launch for ten of torch's."""

import torch
import triton
import triton.language as tl

BLOCK = 1024  # classes per program of four warps: two writes of sixteen bytes per thread


@triton.jit(do_not_specialize=["count"])
def soft_targets_rows(
    labels,
    weights,
    out,
    count: tl.int64,
    classes,
    on: tl.float64,
    off: tl.float64,
    SIZE: tl.constexpr,
):
    """Write a run of classes of sample n: out float32 [N, classes]; labels int64 and weights float64 [N], or None."""
    n = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    high, low = tl.full((1,), on, tl.float32), tl.full((1,), off, tl.float32)
    target = tl.where(i == tl.load(labels + n), high, low)
    if weights is not None:
        weight = tl.load(weights + n)
        partner = tl.where(i == tl.load(labels + (count - 1 - n)), high, low)
        target = target * weight.to(tl.float32) + partner * (1.0 - weight).to(tl.float32)
    tl.store(out + n * classes + i, target, mask=i < classes)


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, on: float, off: float
) -> torch.Tensor:
    """Return targets float32 ``[N, classes]`` from labels int64 ``[N]`` and weights float64 ``[N]`` or ``None``.

    on, off: the smoothed values at the label and elsewhere.
    """
    n = labels.shape[0]
    out = torch.empty((n, classes), dtype=torch.float32, device=labels.device)
    if n:
        with torch.cuda.device_of(labels):
            soft_targets_rows[(n, -(-classes // BLOCK))](
                labels, weights, out, n, classes, on, off, BLOCK, num_warps=4, enable_fp_fusion=False
            )
    return out
