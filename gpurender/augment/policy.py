"""What an augmentation policy is: a value with two pure functions, draw and apply."""

from typing import Any, Protocol, runtime_checkable

import torch

Parameters = dict[str, torch.Tensor]


@runtime_checkable
class Policy(Protocol):
    """A policy is data; drawing is separate from applying, so that parameters can be looked at, stored and replayed."""

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512) -> Parameters:
        """Every parameter of every sample: a pure function of ``(seed, number)``, the same bits on every machine.

        Args:
            numbers: unsigned 64-bit draw numbers ``[N]``: an int, a list, a NumPy array or a torch tensor of integers.
            seed: unsigned 64-bit key.
            canvas_size: side of the canvases in pixels.

        Returns:
            CPU tensors, all with N as their first length.
        """
        ...

    def apply(
        self,
        canvases: torch.Tensor,
        parameters: Parameters,
        *,
        image_size: int = 224,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Canvases uint8 ``[N, 1 or 3, S, S]`` to normalised images ``[N, 3, image_size, image_size]`` of ``dtype``."""
        ...
