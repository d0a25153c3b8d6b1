"""Look-up tables of the shared device code, computed once per device."""

from functools import cache

import numpy as np
import torch


@cache
def survival_table(size: int, device: torch.device) -> torch.Tensor:
    """Return floor(2^32 (510/511)^g): the probability that an event of probability 1/511 spares g pixels in a row.

    int32 ``[size + 1]``, the bits of uint32; entry 0 is 0 and not used.
    """
    chance, table = 1.0, np.zeros(size + 1, np.uint32)
    for gap in range(1, size + 1):
        chance = chance * 510.0 / 511.0
        table[gap] = int(chance * 2.0**32)
    return torch.from_numpy(table.view(np.int32)).to(device)
