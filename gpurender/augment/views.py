"""Several views of each sample, for self-supervised training: the same canvas, augmented differently."""

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpurender.augment.policy import Parameters, Policy, capturable, checked_parameters
from gpurender.kernels.philox import words
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.numerics.streams import Stream
from gpurender.util import checks

__all__ = ["MultiCrop", "TwoViews"]

MAX_VIEWS = 64
CROP = "(policy, count) or (policy, count, image_size)"


class _Views(abc.ABC):
    """A policy of several views, each drawn and applied by a policy of its own."""

    @abc.abstractmethod
    def _each(self, image_size: int) -> list[tuple[Policy, int]]:
        """Policy and image size of every view."""

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph may hold what all of them launch."""
        return all(capturable(policy) for policy, _ in self._each(1))

    @property
    def views(self) -> int:
        """How many views of a sample there are."""
        return len(self._each(1))

    def check_sizes(self, canvas_size: int, image_size: int) -> None:
        """Refuse sizes that :meth:`draw` has no parameters for."""
        for policy, size in self._each(image_size):
            if hasattr(policy, "check_sizes"):
                policy.check_sizes(canvas_size, size)

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """The parameters of all views; those of view v have the names of its policy, with ``v.`` before them."""
        seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
        parameters: Parameters = {}
        for v, (policy, size) in enumerate(self._each(image_size)):
            drawn = policy.draw(numbers, seed=view_seed(seed, v), canvas_size=canvas_size, image_size=size)
            parameters |= {f"{v}.{name}": tensor for name, tensor in drawn.items()}
        return parameters

    def apply(
        self,
        canvases: torch.Tensor,
        parameters: Parameters,
        *,
        image_size: int = 224,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> list[torch.Tensor]:
        """The views of canvases uint8 ``[N, 1 or 3, S, S]``: ``[N, 3, size, size]`` each, in their order."""
        views, given = [], checked_parameters(parameters)
        for v, (policy, size) in enumerate(self._each(image_size)):
            own = {name.removeprefix(f"{v}."): x for name, x in given.items() if name.startswith(f"{v}.")}
            views.append(policy.apply(canvases, own, image_size=size, dtype=dtype, memory_format=memory_format))
        return views


@dataclass(frozen=True, init=False, repr=False)
class MultiCrop(_Views):
    """Views of each sample by several policies, each some times and at a size of its own.

    DINO's two large and six small crops::

    >>> large = gr.augment.Crop(scale=(0.4, 1.0))
    >>> small = gr.augment.Crop(scale=(0.05, 0.4))
    >>> policy = gr.augment.MultiCrop((large, 2), (small, 6, 96))
    >>> views, labels = next(iter(gr.DataLoader("onepfrac-1k", batch_size=64, augment=policy)))
    >>> [list(view.shape) for view in views]  # [64, 3, 224, 224] twice, [64, 3, 96, 96] six times

    The loader's images are then a list of tensors, one a view. View v is drawn with a seed of its own, the Philox word
    pair at ``(seed, Stream.VIEW, v)``, so that a view does not depend on how many there are.

    Source: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (NeurIPS 2020).

    Args:
        crops: each (policy, count) or (policy, count, image_size); without a size it is the loader's. A policy must not
            mix samples or smooth labels: a view has no target. (As a keyword, a list of them.)

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    crops: tuple[tuple[Policy, int, int | None], ...]

    def __init__(self, *each: Any, crops: Sequence[Any] = ()) -> None:  # dataclasses.replace() gives the keyword
        if not isinstance(crops, (list, tuple)):
            raise TypeError(f"crops must be a list, each of {CROP}, got {checks.shown(crops)}")
        given = (*each, *crops)
        if not given:
            raise ValueError(f"crops must be at least one {CROP}, got none")
        object.__setattr__(self, "crops", tuple(_checked(i, crop) for i, crop in enumerate(given)))
        checks.integer("the number of views", self.views, 1, MAX_VIEWS)

    def __repr__(self) -> str:
        each = (repr(crop if crop[2] is not None else crop[:2]) for crop in self.crops)
        return f"MultiCrop({', '.join(each)})"

    def _each(self, image_size: int) -> list[tuple[Policy, int]]:
        return [(policy, size or image_size) for policy, count, size in self.crops for _ in range(count)]


@dataclass(frozen=True)
class TwoViews(_Views):
    """Two views of each sample, by one policy or by two.

    >>> policy = gr.augment.TwoViews(gr.augment.Crop())
    >>> (first, second), labels = next(iter(gr.DataLoader("onepfrac-1k", batch_size=64, augment=policy)))

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020).

    Args:
        policy: of the first view.
        second: of the second view; without it, the same. Neither may mix samples or smooth labels.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    policy: Policy
    second: Policy | None = None

    def __post_init__(self) -> None:
        _check_policy("policy", self.policy)
        if self.second is not None:
            _check_policy("second", self.second)

    def _each(self, image_size: int) -> list[tuple[Policy, int]]:
        second = self.policy if self.second is None else self.second
        return [(self.policy, image_size), (second, image_size)]


@functools.lru_cache(maxsize=256)
def view_seed(seed: int, view: int) -> int:
    """The seed of a view: the first two words at ``(seed, Stream.VIEW, number = view)``."""
    low, high, *_ = words(seed, Stream.VIEW, torch.tensor([view], dtype=torch.int64, device="cpu")).flatten().tolist()
    return low | high << 32


def _checked(i: int, crop: Any) -> tuple[Policy, int, int | None]:
    if not isinstance(crop, (tuple, list)) or len(crop) not in (2, 3):
        raise TypeError(f"crops[{i}] must be {CROP}, got {checks.shown(crop)}")
    policy, count, size = (*crop, None)[:3]
    _check_policy(f"crops[{i}][0]", policy)
    count = checks.integer(f"crops[{i}][1]", count, 1, MAX_VIEWS)
    return policy, count, None if size is None else checks.integer(f"crops[{i}][2]", size, 1, MAX_SIDE)


def _check_policy(name: str, policy: Any) -> None:
    """Refuse what cannot make a view."""
    if isinstance(policy, type) or not isinstance(policy, Policy) or getattr(policy, "views", None):
        raise TypeError(f"{name} must be a policy such as gr.augment.Crop(), got {checks.shown(policy)}")
    if getattr(policy, "num_aug_repeats", 0) > 1:
        raise ValueError(f"{name} must not repeat samples: num_aug_repeats=0; got {checks.shown(policy)}")
    if getattr(policy, "soft", None):
        raise ValueError(
            f"{name} must not mix samples or smooth labels: mixup_alpha=0, cutmix_alpha=0, label_smoothing=0; "
            f"got {checks.shown(policy)}"
        )
