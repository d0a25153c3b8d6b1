"""Colour jitter, grayscale and blur: torchvision's transforms as timm chains them, as operations of a sample."""

import itertools
import math
from typing import NamedTuple

import torch

from gpurender.kernels.image_ops import Operation
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.streams import Stream
from gpurender.util import device_tables

SIGMAS = (0.1, 2.0)  # of the blur, in pixels
COMPONENTS = (Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR, Operation.HUE)


class Jitter(NamedTuple):
    """What is drawn from.

    Attributes:
        strengths: of brightness, contrast, saturation and hue: factors are uniform in [max(0, 1 - s), 1 + s], hue in
            [-s, s] turns; a strength of 0 leaves the component out.
        probability: of the jitter as a whole.
        grayscale: probability of losing the colours.
        blur: probability of a Gaussian blur of 23 pixels.
    """

    strengths: tuple[float, float, float, float]
    probability: float
    grayscale: float
    blur: float

    @property
    def components(self) -> list[int]:
        """Those that have a strength, by their place in COMPONENTS."""
        return [i for i, strength in enumerate(self.strengths) if strength] if self.probability else []

    @property
    def operations(self) -> frozenset[Operation]:
        """All that may be drawn."""
        drawn = {COMPONENTS[i] for i in self.components}
        drawn |= {Operation.COLOR} if self.grayscale else set()
        return frozenset(drawn | ({Operation.GAUSSIAN_KERNEL} if self.blur else set()))

    @property
    def layers(self) -> int:
        """Operations of a sample at most."""
        return len(self.components) + (self.grayscale > 0.0) + (self.blur > 0.0)


def draw(law: Jitter, numbers: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The operations of draw numbers: the components in random order, then grayscale, then blur.

    Addresses: of ``(seed, Stream.JITTER, number)``, the words of block 0 are order, whether to jitter, whether to make
    grey, whether to blur; those of block 1 the four factors; the first of block 2 is the blur's standard deviation.

    Args:
        law: what they are drawn from.
        numbers: int64 ``[N]``.
        seed: unsigned 64-bit key.

    Returns:
        operations int32 and arguments float64, each ``[N, law.layers]``, on the numbers' device.
    """
    drawn = words(seed, Stream.JITTER, numbers, 3)  # [N, 12]
    operations, arguments = [], []
    if law.components:
        orders, lows, spans, codes = _tables(law, numbers.device)
        order = orders[bounded(drawn[:, 0], len(orders))]  # [N, k]
        chosen = torch.stack([drawn[:, 4 + i] for i in law.components], 1)  # a list as an index would wait for a GPU
        factors = lows + spans * uniform(chosen)  # [N, k]
        jittered = (uniform(drawn[:, 1]) < law.probability)[:, None]
        operations.append(torch.where(jittered, codes[order], Operation.IDENTITY))
        arguments.append(factors.gather(1, order))
    if law.grayscale:
        operations.append(_either(uniform(drawn[:, 2]) < law.grayscale, Operation.COLOR))
        arguments.append(torch.zeros_like(operations[-1], dtype=torch.float64))
    if law.blur:
        low, high = SIGMAS
        operations.append(_either(uniform(drawn[:, 3]) < law.blur, Operation.GAUSSIAN_KERNEL))
        arguments.append((low + (high - low) * uniform(drawn[:, 8]))[:, None])
    return torch.cat(operations, 1).to(torch.int32), torch.cat(arguments, 1)


def _either(applied: torch.Tensor, operation: Operation) -> torch.Tensor:
    """The operation where it is applied: int64 [N, 1]."""
    return (applied * int(operation))[:, None]


@device_tables.on_device
def _tables(law: Jitter, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Orders int64 [k!, k]; lowest factors and spans float64 [k]; codes int64 [k]: on the device."""
    components = law.components
    orders = torch.tensor(list(itertools.permutations(range(len(components)))), dtype=torch.int64, device=device)
    ranges = []
    for i in components:
        strength, hue = law.strengths[i], COMPONENTS[i] is Operation.HUE
        low, high = (-strength, strength) if hue else (max(0.0, 1.0 - strength), 1.0 + strength)
        ranges.append((low, high - low))
    lows, spans = torch.tensor(ranges, dtype=torch.float64, device=device).unbind(1)
    codes = torch.tensor([int(COMPONENTS[i]) for i in components], dtype=torch.int64, device=device)
    assert len(orders) == math.factorial(len(components))
    return orders, lows, spans, codes
