"""Random erasing: boxes that are filled with noise or with zeros after normalisation.

Source: Zhong et al., "Random Erasing Data Augmentation" (AAAI 2020); the rules are those of timm 1.0.31.
"""

from typing import NamedTuple

import torch

from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.resized_crop import ErasingLaw, draw_erasing
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream
from gpurender.runtime import devices

ATTEMPTS = 10


class RandomErasing(NamedTuple):
    """What boxes are drawn from.

    Attributes:
        probability: of erasing anything.
        boxes: fewest and most boxes of an image; of n boxes each has an n-th of the area.
        area: of all boxes, as a share of the image: a range.
        aspect: height / width of a box: a range, log-uniform.
    """

    probability: float
    boxes: tuple[int, int]
    area: tuple[float, float]
    aspect: tuple[float, float]


def draw(law: RandomErasing, numbers: torch.Tensor, seed: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and noise of draw numbers.

    Up to ten times for each box, an area is drawn uniformly and an aspect ratio log-uniformly; the first pair whose
    sides are both smaller than the image's is taken, at a uniform position. If none is, there is no box.

    Addresses: of ``(seed, Stream.ERASING, number)``, the words of block 0 are whether to erase, how many boxes, and
    the key of the noise (low, high); block 1 + 10 k + a is attempt a at box k: area, aspect ratio, top, left.

    Args:
        law: what they are drawn from.
        numbers: int64 ``[N]``.
        seed: unsigned 64-bit key.
        size: side of the images in pixels.

    Returns:
        boxes int32 ``[N, K, 4]``: top, left, height, width, all 0 where there is no box; keys int64 ``[N]``; on the
        numbers' device.
    """
    if devices.on_gpu(numbers.device):
        (low, high), ratios = law.area, quantiles.on(numbers.device, "ratio", *law.aspect)
        given = ErasingLaw(ratios, law.probability, law.boxes, (low, high - low), ATTEMPTS)
        return draw_erasing(numbers, seed, size, given)
    least, most = law.boxes
    drawn = words(seed, Stream.ERASING, numbers, 1 + ATTEMPTS * most)  # [N, 4 (1 + 10 K)]
    count = least + bounded(drawn[:, 1], most - least + 1)  # [N]
    count = torch.where(uniform(drawn[:, 0]) < law.probability, count, 0)
    keys = drawn[:, 3] << 32 | drawn[:, 2]

    area, ratio, top, left = drawn[:, 4:].reshape(-1, most, ATTEMPTS, 4).unbind(-1)  # [N, K, 10] each
    low, high = law.area
    share = (low + (high - low) * uniform(area)) * float(size * size) / count.clamp(min=1)[:, None, None]
    aspect = quantiles.log_uniform(ratio, *law.aspect)
    h = torch.round(torch.sqrt(share * aspect)).to(torch.int64)  # halves to even, as Python's round
    w = torch.round(torch.sqrt(share / aspect)).to(torch.int64)
    fits = (w < size) & (h < size)
    first = fits.to(torch.int64).argmax(2, keepdim=True)  # [N, K, 1]
    h, w, top, left = (x.gather(2, first).squeeze(2) for x in (h, w, top, left))
    boxes = torch.stack([bounded(top, size - h + 1), bounded(left, size - w + 1), h, w], 2)
    wanted = torch.arange(most, device=numbers.device) < count[:, None]
    return torch.where((fits.any(2) & wanted)[:, :, None], boxes, 0).to(torch.int32), keys
