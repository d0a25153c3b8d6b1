"""Mixture: several recipes in one dataset, in exact proportions.

**Order of the recipes.** The weights are reduced to integers w_i without a common factor; W is their sum. Every W
positions of an epoch have w_i samples of recipe i, spread evenly: the k-th of them (from 0) is due at the fraction
(k + 1/2) / w_i of the W positions, and positions are assigned in the order of these fractions. The assignment repeats
every W positions, so the proportions are exact in any W consecutive positions.

**Order of a recipe's samples.** Every recipe has separate epochs, shuffled if the loader shuffles, whose length does
not depend on the mixture's epochs. With n_i samples of recipe i in an epoch of the mixture and N_i samples in the
recipe, the j-th sample of epoch e is number t = e n_i + j since the beginning, at position t mod N_i of the recipe's
epoch floor(t / N_i). No sample of a recipe is repeated before all of its samples have been used.

Both orders are pure functions of position and epoch, so a mixture is resumed and divided among ranks like any recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.resized_crop import BICUBIC, crop_resize
from gpurender.kernels.shuffle import permute
from gpurender.recipes.base import Recipe, check_parameters, from_data
from gpurender.recipes.base import recipe as as_recipe
from gpurender.runtime import cuda_streams
from gpurender.util import checks, keywords
from gpurender.util.lazy import cached_property

__all__ = ["Mixture"]

MAX_RECIPES = 64
MAX_SUM = 1 << 16  # sum of the weights as integers
LABELS = ("joint", "separate")


@keywords.checked
@dataclass(frozen=True)  # __init__ and __repr__ are those below
class Mixture(Recipe):
    """Several recipes in one dataset.

    >>> mixture = gr.Mixture({"onepfrac-1k": 1, "fractaldb-1k": 3})
    >>> loader = gr.DataLoader(mixture, batch_size=256, shuffle=True)  # 64 and 192 per batch, labels 0 to 1999

    A mixture is a recipe: it has JSON, a fingerprint, classes and samples (those of its recipes, concatenated), and
    every function that takes a recipe accepts a mixture. All canvases have the side of the largest; smaller ones are
    resized to that side (bicubic, as in Pillow). An epoch has as many samples as all recipes together, in the
    proportion of the weights; a recipe whose part of the epoch exceeds its size starts again.

    Only the loader applies the weights: a dataset, an export or a user's sampler gets every sample as often as
    requested. The fingerprint includes the weights, because another order is another training.

    On a GPU the host chooses the samples of a mixture, and its batches are launched kernel by kernel.

    Args:
        recipes: mapping of recipes, as accepted by ``gr.recipe`` (except dictionaries, which cannot be keys), to
            weights above 0. The weights must be in the proportion of integers whose sum is at most 65,536.
        labels: ``"joint"``: the classes of all recipes, concatenated, int64 ``[B]``; ``"separate"``: each recipe's
            labels, as targets int64 ``[B, 2]`` of (number of the recipe, label), which cannot be mixed or smoothed.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    family: ClassVar[str] = "mixture"

    recipes: tuple[Recipe, ...] = ()
    weights: tuple[int, ...] = ()
    labels: str = "joint"

    def __init__(self, recipes: Mapping[Any, float], *, labels: str = "joint") -> None:
        if not isinstance(recipes, Mapping):
            raise TypeError(f"recipes must be a mapping of recipes to weights, got {checks.shown(recipes)}")
        if not 1 <= len(recipes) <= MAX_RECIPES:
            raise ValueError(f"recipes must be 1 to {MAX_RECIPES} recipes and their weights, got {len(recipes)}")
        parts = tuple(as_recipe(recipe) for recipe in recipes)
        for part in parts:
            if not part.order().on_device:
                raise TypeError(f"recipes must not be {part.family}s themselves")
            if part.multi_hot:
                raise ValueError(f"recipes must have one label per image, and those of {part.family} are multi-hot")
            if parts.count(part) > 1:
                raise ValueError(f"recipes must differ, got {checks.shown(part)} twice")
        self._set("recipes", parts)
        self._set("weights", integers(list(recipes.values())))
        self._set("labels", checks.choice("labels", labels, LABELS))
        self._set("classes", sum(part.classes for part in parts))
        self._set("instances", max(part.instances for part in parts))
        self._set("image_size", max(part.image_size for part in parts))
        for name in ("class_prior", "label_noise"):  # options of the recipes inside
            self._set(name, None)

    def __repr__(self) -> str:
        inside = ", ".join(f"{part!r}: {weight}" for part, weight in zip(self.recipes, self.weights, strict=True))
        return f"Mixture({{{inside}}}, labels={self.labels!r})"

    def __len__(self) -> int:
        return sum(len(part) for part in self.recipes)

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Channels of a canvas: 3 if some recipe has colour, else 1."""
        return max(part.channels for part in self.recipes)

    @property
    def paper(self) -> str:  # type: ignore[override]
        """The papers of the recipes, separated by semicolons."""
        return "; ".join(dict.fromkeys(part.paper for part in self.recipes))

    def order(self) -> "Interleaving":
        """Return the order of an epoch, which interleaves the recipes' samples."""
        return self._order

    @cached_property
    def _order(self) -> "Interleaving":
        return Interleaving(self.weights, [len(part) for part in self.recipes])

    @property
    def label_width(self) -> int:
        """Integers per label: 1, or 2 (recipe and its label) if labels are separate."""
        return 2 if self.labels == "separate" else 1

    def class_counts(self) -> np.ndarray:
        """Return the number of images of each class of the joint label space, int64 ``[classes]``."""
        return np.concatenate([part.class_counts() for part in self.recipes])

    def class_name(self, label: int) -> str:
        """Return the name of a class of the joint label space: the number of its recipe and its name in that recipe."""
        for number, part in enumerate(self.recipes):
            if label < part.classes:
                return f"{number}-{part.class_name(label)}"
            label -= part.classes
        raise IndexError(f"label must be below {self.classes}")

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return what decides classes of the joint label space: that of the recipe that each is of."""
        ends = np.cumsum([part.classes for part in self.recipes])
        sources = np.searchsorted(ends, classes, side="right")
        found: list[dict[str, Any]] = [{} for _ in classes]
        for i in np.unique(sources).tolist():
            rows = np.flatnonzero(sources == i)
            part = self.recipes[i]
            own = part.class_parameters(classes[rows] - (int(ends[i]) - part.classes))
            for row, each in zip(rows.tolist(), own, strict=True):
                found[row] = each
        return found

    def joint(self, labels: torch.Tensor) -> torch.Tensor:
        """Return labels of the joint label space, int64 ``[N]``; ``labels``: as in the targets."""
        if self.labels == "joint":
            return labels
        first = np.cumsum([0, *(part.classes for part in self.recipes)])
        return torch.from_numpy(first).to(labels.device)[labels[:, 0]] + labels[:, 1]

    def canonical(self) -> dict[str, Any]:
        return {
            "recipes": [part.fingerprint for part in self.recipes],
            "weights": self.weights,
            "labels": self.labels,
        }

    def _data(self) -> dict[str, Any]:
        parts = [part._data() for part in self.recipes]
        return {"family": self.family, "recipes": parts, "weights": self.weights, "labels": self.labels}

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> "Mixture":
        check_parameters(cls.family, data, ("recipes", "weights", "labels"))
        parts, weights = data.get("recipes"), data.get("weights")
        if not isinstance(parts, (list, tuple)) or not isinstance(weights, (list, tuple)) or len(parts) != len(weights):
            raise ValueError(
                f"recipes and weights must be lists of the same length, got {checks.shown(parts)} and "
                f"{checks.shown(weights)}"
            )
        mixed = {}
        for i, part in enumerate(parts):
            try:
                mixed[from_data(part)] = weights[i]
            except (TypeError, ValueError) as error:
                raise ValueError(f"recipes[{i}]: {error}") from None
        if len(mixed) < len(parts):
            raise ValueError("recipes must differ, got one twice")
        return cls(mixed, labels=data.get("labels", "joint"))

    def needs_search(self) -> bool:
        return any(part.needs_search() for part in self.recipes)

    def catalog(self, device: Any, cache_bytes: int = 0) -> "Catalogs":
        """Return the catalogs of the recipes, each made when the first of its samples is rendered."""
        return Catalogs(self.recipes, device, cache_bytes // len(self.recipes), [None] * len(self.recipes))

    def kept_bytes(self, cache_bytes: int, *, masked: bool = False) -> int:
        share = cache_bytes // len(self.recipes)
        return sum(part.kept_bytes(share, masked=False) for part in self.recipes)

    def label_map(self, device: Any) -> "MixtureLabelMap":
        return MixtureLabelMap(self, device)

    def render(
        self,
        catalog: "Catalogs",
        label_map: "MixtureLabelMap",
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool = False,
        windows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Render canvases, uint8 ``[N, channels, image_size, image_size]``, on the device of the draw ids.

        The indices are read on the host: pass a CPU tensor to avoid a device synchronisation. ``bits`` and
        ``windows`` have no effect: the canvases of recipes may differ in side and channels.
        """
        host = indices.cpu().numpy()
        ends = np.cumsum([len(part) for part in self.recipes])
        sources = np.searchsorted(ends, host, side="right")
        side, device = self.image_size, draw_ids.device
        canvases = torch.empty((len(host), self.channels, side, side), dtype=torch.uint8, device=device)
        for i, part in enumerate(self.recipes):
            rows = np.flatnonzero(sources == i)
            if not len(rows):
                continue
            begin = int(ends[i]) - len(part)
            there, local = (
                cuda_streams.pinned(torch.from_numpy(x), device).to(device, non_blocking=True)
                for x in (rows, host[rows] - begin)
            )
            ids = draw_ids[there] if fresh else draw_ids[there] - begin
            rendered = part.render(catalog.of(i), label_map.parts[i], local, ids, fresh)
            canvases.index_copy_(0, there, resized(rendered, side).expand(-1, self.channels, -1, -1))
        return canvases


