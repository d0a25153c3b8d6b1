"""Pictures of an export: canvases as PNG files, and the pixels of PNG files."""

import os
from typing import BinaryIO

import numpy as np
from PIL import Image

from gpurender.renderer import Renderer


def canvases(renderer: Renderer, samples: list[int]) -> np.ndarray:
    """Return the pixels of samples, uint8 ``[N, S, S, C]`` on the host."""
    return renderer(samples).permute(0, 2, 3, 1).cpu().numpy()


def save_png(picture: np.ndarray, file: str | BinaryIO) -> None:
    """Write a canvas, uint8 ``[S, S, C]``, as a PNG file."""
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file, format="PNG")


def read_png(file: str | os.PathLike[str] | BinaryIO, size: int) -> np.ndarray | str:
    """Return the pixels of a PNG file, uint8 ``[S, S, 3]``, or what is wrong with its size.

    Raises:
        Exception: any that Pillow raises for broken data: OSError, SyntaxError, ValueError and others.
    """
    with Image.open(file, formats=["PNG"]) as image:
        if image.size != (size, size):
            return f"{image.width} x {image.height} pixels, not {size} x {size}"
        return np.asarray(image.convert("RGB"))
