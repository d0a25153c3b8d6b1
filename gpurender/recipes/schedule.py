"""Schedule: a recipe whose parameters change along the stream of samples.

**Sample numbers.** The samples of a loader are numbered in the order of its stream: position p of epoch e is number
t = e L + p, L positions per epoch, over all ranks. A parameter has knots, pairs of a sample number and a value: from
this number on it has this value. So the stream is a sequence of *stages*, each the stream of a plain recipe.

**Order.** Sample t is the sample that the plain recipe of its stage has at number t: position t mod N of its epoch
floor(t / N), N the samples of the stage. With ``fresh`` its image is drawn at draw id t (with
repeats of a sample, at its first position). Both are pure functions of t, so a schedule is resumed in O(1) and divided
among ranks like any recipe.

**Indices.** A schedule has the samples of all of its stages, class by class, and within a class stage by stage.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.recipes.base import Recipe, RecipeLike, check_parameters, from_data
from gpurender.recipes.base import recipe as as_recipe
from gpurender.recipes.mixture import Catalogs
from gpurender.runtime import cuda_streams
from gpurender.util import checks
from gpurender.util.lazy import cached_property

__all__ = ["Schedule"]

MAX_STAGES = 256  # each has a catalog
MAX_NUMBER = 2**62
EXAMPLE = "delta=((0, 0.2), (5_000_000, 0.1))"
SAME = ("classes", "image_size", "channels", "label_width")  # in all stages: the shapes of batches

Knots = tuple[tuple[int, Any], ...]


@dataclass(frozen=True)  # __init__ and __repr__ are those below
class Schedule(Recipe):
    """A recipe whose parameters depend on the number of the sample in the stream.

    >>> easy_first = gr.Schedule("onepfrac-1k", delta=((0, 0.2), (5_000_000, 0.1)))
    >>> loader = gr.DataLoader(easy_first, batch_size=256, shuffle=True, steps_per_epoch=1000)

    >>> both = gr.Mixture({"onepfrac-1k": 9, "fractaldb-1k": 1})
    >>> moving = gr.Schedule(both, weights=((0, (9, 1)), (1_000_000, (1, 1)), (2_000_000, (1, 9))))

    A parameter keeps its value from one knot to the next; for a smooth change give many knots. The number counts the
    samples of all ranks together, whatever the batch size (repeats of ``num_aug_repeats`` not counted). A schedule is
    a recipe: it has JSON, a fingerprint and samples, and every function that takes a recipe accepts it.

    As a dataset it is that of all stages, and an epoch of the loader has as many samples as all of these. Only the
    loader knows the number of a sample: a dataset, an export or a user's sampler gets each sample of each stage as
    often as requested.

    On a GPU the host chooses the samples, as for a mixture. What a stage needs (a search, parameters of its classes)
    is made at its first sample and kept.

    Args:
        recipe: any argument of ``gr.recipe``, but no schedule.
        knots: for each parameter that changes, by its name, pairs of a sample number and the value from there on. The
            first number is 0, and the numbers rise. There may be 256 stages.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed. Parameters must not change the
            number of classes, the side or channels of the canvas, or the form of the labels.
    """

    family: ClassVar[str] = "schedule"

    recipe: Any = None
    knots: tuple[tuple[str, Knots], ...] = ()

    def __init__(self, recipe: RecipeLike, /, **knots: Any) -> None:
        if not knots:
            raise ValueError(f"a schedule needs the knots of a parameter, such as {EXAMPLE}")
        if "recipes" in knots:
            raise ValueError("recipes of a mixture must stay the same along a schedule; its weights may change")
        given = {name: _checked(name, pairs) for name, pairs in sorted(knots.items())}
        starts = sorted({number for pairs in given.values() for number, _ in pairs})
        if len(starts) > MAX_STAGES:
            raise ValueError(f"a schedule must have at most {MAX_STAGES} stages, got {len(starts)}")
        if isinstance(base := as_recipe(recipe), Schedule):
            raise TypeError("recipe must not be a schedule itself")
        base = _stage(recipe, given, 0)
        found = {start: _stage(base, given, start) for start in starts}
        for start, stage in found.items():
            for name in SAME:
                if getattr(stage, name) != getattr(base, name):
                    raise ValueError(
                        f"{name} must stay the same along a schedule: {getattr(base, name)} at first, "
                        f"{getattr(stage, name)} from sample {start} on ({', '.join(given)})"
                    )
        self._set("recipe", base)
        checked = {name: tuple((n, getattr(found[n], name)) for n, _ in pairs) for name, pairs in given.items()}
        self._set("knots", tuple(checked.items()))
        self._set("classes", base.classes)
        self._set("instances", sum(stage.instances for stage in self.recipes))
        self._set("image_size", base.image_size)
        for name in ("class_prior", "label_noise"):  # options of the stages
            self._set(name, None)

    def __repr__(self) -> str:
        return f"Schedule({self.recipe!r}, {', '.join(f'{name}={pairs!r}' for name, pairs in self.knots)})"

    @cached_property
    def stages(self) -> tuple[tuple[int, Recipe], ...]:
        """The stages: their first sample numbers and their recipes, neighbours different."""
        given = dict(self.knots)
        found: list[tuple[int, Recipe]] = []
        for start in sorted({number for pairs in given.values() for number, _ in pairs}):
            stage = _stage(self.recipe, given, start)
            if not found or stage != found[-1][1]:
                found.append((start, stage))
        return tuple(found)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes of the stages."""
        return tuple(stage for _, stage in self.stages)

    def at(self, number: int) -> Recipe:
        """Return the recipe of the stage that the sample of a number is in."""
        number = checks.integer("number", number, 0, MAX_NUMBER)
        return next(stage for start, stage in reversed(self.stages) if start <= number)

    def __len__(self) -> int:
        return sum(len(stage) for stage in self.recipes)

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Channels of a canvas."""
        return self.recipe.channels

    @property
    def multi_hot(self) -> bool:  # type: ignore[override]
        """Whether a label is a row of 0 and 1."""
        return self.recipe.multi_hot

    @property
    def paper(self) -> str:  # type: ignore[override]
        """The paper of the recipe."""
        return self.recipe.source

    @property
    def label_width(self) -> int:
        return self.recipe.label_width

    def joint(self, labels: Any) -> Any:
        return self.recipe.joint(labels)

    def class_name(self, label: int) -> str:
        return self.recipe.class_name(label)

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``stages`` of classes: what decides the class in each stage."""
        stages = [stage.class_parameters(classes) for stage in self.recipes]
        return [{"stages": list(each)} for each in zip(*stages, strict=True)]

    def class_counts(self) -> np.ndarray:
        """Return the number of images of each class, of all stages together, int64 ``[classes]``."""
        return np.sum([stage.class_counts() for stage in self.recipes], axis=0)

    def canonical(self) -> dict[str, Any]:
        return {"stages": [[start, stage.fingerprint] for start, stage in self.stages]}

    def _data(self) -> dict[str, Any]:
        return {"family": self.family, "recipe": self.recipe._data(), "knots": dict(self.knots)}

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> "Schedule":
        check_parameters(cls.family, data, ("recipe", "knots"))
        given, knots = data.get("recipe"), data.get("knots")
        if not isinstance(knots, dict) or not all(isinstance(name, str) for name in knots):
            raise ValueError(f"knots must be an object of parameters and their knots, got {checks.shown(knots)}")
        try:
            base = given if isinstance(given, Recipe) else from_data(given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"recipe: {error}") from None
        return cls(base, **knots)

    def located(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the stages of samples, and their indices there; int64 ``[N]`` each."""
        numbers, local = self._cells.located(torch.from_numpy(indices))
        return numbers.numpy(), local.numpy()

    def needs_search(self) -> bool:
        return any(stage.needs_search() for stage in self.recipes)

    def catalog(self, device: Any, cache_bytes: int = 0) -> Catalogs:
        """Return the catalogs of the stages, each made when the first of its samples is rendered."""
        return Catalogs(self.recipes, device, cache_bytes // len(self.recipes), [None] * len(self.recipes))

    def kept_bytes(self, cache_bytes: int, *, masked: bool = False) -> int:
        share = cache_bytes // len(self.recipes)
        return sum(stage.kept_bytes(share, masked=False) for stage in self.recipes)

    def order(self) -> "StagedOrder":
        """Return the order of an epoch, that of the stage of each sample."""
        return self._order

    @cached_property
    def _order(self) -> "StagedOrder":
        return StagedOrder(self.stages, self._cells)

    @cached_property
    def _cells(self) -> "Cells":
        return Cells([stage.class_counts() for stage in self.recipes], torch.device("cpu"))

    def label_map(self, device: Any) -> "StagedLabelMap":
        return StagedLabelMap(self.recipes, device)

    def render(
        self,
        catalog: Catalogs,
        label_map: "StagedLabelMap",
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool = False,
        windows: torch.Tensor | None = None,
    ) -> Any:
        """Render canvases on the device of the draw ids, as :meth:`gpurender.Recipe.render`.

        The indices are read on the host: pass a CPU tensor to avoid a device synchronisation.
        """
        host = indices.cpu()
        numbers, local = self._cells.located(host)
        present = torch.unique(numbers).tolist()
        if len(present) == 1:  # as nearly always
            ids = draw_ids if fresh else draw_ids + _sent(local - host, draw_ids.device)
            return self._of_stage(present[0], catalog, label_map, local, ids, fresh, bits, windows)
        shape = (len(host), self.channels, self.image_size, self.image_size)
        canvases = torch.empty(shape, dtype=torch.uint8, device=draw_ids.device)
        for i in present:
            rows = torch.nonzero(numbers == i).flatten()
            there = _sent(rows, draw_ids.device)
            ids = draw_ids[there]
            if not fresh:
                ids = ids + _sent((local - host)[rows], draw_ids.device)
            canvases.index_copy_(0, there, self._of_stage(i, catalog, label_map, local[rows], ids, fresh, False, None))
        return canvases

    def _of_stage(
        self,
        number: int,
        catalog: Catalogs,
        label_map: "StagedLabelMap",
        local: torch.Tensor,
        ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> Any:
        """Render samples of one stage; local: their indices there, int64 ``[n]`` on the host."""
        stage = self.recipes[number]
        if stage.order().on_device:  # a mixture reads the indices on the host
            local = _sent(local, ids.device)
        return stage.render(catalog.of(number), label_map.parts[number], local, ids, fresh, bits, windows)


class Cells:
    """The samples of a schedule in cells, one for each class and stage: class by class, then stage by stage.

    Args:
        counts: number of images of each class, int64 ``[classes]``, of each stage.
        device: of the tables.
    """

    def __init__(self, counts: Sequence[np.ndarray], device: torch.device) -> None:
        table = np.stack(counts)  # [stages, classes]
        ends = np.cumsum(table.T.ravel())
        own = np.cumsum(table, axis=1)
        self.stages = len(counts)
        self._ends = torch.from_numpy(ends).to(device)  # [classes x stages]
        self._begins = torch.from_numpy(ends - table.T.ravel()).to(device)
        self._own_ends = torch.from_numpy(own).to(device)  # [stages, classes]: within the stage
        self._own_begins = torch.from_numpy(own - table).to(device)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tables."""
        return [self._ends, self._begins, self._own_ends, self._own_begins]

    def classes(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the classes of indices, int64 ``[N]``."""
        return torch.searchsorted(self._ends, indices, right=True) // self.stages

    def located(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the stages of indices, and their indices in these stages, int64 ``[N]`` each."""
        cells = torch.searchsorted(self._ends, indices, right=True)
        stages, classes = cells % self.stages, cells // self.stages
        return stages, indices - self._begins[cells] + self._own_begins[stages, classes]

    def indices(self, stage: int, local: torch.Tensor) -> torch.Tensor:
        """Return the indices of samples of a stage, int64 ``[N]`` both."""
        classes = torch.searchsorted(self._own_ends[stage], local, right=True)
        return local - self._own_begins[stage, classes] + self._begins[classes * self.stages + stage]


class StagedOrder:
    """The order of a schedule's epoch, a :class:`gpurender.recipes.order.EpochOrder` computed on the host."""

    on_device = False

    def __init__(self, stages: tuple[tuple[int, Recipe], ...], cells: Cells) -> None:
        self._starts = np.array([start for start, _ in stages], np.int64)
        self._orders = [(stage.order(), len(stage)) for _, stage in stages]
        self._cells = cells

    def indices(self, positions: np.ndarray, length: int, epoch: int, seed: int, shuffle: bool) -> np.ndarray:
        """Return the indices at positions of an epoch of ``length`` positions; both int64 ``[n]``."""
        numbers = epoch * length + positions
        stages = np.searchsorted(self._starts, numbers, side="right") - 1
        found = np.empty(len(numbers), np.int64)
        for i in np.unique(stages):
            order, samples = self._orders[i]
            turns = numbers // samples
            for turn in np.unique(turns[stages == i]):
                rows = np.flatnonzero((stages == i) & (turns == turn))
                local = order.indices(numbers[rows] % samples, samples, int(turn), seed, shuffle)
                found[rows] = self._cells.indices(int(i), torch.from_numpy(np.asarray(local, np.int64))).numpy()
        return found


class StagedLabelMap:
    """Label maps of a schedule's stages, used like :class:`gpurender.recipes.labels.LabelMap`."""

    is_default = False

    def __init__(self, recipes: tuple[Recipe, ...], device: torch.device) -> None:
        self.parts = [stage.label_map(device) for stage in recipes]
        self._cells = Cells([stage.class_counts() for stage in recipes], device)
        self._lengths = [len(stage) for stage in recipes]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tables."""
        return [*self._cells.tensors, *(tensor for part in self.parts for tensor in part.tensors)]

    def dense_indices(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the indices unchanged: each stage has a separate untrimmed dataset."""
        return indices

    def labels(self, indices: torch.Tensor, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return the labels as those of the stages: ``[N]``, or rows. Equal draw ids and indices are the dataset's."""
        if all(part.is_default for part in self.parts):
            return self._cells.classes(indices)
        stages, local = self._cells.located(indices)
        labels: torch.Tensor | None = None
        for i, part in enumerate(self.parts):
            own = local.clamp(max=self._lengths[i] - 1)
            found = part.labels(own, torch.where(draw_ids == indices, part.dense_indices(own), draw_ids))
            inside = (stages == i).view(-1, *[1] * (found.dim() - 1))
            labels = found if labels is None else torch.where(inside, found, labels)
        assert labels is not None
        return labels


def _checked(name: str, pairs: Any) -> Knots:
    """Return knots, checked except for their values."""
    if not isinstance(pairs, (list, tuple)) or not pairs or not all(checks.is_sequence(pair, 2) for pair in pairs):
        raise TypeError(f"{name} must be knots (sample number, value), such as {EXAMPLE}, got {checks.shown(pairs)}")
    numbers = [
        checks.integer(f"the sample number {name}[{i}][0]", pair[0], 0, MAX_NUMBER) for i, pair in enumerate(pairs)
    ]
    if numbers[0] != 0:
        raise ValueError(f"{name} must have its first knot at sample 0, got {numbers[0]}")
    for before, after in itertools.pairwise(numbers):
        if after <= before:
            raise ValueError(f"{name} must have knots at rising sample numbers, got {after} after {before}")
    return tuple((number, pair[1]) for number, pair in zip(numbers, pairs, strict=True))


def _stage(recipe: RecipeLike, knots: dict[str, Knots], number: int) -> Recipe:
    """Return the recipe in force at a sample number.

    Raises:
        TypeError, ValueError: a parameter does not exist, or its value is not allowed.
    """
    values = {name: next(value for n, value in reversed(pairs) if n <= number) for name, pairs in knots.items()}
    try:
        return as_recipe(recipe, **values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"from sample {number} on: {error}") from None


def _sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return values of the host on a device, without waiting for it."""
    return cuda_streams.pinned(values, device).to(device, non_blocking=True)
