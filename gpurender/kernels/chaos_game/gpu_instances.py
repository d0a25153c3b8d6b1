# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803  (capitals: constants known at compile time)
"""What an instance of a dataset is made of, in Triton: one launch for ten of torch's. ``cpu_instances.py`` has the
formula.
"""

import torch
import triton
import triton.language as tl

from gpurender.kernels.chaos_game.params import Instances, Parts

BLOCK = 128  # instances per program: one per thread


@triton.jit(do_not_specialize=["count", "instances", "flips", "patches", "weights", "groups"])
def divide(
    indices,
    draw_ids,
    table,
    systems,
    images,
    masks,
    orientations,
    count: tl.int32,
    instances: tl.int64,
    flips: tl.int64,
    patches: tl.int64,
    weights: tl.int64,
    groups: tl.int64,
    SHARES_MASKS: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write systems, images and masks int64 and orientations uint8, [count] each, of indices and draw ids int64."""
    n = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    used = n < count
    index = tl.load(indices + n, mask=used, other=0)
    category, instance = index // instances, index % instances
    image, flip = instance // flips, instance % flips
    mask = tl.load(draw_ids + n, mask=used, other=0)
    if SHARES_MASKS:
        mask -= flip
    tl.store(systems + n, category * weights + image // patches, mask=used)
    tl.store(images + n, category * groups + image, mask=used)
    tl.store(masks + n, mask, mask=used)
    tl.store(orientations + n, tl.load(table + flip, mask=used, other=0), mask=used)


def parts_of(indices: torch.Tensor, draw_ids: torch.Tensor, orientations: torch.Tensor, law: Instances) -> Parts:
    """Do ``gpurender.kernels.chaos_game.parts_of`` on a GPU; the arguments are checked."""
    systems, images, masks = (torch.empty_like(indices) for _ in range(3))
    parts = Parts(systems, images, masks, torch.empty_like(indices, dtype=torch.uint8))
    count = indices.shape[0]
    if count:
        with torch.cuda.device_of(indices):
            divide[(-(-count // BLOCK),)](
                indices, draw_ids, orientations, *parts, count, law.instances, law.flips, law.patches, law.weights,
                law.groups, law.shares_masks, BLOCK, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return parts
