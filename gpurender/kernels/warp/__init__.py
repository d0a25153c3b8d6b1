"""Copies of one image, each seen through its own transform of the plane."""

import torch

from gpurender.kernels.warp.params import MAX_SIZE, MORE, TERMS
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor

__all__ = ["MORE", "TERMS", "warped"]


def warped(image: torch.Tensor, coefficients: torch.Tensor, field: torch.Tensor | None = None) -> torch.Tensor:
    """Render one copy of an image per row of coefficients.

    The pixel in column i and row j of a copy shows the image at the column ``c . t`` and the row ``d . t``, where c and
    d are the copy's two rows of coefficients, and t = (1, x, y, x^2, x y, y^2) with x = (2 i + 1 - S) / S, and y
    likewise of j: the canvas is [-1, 1]^2. A field adds a smooth displacement: the uniform cubic B-spline of G x G
    control points, of which (G - 3)^2 cells cover the canvas. Between pixels the image is interpolated bilinearly;
    beyond its edge it is 0.

    Args:
        image: uint8 ``[C, S, S]``, 2 to 8192 pixels a side.
        coefficients: float32 ``[N, 2, 6]``, finite, on the image's device.
        field: float32 ``[N, 2, G, G]``, finite, G >= 4: displacements of column and row in pixels; ``None``: none.

    Returns:
        uint8 ``[N, C, S, S]`` on the device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    image = checked_tensor("image", image, (torch.uint8,), (None, None, None))
    if image.shape[1] != image.shape[2] or not 2 <= image.shape[1] <= MAX_SIZE:
        raise ValueError(f"image must be square, of 2 to {MAX_SIZE} pixels, got {image.shape[1]} x {image.shape[2]}")
    coefficients = checked_tensor("coefficients", coefficients, (torch.float32,), (None, 2, TERMS), image.device)
    count = len(coefficients)
    if field is None:
        field = torch.zeros((count, 2, 0, 0), dtype=torch.float32, device=image.device)
    field = checked_tensor("field", field, (torch.float32,), (count, 2, None, None), image.device)
    rows, columns = field.shape[2:]
    if rows != columns or 0 < rows <= MORE:
        raise ValueError(f"field must have as many rows as columns, at least {MORE + 1}, got {rows} x {columns}")
    return dispatch.implementation("warp", image.device).warped(image, coefficients, field)
