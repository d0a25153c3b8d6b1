"""Image operations of augmentation policies, one chain of operations per sample, byte for byte as Pillow."""

from collections.abc import Collection, Sequence

import torch

from gpurender.kernels.image_ops.ops import BY_NAME, Kind, Operation, Spec
from gpurender.kernels.resized_crop import BICUBIC, MAX_SIDE
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor, readable
from gpurender.util import checks

__all__ = ["BY_NAME", "Kind", "Operation", "Spec", "apply_ops", "checked_fill"]


def apply_ops(
    images: torch.Tensor,
    operations: torch.Tensor,
    arguments: torch.Tensor,
    interpolations: torch.Tensor,
    fill: Sequence[int],
    possible: Collection[Operation] = tuple(Operation),
) -> torch.Tensor:
    """Apply each image's chain of operations, one operation after the other.

    An image with one channel stands for three equal channels: the result is the channel that all three would become.
    (Every operation makes equal channels of equal channels if the fill is grey. COLOR and HUE leave them unchanged.)

    Args:
        images: uint8 ``[N, 1 or 3, H, W]``.
        operations: int32 ``[N, L]``: codes of :class:`Operation`.
        arguments: float64 ``[N, L]``: the operation's argument, in its unit; ignored if the operation takes none.
        interpolations: uint8 ``[N, L]``, for the operations that move pixels: 0 nearest, 1 bilinear, 2 bicubic.
        fill: colour of pixels from beyond the image's edge: red, green, blue, 0 to 255 each; equal for one channel.
        possible: the operations that may occur, besides IDENTITY. A GPU skips the launches of others and treats
            them as IDENTITY; a CPU refuses them.

    All tensors are on one device. On a GPU the values of the tensors are not checked, because reading them would make
    the host wait: an unknown code counts as IDENTITY, and an argument is forced into its range.

    Returns:
        uint8 ``[N, 1 or 3, H, W]``, a new tensor on the images' device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    images, operations, arguments, interpolations = _checked(images, operations, arguments, interpolations, possible)
    red, green, blue = checked_fill(fill)
    if images.shape[1] == 1 and not red == green == blue:
        raise ValueError(f"fill must be a grey for images of one channel, got {(red, green, blue)}")
    implementation = dispatch.implementation("image_ops", images.device)
    return implementation.apply_ops(images, operations, arguments, interpolations, (red, green, blue), possible)


def checked_fill(fill: Sequence[int]) -> tuple[int, int, int]:
    """Check a colour and return its red, green and blue."""
    if not checks.is_sequence(fill, 3):
        raise TypeError(f"fill must be (red, green, blue), integers in [0, 255], got {checks.shown(fill)}")
    red, green, blue = (checks.integer(f"fill[{i}]", value, 0, 255) for i, value in enumerate(fill))
    return red, green, blue


def _checked(
    images: torch.Tensor,
    operations: torch.Tensor,
    arguments: torch.Tensor,
    interpolations: torch.Tensor,
    possible: Collection[Operation],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Check everything that the kernels rely on, and return the four tensors, contiguous."""
    images = checked_tensor("images", images, (torch.uint8,), (None, None, None, None))
    n, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {list(images.shape)}")
    if n and not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"images must have sides of 1 to {MAX_SIDE}, got shape {list(images.shape)}")
    operations = checked_tensor("operations", operations, (torch.int32,), (n, None), images.device)
    layers = operations.shape[1]
    arguments = checked_tensor("arguments", arguments, (torch.float64,), (n, layers), images.device)
    interpolations = checked_tensor("interpolations", interpolations, (torch.uint8,), (n, layers), images.device)
    if readable(images) and operations.numel():
        _check_values(operations, arguments, interpolations, possible)
    return images, operations, arguments, interpolations


def _check_values(
    operations: torch.Tensor, arguments: torch.Tensor, interpolations: torch.Tensor, possible: Collection[Operation]
) -> None:
    low, high = int(operations.min()), int(operations.max())
    if low < 0 or high >= len(Operation):
        raise ValueError(f"operations must be codes 0 to {len(Operation) - 1}, got {low if low < 0 else high}")
    if (worst := int(interpolations.max())) > BICUBIC:
        raise ValueError(f"interpolations must be 0, 1 or 2, got {worst}")
    for code in torch.unique(operations).tolist():
        if code and code not in possible:
            raise ValueError(f"operations must be of {[int(one) for one in possible]}, as possible says, got {code}")
        limits = Operation(code).spec.limits
        if limits is None:
            continue
        least, most = limits
        given = arguments[operations == code]
        bad = ~((given >= least) & (given <= most))  # NaN, too
        if bad.any():
            value = float(given[bad][0])
            raise ValueError(
                f"arguments of {Operation(code).name} must lie in [{least:g}, {most:g}], got {checks.shown(value)}"
            )
