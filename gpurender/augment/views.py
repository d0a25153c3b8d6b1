"""Several views of each sample, for self-supervised training: the same canvas, augmented differently."""

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.augment.parameters import Parameters, checked_parameters
from gpurender.augment.policy import Policy, begin, capturable, finished
from gpurender.kernels.philox import words
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.numerics.streams import Stream
from gpurender.runtime.image_formats import ImageFormat
from gpurender.util import checks, keywords

__all__ = ["MultiCrop", "TwoViews"]

MAX_VIEWS = 64
CROP = "(policy, count) or (policy, count, image_size)"


class _Views(Policy[list[torch.Tensor]]):
    """A policy of several views, each drawn and applied by a policy of one view."""

    @abc.abstractmethod
    def _each(self, image_size: int) -> list[tuple[Policy, int]]:
        """Return policy and image size of every view."""

    @property
    def capturable(self) -> bool:  # type: ignore[override]
        """Whether a CUDA graph may hold the launches of all views."""
        return all(capturable(policy) for policy, _ in self._each(1))

    @property
    def views(self) -> int:  # type: ignore[override]
        """Number of views per sample."""
        return len(self._each(1))

    def check_sizes(self, canvas_size: int, image_size: int) -> None:
        """Refuse sizes for which :meth:`draw` has no parameters."""
        for policy, size in self._each(image_size):
            policy.check_sizes(canvas_size, size)

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Draw the parameters of all views; those of view v have the names of its policy, prefixed with ``v.``."""
        seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
        parameters: Parameters = {}
        for v, (policy, size) in enumerate(self._each(image_size)):
            drawn = policy.draw(numbers, seed=view_seed(seed, v), canvas_size=canvas_size, image_size=size)
            parameters |= {f"{v}.{name}": tensor for name, tensor in drawn.items()}
        return parameters

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> list[torch.Tensor]:
        """Return the views in order, ``[N, 3, size, size]`` each."""
        return list(finished(self._begin(canvases, parameters, image)))

    def _begin(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> list[Any]:
        """Return the views in order, each a tensor or its last launch."""
        views, given = [], checked_parameters(parameters)
        for v, (policy, size) in enumerate(self._each(image.size)):
            own = {name.removeprefix(f"{v}."): x for name, x in given.items() if name.startswith(f"{v}.")}
            views.append(begin(policy, canvases, own, image._replace(size=size)))
        return views


@keywords.checked
@dataclass(frozen=True, init=False, repr=False)
class MultiCrop(_Views):
    """Views of each sample by several policies, each with its own number of views and image size.

    DINO's two large and six small crops::

    >>> large = gr.augment.Crop(scale=(0.4, 1.0))
    >>> small = gr.augment.Crop(scale=(0.05, 0.4))
    >>> policy = gr.augment.MultiCrop((large, 2), (small, 6, 96))
    >>> views, labels = next(iter(gr.DataLoader("onepfrac-1k", batch_size=64, augment=policy)))
    >>> [list(view.shape) for view in views]  # [64, 3, 224, 224] twice, [64, 3, 96, 96] six times

    The loader's images are then a list of tensors, one per view. View v is drawn with a separate seed, the Philox word
    pair at ``(seed, Stream.VIEW, v)``, so a view does not depend on the number of views.

    Source: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (NeurIPS 2020).

    Args:
        crops: each (policy, count) or (policy, count, image_size); without a size, the loader's is used. A policy may
            be given by its name, such as ``"crop"``. It must not mix samples or smooth labels, because a view has no
            target. (As a keyword: a list of these.)

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    crops: tuple[tuple[PolicyLike, int, int | None], ...]

    def __init__(self, *each: Any, crops: Sequence[Any] = ()) -> None:  # dataclasses.replace() passes the keyword
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
        return [(as_policy(policy), size or image_size) for policy, count, size in self.crops for _ in range(count)]


@keywords.checked
@dataclass(frozen=True)
class TwoViews(_Views):
    """Two views of each sample, by one policy or by two.

    >>> policy = gr.augment.TwoViews(gr.augment.Crop())
    >>> (first, second), labels = next(iter(gr.DataLoader("onepfrac-1k", batch_size=64, augment=policy)))

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020).

    Args:
        policy: policy of the first view, or its name, such as ``"crop"``.
        second: policy of the second view; ``None``: the same. Neither may mix samples or smooth labels.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    policy: PolicyLike | str
    second: PolicyLike | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", _of_one_view("policy", self.policy))
        if self.second is not None:
            object.__setattr__(self, "second", _of_one_view("second", self.second))

    def _each(self, image_size: int) -> list[tuple[Policy, int]]:
        second = self.policy if self.second is None else self.second
        return [(as_policy(self.policy), image_size), (as_policy(second), image_size)]


@functools.lru_cache(maxsize=256)
def view_seed(seed: int, view: int) -> int:
    """Return the seed of a view: the first two words at ``(seed, Stream.VIEW, draw id = view)``."""
    low, high, *_ = words(seed, Stream.VIEW, torch.tensor([view], dtype=torch.int64, device="cpu")).flatten().tolist()
    return low | high << 32


def _checked(i: int, crop: Any) -> tuple[PolicyLike, int, int | None]:
    if not isinstance(crop, (tuple, list)) or len(crop) not in (2, 3):
        raise TypeError(f"crops[{i}] must be {CROP}, got {checks.shown(crop)}")
    policy, count, size = (*crop, None)[:3]
    policy = _of_one_view(f"crops[{i}][0]", policy)
    count = checks.integer(f"crops[{i}][1]", count, 1, MAX_VIEWS)
    return policy, count, None if size is None else checks.integer(f"crops[{i}][2]", size, 1, MAX_SIDE)


def _of_one_view(name: str, policy: Any) -> PolicyLike:
    """Return the given policy, or that of the given name; refuse what cannot be the policy of one view."""
    adapted = as_policy(policy, name, required=True)
    if adapted.views:
        raise TypeError(f"{name} must be a policy such as gr.augment.Crop(), of one view, got {checks.shown(policy)}")
    if adapted.num_aug_repeats > 1:
        raise ValueError(f"{name} must not repeat samples: num_aug_repeats=0; got {checks.shown(policy)}")
    if adapted.soft:
        raise ValueError(
            f"{name} must not mix samples or smooth labels: mixup_alpha=0, cutmix_alpha=0, label_smoothing=0; "
            f"got {checks.shown(policy)}"
        )
    return adapted if isinstance(policy, str) else policy
