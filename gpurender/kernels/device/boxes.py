"""Boxes: parts of images or canvases, integers ``[N, 4]``: top, left, height, width in pixels."""

import torch

from gpurender.runtime.tensors import checked_tensor, readable


def check_boxes(boxes: torch.Tensor, height: int, width: int, name: str = "boxes") -> None:
    """Refuse boxes (integers ``[N, 4]`` on the CPU) that are empty or leave an image of ``height`` x ``width``."""
    top, left, h, w = boxes.unbind(1)
    bad = (top < 0) | (left < 0) | (h < 1) | (w < 1) | (top > height - h) | (left > width - w)
    if bad.any():
        n = int(bad.nonzero()[0])
        raise ValueError(
            f"{name}[{n}] must be (top, left, height, width) with sides of 1 or more inside an image of "
            f"{height} x {width}, got {tuple(boxes[n].tolist())}"
        )


def checked_windows(windows: torch.Tensor, count: int, size: int, device: torch.device) -> torch.Tensor:
    """Return the windows of ``count`` canvases of ``size`` x ``size``, int32 ``[count, 4]``, contiguous.

    Windows on a GPU are not compared with the canvas, because reading them would make the host wait: a kernel moves
    them into it.

    Raises:
        TypeError, ValueError: for another dtype, shape or device, or naming the first window that leaves the canvas.
    """
    windows = checked_tensor("windows", windows, (torch.int32,), (count, 4), device)
    if readable(windows):
        check_boxes(windows, size, size, "windows")
    return windows
