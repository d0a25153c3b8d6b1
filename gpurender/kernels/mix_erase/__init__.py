"""The last step of an augmented batch: mix partners, look the bytes up, erase boxes."""

import torch

from gpurender.kernels.mix_erase.params import ERASING_MODES, Erasing, Mixing
from gpurender.runtime import dispatch
from gpurender.runtime.image_formats import check_memory_format, checked_table
from gpurender.runtime.tensors import checked_tensor, readable
from gpurender.util import checks

__all__ = ["ERASING_MODES", "Erasing", "Mixing", "mix_erase"]


def mix_erase(
    images: torch.Tensor,
    lut: torch.Tensor,
    mixing: Mixing | None = None,
    erasing: Erasing | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """Make the images of a batch from bytes: mixup or CutMix of partners, then ``lut[c][byte]``, then random erasing.

    Mixup combines bytes in float32, rounded to the nearest byte (halves to even)::

        mixed = rint(float32(weight) own + float32(1 - weight) partner)

    An image with one channel stands for three equal channels; the table and the noise turn it into three channels.

    Args:
        images: uint8 ``[N, 1 or 3, H, W]``.
        lut: float32, float16, bfloat16 or float64 ``[3, 256]``: the value of each byte in each channel; ``[1, 256]`` if
            the channels have the same.
        mixing: parameters of mixing the batch, or ``None``.
        erasing: parameters of erasing, or ``None``. The standard normal noise is cast to the table's dtype.
        memory_format: memory format of the result: ``torch.contiguous_format`` or ``torch.channels_last``.

    All tensors are on one device. On a GPU the values of the tensors are not checked, because reading them would make
    the host wait: the parts of boxes and patches outside an image are not written.

    Returns:
        ``[N, 3, H, W]`` of the table's dtype, a new tensor on the images' device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    images = checked_tensor("images", images, (torch.uint8,), (None, None, None, None))
    channels = images.shape[1]
    if channels not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {list(images.shape)}")
    lut = checked_table(lut, images.device)
    check_memory_format(memory_format)
    mixing = None if mixing is None else _checked_mixing(mixing, images)
    erasing = None if erasing is None else _checked_erasing(erasing, images)
    implementation = dispatch.implementation("mix_erase", images.device)
    return implementation.mix_erase(images, lut, mixing, erasing, memory_format)


def _checked_mixing(mixing: Mixing, images: torch.Tensor) -> Mixing:
    n, _, height, width = images.shape
    weights = checked_tensor("mixing.weights", mixing.weights, (torch.float64,), (n,), images.device)
    cut = checked_tensor("mixing.cut", mixing.cut, (torch.bool,), (n,), images.device)
    patches = checked_tensor("mixing.patches", mixing.patches, (torch.int32,), (n, 4), images.device)
    if readable(images):
        if not ((weights >= 0.0) & (weights <= 1.0)).all():  # NaN, too
            raise ValueError(f"mixing.weights must lie in [0, 1], got {weights.min():g} to {weights.max():g}")
        _check_inside("mixing.patches", patches, height, width)
    return Mixing(weights, cut, patches)


def _checked_erasing(erasing: Erasing, images: torch.Tensor) -> Erasing:
    n, _, height, width = images.shape
    boxes = checked_tensor("erasing.boxes", erasing.boxes, (torch.int32,), (n, None, 4), images.device)
    keys = checked_tensor("erasing.keys", erasing.keys, (torch.int64,), (n,), images.device)
    if erasing.mode not in ERASING_MODES:
        raise ValueError(f"erasing.mode must be one of {', '.join(ERASING_MODES)}, got {checks.shown(erasing.mode)}")
    if readable(images):
        _check_inside("erasing.boxes", boxes.view(-1, 4), height, width)
    return Erasing(boxes, keys, erasing.mode)


def _check_inside(name: str, boxes: torch.Tensor, height: int, width: int) -> None:
    """Refuse boxes (int32 ``[n, 4]`` on the CPU) that leave an image of ``height`` x ``width``; boxes may be empty."""
    top, left, h, w = boxes.unbind(1)
    bad = (top < 0) | (left < 0) | (h < 0) | (w < 0) | (top > height - h) | (left > width - w)
    if bad.any():
        box = tuple(boxes[int(bad.nonzero()[0])].tolist())
        raise ValueError(f"{name} must be (top, left, height, width) inside an image of {height} x {width}, got {box}")
