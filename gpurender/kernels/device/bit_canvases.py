"""Canvases of one bit per pixel, as an operation on canvases may take them instead of bytes."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BitCanvases:
    """A batch of grey canvases, uint8 ``[N, 1, S, S]`` of 0 and 127, of which only the bits exist.

    Attributes:
        rows: int32 ``[K, S, ceil(S / 32)]``, bitmaps: bit k of word j is column 32 j + k.
        which: int64 ``[N]`` in ``[0, K)``, the bitmap of each canvas.
        orientations: uint8 ``[N]``, 0 to 7: flip top-bottom (1), then left-right (2), then transpose (4).
    """

    rows: torch.Tensor
    which: torch.Tensor
    orientations: torch.Tensor

    def __len__(self) -> int:
        return len(self.which)

    @property
    def shape(self) -> torch.Size:
        """Shape of the canvases."""
        side = self.rows.shape[1]
        return torch.Size((len(self.which), 1, side, side))

    @property
    def device(self) -> torch.device:
        """Device of the canvases."""
        return self.rows.device
