"""Tables that the kernels look up, made once for each device."""

from functools import cache

import numpy as np
import torch

HUES = 128
SATURATION = INTENSITY = 0.75


@cache
def survival(size: int, device: torch.device) -> torch.Tensor:
    """int32 ``[size + 1]``, the bits of uint32: floor(2^32 (510/511)^g), the chance that g pixels in a row are all
    spared by an event of chance 1/511.
    """
    chance, table = 1.0, np.zeros(size + 1, np.uint32)
    for gap in range(1, size + 1):
        chance = chance * 510.0 / 511.0
        table[gap] = int(chance * 2.0**32)
    return torch.from_numpy(table.view(np.int32)).to(device)


@cache
def palette(device: torch.device) -> torch.Tensor:
    """uint8 ``[128, 3]``: the released colour wheel (HSI-like, released order of channels, truncated to bytes)."""
    table = np.zeros((HUES, 3), np.uint8)
    pi = 3.141592653589793
    for i in range(HUES):
        angle = (3.0 / pi) * (2.0 * pi * (float(i) / float(HUES)))  # sixths of a turn
        sector = int(angle)
        p = int(INTENSITY * (1.0 - SATURATION) * 255.0)
        q = int(INTENSITY * (1.0 - SATURATION * (angle - sector)) * 255.0)
        t = int(INTENSITY * (1.0 - SATURATION * ((1.0 - angle) + sector)) * 255.0)
        v = int(INTENSITY * 255.0)
        table[i] = [(p, t, v), (p, v, q), (t, v, p), (v, q, p), (v, p, t), (q, p, v)][sector]
    return torch.from_numpy(table).to(device)
