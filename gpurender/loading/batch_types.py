"""The type of a loader's batches, for type checkers."""

from typing import TYPE_CHECKING

import torch

TensorPair = tuple[torch.Tensor, torch.Tensor]  # images, targets

if TYPE_CHECKING:  # type checkers bring typing_extensions; Python 3.10 to 3.12 have no default
    from typing_extensions import TypeVar

    BatchT_co = TypeVar("BatchT_co", covariant=True, default=TensorPair)
else:
    from typing import TypeVar

    BatchT_co = TypeVar("BatchT_co", covariant=True)
