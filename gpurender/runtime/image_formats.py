"""Formats of images: the types of their elements, the integers that carry an element's bits, the order in memory."""

from typing import Any, NamedTuple

import torch

from gpurender.util import checks

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # that carry an element of so many bytes


class ImageFormat(NamedTuple):
    """The format of a batch of images ``[N, 3, size, size]``."""

    size: int
    dtype: torch.dtype
    memory_format: torch.memory_format

    def keywords(self) -> dict[str, Any]:
        """Return the keywords of a policy's ``apply``; a user's policy need not know of an order in memory."""
        more = {} if self.memory_format == torch.contiguous_format else {"memory_format": self.memory_format}
        return {"image_size": self.size, "dtype": self.dtype, **more}


def check_memory_format(memory_format: torch.memory_format) -> None:
    """Refuse a memory format that images do not have."""
    if memory_format not in MEMORY_FORMATS:
        allowed = " or ".join(str(known) for known in MEMORY_FORMATS)
        raise ValueError(f"memory_format must be {allowed}, got {checks.shown(memory_format)}")