@dataclass
class Catalogs:
    """The catalogs of a mixture's recipes.

    Attributes:
        recipes: the recipes.
        device: device of the catalogs.
        cache_bytes: ``cache_bytes`` of each catalog.
        made: the catalog of each recipe, or ``None`` if none of its samples has been rendered yet.
    """

    recipes: tuple[Recipe, ...]
    device: torch.device
    cache_bytes: int
    made: list[Any]

    def of(self, number: int) -> Any:
        """Return the catalog of a recipe."""
        if self.made[number] is None:
            self.made[number] = self.recipes[number].catalog(self.device, self.cache_bytes)
            cuda_streams.settle(self.device)
        return self.made[number]

    @property
    def kept_bytes(self) -> int:
        """Bytes of the bitmaps that are kept so far."""
        return sum(getattr(catalog, "kept_bytes", 0) for catalog in self.made)


def resized(canvases: torch.Tensor, side: int) -> torch.Tensor:
    """Resize canvases, uint8 ``[N, C, S, S]``, to ``[N, C, side, side]``, bicubic, as in Pillow."""
    if canvases.shape[-1] == side:
        return canvases
    n, device = len(canvases), canvases.device
    boxes = torch.zeros((n, 4), dtype=torch.int32, device=device)
    boxes[:, 2:] = canvases.shape[-1]  # filled on the device: a tensor made from a list would be copied to it
    flips = torch.zeros((n, 2), dtype=torch.bool, device=device)
    filters = torch.full((n,), BICUBIC, dtype=torch.uint8, device=device)
    return crop_resize(canvases, boxes, flips, filters, (side, side))


