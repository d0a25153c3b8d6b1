"""Pictures as data: a picture file or an array becomes a text that holds the pixels, which is part of a recipe."""

import base64
import functools
import io
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from gpurender.util import checks

PREFIX = "data:image/png;base64,"  # RFC 2397
LEAST = 16  # pixels of a side
KEPT = 4  # texts; the page of `gpurender explore` shows two recipes
WANTED = "a path, or a uint8 array [H, W] or [H, W, 3]"


def text_of(name: str, value: Any, size: int) -> str:
    """Return a picture as text: its middle square, resized to ``size`` pixels (bicubic), as a PNG file in base64.

    Args:
        name: name of the parameter, for errors.
        value: the path of a picture that Pillow reads; uint8 ``[H, W]`` or ``[H, W, 3]``; or such a text, whose pixels
            are unchanged if it has this size.

    Raises:
        TypeError, ValueError: it is none of these, cannot be read, is smaller than 16 pixels or of a single colour.
    """
    if isinstance(value, str) and value.startswith("data:"):
        return _text_of_text(name, value, size)
    return _text(name, _image(name, value), size)


@functools.lru_cache(maxsize=KEPT)
def _text_of_text(name: str, text: str, size: int) -> str:
    """Return :func:`text_of` of a text: recipes of one picture with other parameters are made one after another."""
    return _text(name, _read(name, "<PNG text>", _decoded(name, text)), size)


def _text(name: str, image: Image.Image, size: int) -> str:
    side = min(image.size)
    if side < LEAST:
        raise ValueError(f"{name} must have sides of at least {LEAST} pixels, got {image.width} x {image.height}")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    if (pixels := np.array(image)).min((0, 1)).tolist() == pixels.max((0, 1)).tolist():
        raise ValueError(f"{name} must show something, got pixels of a single colour")
    file = io.BytesIO()
    image.save(file, "PNG")
    return PREFIX + base64.b64encode(file.getvalue()).decode("ascii")


def pixels_of(text: str) -> np.ndarray:
    """Return the pixels of a text that :func:`text_of` returned, uint8 ``[H, W, 3]``."""
    return np.array(_opened(io.BytesIO(base64.b64decode(text[len(PREFIX) :]))))


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """Return luma in bytes by the formula of Pillow (ITU-R 601-2, rounded), uint8 ``[H, W]``; pixels: ``[H, W, 3]``."""
    red, green, blue = (pixels[..., c].astype(np.int64) for c in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)


def _image(name: str, value: Any) -> Image.Image:
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or not (value.ndim == 2 or (value.ndim == 3 and value.shape[2] == 3)):
            raise ValueError(f"{name} must be {WANTED}, got {value.dtype} {list(value.shape)}")
        if not value.size:
            raise ValueError(f"{name} must have sides of at least {LEAST} pixels, got {list(value.shape)}")
        return Image.fromarray(np.ascontiguousarray(value)).convert("RGB")
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be {WANTED}, got {checks.shown(value)}")
    path = checks.path(name, value)
    return _read(name, checks.shown_path(path), path)


def _decoded(name: str, text: str) -> io.BytesIO:
    try:
        if text.startswith(PREFIX):
            return io.BytesIO(base64.b64decode(text[len(PREFIX) :], validate=True))
    except ValueError:
        pass
    raise ValueError(f"{name} must be {WANTED}; a text must begin with {PREFIX!r} and be base64, got {text[:40]!r}")


def _read(name: str, shown: str, source: Any) -> Image.Image:
    try:
        return _opened(source)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
        reason = getattr(error, "strerror", None) or "it is no picture that Pillow reads"
        raise ValueError(f"{name} {shown} cannot be read: {reason}") from None


def _opened(source: Any) -> Image.Image:
    with Image.open(source) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
