"""Image formats: dtypes, integer dtypes that carry an element's bits, memory formats."""

from typing import Any, NamedTuple, TypeVar

import torch

from gpurender.runtime.tensors import checked_tensor
from gpurender.util import checks

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
Kind = TypeVar("Kind")

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes per element -> the dtype that carries its bits


class ImageFormat(NamedTuple):
    """The format of a batch of images ``[N, 3, size, size]``."""

    size: int
    dtype: torch.dtype
    memory_format: torch.memory_format

    def keywords(self) -> dict[str, Any]:
        """Return the keywords of a policy's ``apply``; omit the default memory format (users' policies may lack it)."""
        more = {} if self.memory_format == torch.contiguous_format else {"memory_format": self.memory_format}
        return {"image_size": self.size, "dtype": self.dtype, **more}


def checked_table(lut: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a checked table of the values of bytes: ``[3, 256]``, or ``[1, 256]`` if the channels have the same."""
    one = isinstance(lut, torch.Tensor) and len(lut.shape) == 2 and len(lut) == 1
    return checked_tensor("lut", lut, DTYPES, (1 if one else 3, 256), device)


def check_memory_format(memory_format: Any) -> torch.memory_format:
    """Return a memory format; raise an error for one that images cannot have."""
    return _one_of("memory_format", memory_format, torch.memory_format, MEMORY_FORMATS)


def check_dtype(dtype: Any) -> torch.dtype:
    """Return a dtype; raise an error for one that images cannot have."""
    return _one_of("dtype", dtype, torch.dtype, DTYPES)


def _one_of(name: str, value: Any, kind: type[Kind], allowed: tuple[Kind, ...]) -> Kind:
    """Return an allowed value; raise TypeError for a value of another kind, ValueError for one that is not allowed."""
    wrong = None if isinstance(value, kind) else TypeError
    if wrong or value not in allowed:
        raise (wrong or ValueError)(f"{name} must be one of {allowed}, got {checks.shown(value)}")
    return value
