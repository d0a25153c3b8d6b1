"""What an augmentation policy is: a value with two pure functions, draw and apply."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from gpurender import checks

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


def draw_numbers(numbers: Any) -> np.ndarray:
    """Draw numbers as uint64 ``[N]``."""
    allowed = f"integers in [0, {checks.UINT64_MAX}]"
    try:
        array = np.asarray(numbers.cpu() if isinstance(numbers, torch.Tensor) else numbers)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"numbers must be {allowed}, got {numbers!r}") from None
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, np.uint64)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TypeError(f"numbers must be {allowed}, one or a list, got {array.dtype} {list(array.shape)}")
    if array.min() < 0:
        raise ValueError(f"numbers must be {allowed}, got {array.min()}")
    return np.atleast_1d(array).astype(np.uint64)
