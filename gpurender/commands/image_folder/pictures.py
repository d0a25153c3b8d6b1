"""Pictures of an export: canvases as PNG files, and the pixels of PNG files."""

import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from gpurender.renderer import Renderer
from gpurender.runtime.threads import parallel_ranges


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


def damages(
    renderer: Renderer, samples: list[int], files: Sequence[Any], read: Callable[[Any, int], np.ndarray | str]
) -> list[str]:
    """Return what is wrong with the picture of each sample, or an empty text; threads decode in parallel.

    Args:
        renderer: renders the samples whose pictures can be decoded.
        samples: numbers of the samples.
        files: what holds the picture of each.
        read: takes one of these and the side of a canvas; returns its pixels, uint8 ``[S, S, 3]``, or what is wrong.
    """
    decoded: list[Any] = [None] * len(files)

    def decode(start: int, stop: int) -> None:
        for i in range(start, stop):
            decoded[i] = read(files[i], renderer.recipe.image_size)

    parallel_ranges(len(files), decode)
    readable = [i for i, found in enumerate(decoded) if not isinstance(found, str)]
    if readable:
        pictures = canvases(renderer, [samples[i] for i in readable])  # [n, S, S, C] uint8; C = 1 is broadcast
        for i, picture in zip(readable, pictures, strict=True):
            decoded[i] = "" if (decoded[i] == picture).all() else "other pixels than the recipe's"
    return decoded
