"""Parameters of mixing and erasing a batch, for both implementations."""

from typing import NamedTuple

import torch

ERASING_MODES = ("const", "rand", "pixel")


class Mixing(NamedTuple):
    """Parameters of mixing each image with its partner: image N - 1 - n for image n.

    Attributes:
        weights: float64 ``[N]``, 0 to 1: the image's own fraction in a mixup; 1 leaves the image unchanged.
        cut: bool ``[N]``: a patch of the partner is pasted (CutMix); the weight then does not affect the pixels.
        patches: int32 ``[N, 4]``: top, left, height, width of the patch, inside the image; 0 pixels are allowed.
    """

    weights: torch.Tensor
    cut: torch.Tensor
    patches: torch.Tensor


class Erasing(NamedTuple):
    """Boxes of each image that are filled after normalisation; a later box overwrites an earlier one.

    Attributes:
        boxes: int32 ``[N, K, 4]``: top, left, height, width, inside the image; a height of 0 is no box.
        keys: int64 ``[N]``: the 64-bit Philox key of the image's noise.
        mode: ``"const"``: 0; ``"rand"``: one normal variate per box and channel; ``"pixel"``: one per pixel and
            channel.
    """

    boxes: torch.Tensor
    keys: torch.Tensor
    mode: str
