"""Iterated function systems in space: the parameters of both implementations, and their limits."""

import math
from dataclasses import dataclass
from typing import ClassVar

from gpurender.kernels.chaos_game.params import Systems

MAX_POINTS = 1_000_000  # a game is one chain of dependent steps: 4 ms for a million on a CPU core
UNITS = 1 << 20  # of the longest extent of a cloud: sums of 10^6 squares stay below 2^60

# The camera, as released, in the units of the normalised cloud, whose coordinates span [-1, 1].
DISTANCE = 4.0  # from the centroid, at which the camera looks
COTANGENT = 1.0 + math.sqrt(2.0)  # of 22.5 degrees, half of the field of view
WHITE = 255


@dataclass(frozen=True)
class SpaceSystems(Systems):
    """A batch of iterated function systems in space on one device, padded to the largest number of maps.

    Attributes:
        maps: float32 ``[N, M, 12]``: a to l of x' = a x + b y + c z + j, y' = d x + e y + f z + k,
            z' = g x + h y + i z + l.
        thresholds: int32 ``[N, M]``: cumulative probabilities in units of 2^-16.
        counts: int32 ``[N]``: number of maps of each system, 1 to M.
    """

    columns: ClassVar[int] = 12