def integers(weights: list[Any]) -> tuple[int, ...]:
    """Return weights as integers without a common factor.

    Raises:
        TypeError, ValueError: a weight is not above 0, or the weights are not in the proportion of small integers.
    """
    exact = []
    for i, weight in enumerate(weights):
        if isinstance(weight, Fraction):
            exact.append(weight)
            continue
        number = checks.real(f"weights[{i}]", weight, 0.0, 1e9)
        near = Fraction(number).limit_denominator(MAX_SUM)  # 0.1 means 1/10, 0.3333333333333333 means 1/3
        exact.append(near if abs(near - Fraction(number)) <= Fraction(1, 10**12) * near else Fraction(number))
    for i, share in enumerate(exact):
        if share <= 0:
            raise ValueError(f"weights[{i}] must be above 0, got {checks.shown(weights[i])}")
    scale = lcm(*(share.denominator for share in exact))
    whole = [int(share * scale) for share in exact]
    whole = [weight // gcd(*whole) for weight in whole]
    if sum(whole) > MAX_SUM:
        raise ValueError(
            f"weights must be in the proportion of integers whose sum is at most {MAX_SUM}, got "
            f"{checks.shown(weights)}; round them"
        )
    return tuple(whole)


class Interleaving:
    """The order of a mixture's epoch, a :class:`gpurender.recipes.order.EpochOrder` computed on the host.

    Args:
        weights: weights of the recipes, integers.
        lengths: lengths of the recipes.
    """

    on_device = False

    def __init__(self, weights: tuple[int, ...], lengths: list[int]) -> None:
        self._weights, self._lengths = weights, lengths
        self._begins = np.cumsum([0, *lengths])
        scale = lcm(*weights)
        due = sorted(((2 * k + 1) * (scale // w), i) for i, w in enumerate(weights) for k in range(w))
        self._sources = np.array([i for _, i in due], np.int64)  # [W]: the recipe of each slot
        ones = self._sources[:, None] == np.arange(len(weights))
        self._before = np.concatenate([np.zeros((1, len(weights)), np.int64), np.cumsum(ones, axis=0)])  # [W + 1, P]

    def counts(self, positions: int) -> list[int]:
        """Return the number of samples of each recipe in the first ``positions`` positions."""
        blocks, rest = divmod(positions, len(self._sources))
        return [blocks * w + int(self._before[rest, i]) for i, w in enumerate(self._weights)]

    def indices(self, positions: np.ndarray, length: int, epoch: int, seed: int, shuffle: bool) -> np.ndarray:
        """Return the indices at positions of an epoch of ``length`` positions; both int64 ``[n]``."""
        blocks, slots = np.divmod(positions, len(self._sources))
        sources, found = self._sources[slots], np.empty(len(positions), np.int64)
        for i, count in enumerate(self.counts(length)):
            rows = np.flatnonzero(sources == i)
            since = epoch * count + blocks[rows] * self._weights[i] + self._before[slots[rows], i]
            found[rows] = self._begins[i] + self._own(i, since, seed, shuffle)
        return found

    def _own(self, i: int, since: np.ndarray, seed: int, shuffle: bool) -> np.ndarray:
        """Return indices of recipe i; ``since``: the number of its earlier samples over all epochs."""
        turns, positions = np.divmod(since, self._lengths[i])
        if not shuffle:
            return positions
        # Every turn (epoch) of every recipe has a separate order.
        return permute(positions, self._lengths[i], seed, turns * len(self._weights) + i)


class MixtureLabelMap:
    """Label maps of a mixture's recipes, used like :class:`gpurender.recipes.labels.LabelMap`."""

    is_default = False

    def __init__(self, mixture: Mixture, device: torch.device) -> None:
        self.parts = [part.label_map(device) for part in mixture.recipes]
        self._lengths = [len(part) for part in mixture.recipes]
        self._classes = [part.classes for part in mixture.recipes]
        self._separate = mixture.labels == "separate"

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tables."""
        return [tensor for part in self.parts for tensor in part.tensors]

    def dense_indices(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the indices unchanged: each recipe has a separate untrimmed dataset."""
        return indices

    def labels(self, indices: torch.Tensor, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return labels int64 ``[N]``, or ``[N, 2]`` if they are separate."""
        found, source = torch.zeros_like(indices), torch.zeros_like(indices)
        begin = classes = 0
        for i, part in enumerate(self.parts):
            inside = (indices >= begin) & (indices < begin + self._lengths[i])
            local = (indices - begin).clamp(0, self._lengths[i] - 1)
            own = part.labels(local, part.dense_indices(local) + (draw_ids - indices))
            found = torch.where(inside, own if self._separate else own + classes, found)
            source = torch.where(inside, i, source)
            begin, classes = begin + self._lengths[i], classes + self._classes[i]
        return torch.stack([source, found], dim=1) if self._separate else found
