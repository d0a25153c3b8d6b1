"""Space: what a search may choose: a config as JSON, with parameters in place of some of its values.

A parameter is an object with one entry::

    {"choice": [v, w, ...]}    one of the values
    {"range": [low, high]}     uniform between the bounds, both included; integers if both bounds are integers
    {"log": [low, high]}       the same, uniform in the logarithm

>>> space = Space({
...     "recipe": {"choice": [
...         {"family": "fractaldb", "classes": 100, "points": {"log": [10_000, 200_000]}},
...         {"family": "visualatom", "classes": 100, "vertices": {"choice": [100, 200]}},
...     ]},
...     "model": "resnet18", "training": {"image_size": 64, "batch_size": 128, "lr": {"log": [1e-4, 1e-2]}},
... })

**Conditions.** A value of a choice may have parameters of its own. They exist only where that value is chosen: here
``points`` is a parameter of FractalDB alone.

**Names.** A parameter is named after its place: ``recipe:0.points`` is the parameter ``points`` of the first value of
the choice ``recipe``; an entry of a list is ``weights[1]``.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.recipes.base import Recipe, presets
from gpurender.recipes.base import recipe as as_recipe
from gpurender.search.config import ENTRIES, Config
from gpurender.training import models
from gpurender.util import checks

KINDS = ("choice", "range", "log")
ATTEMPTS = 1000  # random configs in a row that are not allowed, before a space counts as empty
MAX_INTEGER = 2**53  # above, a float64 between the bounds is no integer any more


@dataclass(frozen=True)
class Parameter:
    """A parameter of a space.

    Attributes:
        name: its place.
        kind: ``"choice"``, ``"range"`` or ``"log"``.
        values: the values of a choice, which may hold parameters; or the two bounds.
    """

    name: str
    kind: str
    values: tuple[Any, ...]

    @property
    def integral(self) -> bool:
        """Whether a range has integers alone."""
        return all(isinstance(value, int) for value in self.values)

    def of(self, u: float) -> Any:
        """Return the value at ``u``, 0 <= u < 1; of a choice its index. Equal lengths of u have equal probability."""
        if self.kind == "choice":
            return min(int(u * len(self.values)), len(self.values) - 1)
        low, high = self.values
        if self.kind == "range":
            return min(low + int(u * (high - low + 1)), high) if self.integral else low + u * (high - low)
        if self.integral:  # [low - 1/2, high + 1/2], so that the bounds are as probable as their neighbours
            bottom, top = math.log(low - 0.5), math.log(high + 0.5)
            return max(low, min(high, round(math.exp(bottom + u * (top - bottom)))))
        return min(high, max(low, math.exp(math.log(low) + u * (math.log(high) - math.log(low)))))

    def all_values(self) -> range:
        """Return the indices of a choice, or the integers of a range.

        Raises:
            ValueError: the parameter has a continuum of values.
        """
        if self.kind == "choice":
            return range(len(self.values))
        if not self.integral or self.kind == "log":
            raise ValueError(f"{self.name} must be a choice or a range of integers for a grid, got {self.kind!r}")
        return range(self.values[0], self.values[1] + 1)

    def extremes(self) -> list[Any]:
        """Return the indices of a choice, or the bounds of a range."""
        return list(range(len(self.values))) if self.kind == "choice" else list(self.values)


Ask = Callable[[Parameter], Any]  # returns the index of a choice, or a number of a range


class Space:
    """What a search may choose; frozen and validated.

    Args:
        template: a config as JSON values, with parameters; entries ``recipe``, ``model`` and optionally ``preset``,
            ``training`` (arguments of :func:`gpurender.training.pretrain`) and ``seed``.

    Raises:
        TypeError, ValueError: naming the place, its value and what is allowed. Every value of a choice and both bounds
            of every range are tried, beside the first and the last values of the others.
    """

    def __init__(self, template: Mapping[str, Any]) -> None:
        if not isinstance(template, Mapping):
            raise TypeError(f"a space must be a JSON object, got {checks.shown(template)}")
        for name in template:
            if name not in ENTRIES:
                raise ValueError(f"a space has no entry {checks.shown(name)}{checks.did_you_mean(str(name), ENTRIES)}")
        try:
            self._text = json.dumps(template, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"a space must be JSON: {error}") from None
        self.template: dict[str, Any] = json.loads(self._text)
        self.parameters: tuple[Parameter, ...] = tuple(parameter for parameter, _ in _parameters(self.template, ""))
        self._try_extremes()

    def __repr__(self) -> str:
        return f"Space({self._text})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def from_json(cls, text: str) -> "Space":
        """Return the space of a JSON text.

        Raises:
            ValueError: it is not JSON, or not a space.
        """
        try:
            return cls(json.loads(text))
        except (RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"a space must be a JSON object: {error}") from None

    def to_json(self) -> str:
        """Return the space as JSON text."""
        return self._text

    @property
    def fingerprint(self) -> str:
        """64 hex digits: SHA-256 of the space."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def config(self, ask: Ask) -> Config:
        """Return the config whose parameters are what ``ask`` answers.

        Raises:
            TypeError, ValueError: the values are not allowed together.
        """
        choices: dict[str, Any] = {}

        def answer(parameter: Parameter) -> Any:
            choices[parameter.name] = found = ask(parameter)
            return found

        return Config.from_data({**_filled(self.template, "", answer), "choices": choices})

    def random(self, seed: int, number: int) -> Config:
        """Return random config ``number``: a function of seed and number alone.

        Raises:
            ValueError: of a thousand random configs none is allowed.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self.config(partial(_drawn, seed, number, attempt))
            except (TypeError, ValueError) as error:
                last = error
        raise ValueError(f"the space has no config that is allowed: {last}")

    def grid(self) -> Iterator[Config]:
        """Yield every config that is allowed; names sort the parameters, and the last one varies fastest.

        Raises:
            ValueError: a parameter has a continuum of values.
        """
        for answers in _combinations(self.template):
            try:
                yield self.config(partial(_looked_up, answers, 0))
            except (TypeError, ValueError):  # values that are not allowed together are no point of the grid
                continue

    def grid_size(self) -> int:
        """Return how many points the grid has, those included that are not allowed.

        Raises:
            ValueError: a parameter has a continuum of values.
        """
        return _size(self.template, "")

    def _try_extremes(self) -> None:
        self._try({}, 0)
        for parameter, path in _parameters(self.template, ""):
            for value in parameter.extremes():
                answers = {**path, parameter.name: value}
                if not self._works(answers, -1):
                    self._try(answers, 0)

    def _try(self, answers: dict[str, Any], others: int) -> None:
        """Make the config of some answers; name the parameter that makes it impossible."""
        try:
            self._made(answers, others)
        except (TypeError, ValueError) as error:
            for parameter, path in reversed(list(_parameters(self.template, ""))):
                own = answers.get(parameter.name, parameter.extremes()[others])
                if path.items() <= {**path, **answers}.items() and any(
                    self._works({**path, **answers, parameter.name: value}, others) for value in parameter.extremes()
                ):
                    shown = parameter.values[own] if parameter.kind == "choice" else own
                    raise type(error)(f"{parameter.name} = {checks.shown(shown)}: {error}") from None
            raise

    def _works(self, answers: dict[str, Any], others: int) -> bool:
        try:
            self._made(answers, others)
        except (TypeError, ValueError):
            return False
        return True

    def _made(self, answers: dict[str, Any], others: int) -> None:
        models.check_model(self.config(partial(_looked_up, answers, others)).model)


def _looked_up(answers: Mapping[str, Any], others: int, parameter: Parameter) -> Any:
    """Return what a table of answers says of a parameter, else its first (0) or last (-1) value."""
    return answers.get(parameter.name, parameter.extremes()[others])


def _drawn(seed: int, number: int, attempt: int, parameter: Parameter) -> Any:
    """Draw a value of a parameter, at the address (its name, the number of the config, the attempt)."""
    drawn = drawn_words(seed, parameter.name, number, attempt)
    return parameter.of((int(drawn[0]) << 21 | int(drawn[1]) >> 11) / 2**53)


def drawn_words(seed: int, *address: Any) -> np.ndarray:
    """Return random words of a search, uint32 ``[4]``, at an address of names and numbers."""
    text = "\n".join(map(str, address)).encode()
    draw_id = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    return words(seed, Stream.CONFIG, np.array([draw_id], np.uint64))[0]


def _parameters(node: Any, name: str) -> Iterator[tuple[Parameter, dict[str, Any]]]:
    """Yield the parameters under a node of a template, each with the indices of the choices that lead to it."""
    parameter = _parameter(node, name)
    if parameter is None:
        for child, place in _children(node, name):
            yield from _parameters(child, place)
        return
    yield parameter, {}
    if parameter.kind == "choice":
        for index, value in enumerate(parameter.values):
            for inner, path in _parameters(value, f"{name}:{index}"):
                yield inner, {name: index, **path}


def _filled(node: Any, name: str, ask: Ask) -> Any:
    """Return a node of a template with what ``ask`` answers in place of its parameters."""
    parameter = _parameter(node, name)
    if parameter is not None:
        value = ask(parameter)
        return _filled(parameter.values[value], f"{name}:{value}", ask) if parameter.kind == "choice" else value
    if isinstance(node, dict):
        return {key: _filled(value, f"{name}.{key}" if name else key, ask) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, f"{name}[{index}]", ask) for index, value in enumerate(node)]
    return node


def _combinations(template: Any) -> Iterator[dict[str, Any]]:
    """Yield all combinations of values of a template's parameters, by name."""

    def under(node: Any, name: str) -> Iterator[dict[str, Any]]:
        parameter = _parameter(node, name)
        if parameter is None:
            parts = [list(under(child, place)) for child, place in _children(node, name)]
            for some in itertools.product(*parts):
                yield {key: value for part in some for key, value in part.items()}
            return
        for value in parameter.all_values():
            inner = under(parameter.values[value], f"{name}:{value}") if parameter.kind == "choice" else iter([{}])
            for part in inner:
                yield {name: value, **part}

    return under(template, "")


def _size(node: Any, name: str) -> int:
    """Return how many combinations of values a node of a template has."""
    parameter = _parameter(node, name)
    if parameter is None:
        return math.prod(_size(child, place) for child, place in _children(node, name))
    if parameter.kind == "choice":
        return sum(_size(value, f"{name}:{index}") for index, value in enumerate(parameter.values))
    return len(parameter.all_values())


def _children(node: Any, name: str) -> list[tuple[Any, str]]:
    """Return the values inside an object or a list, with their names."""
    if isinstance(node, dict):
        return [(value, f"{name}.{key}" if name else key) for key, value in node.items()]
    if isinstance(node, list):
        return [(value, f"{name}[{index}]") for index, value in enumerate(node)]
    return []


def _parameter(node: Any, name: str) -> Parameter | None:
    """Return the parameter that a node of a template is, or ``None``.

    Raises:
        ValueError: it has the entry of a parameter and is none.
    """
    if not isinstance(node, dict) or not any(kind in node for kind in KINDS):
        return None
    if len(node) != 1:
        raise ValueError(f"{name} must have one entry of {', '.join(KINDS)} and no other, got {checks.shown(node)}")
    ((kind, values),) = node.items()
    if kind == "choice":
        if not isinstance(values, list) or not values:
            raise ValueError(f"{name}: choice must be a list of values, got {checks.shown(values)}")
        return Parameter(name, kind, tuple(values))
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError(f"{name}: {kind} must be [low, high], got {checks.shown(values)}")
    for value in values:
        checks.real(f"{name}: {kind}", value, -MAX_INTEGER, MAX_INTEGER)
    low, high = values
    if not low < high:
        raise ValueError(f"{name}: {kind} must be [low, high] with low < high, got {checks.shown(values)}")
    if kind == "log" and not low > 0:
        raise ValueError(f"{name}: log must be above 0, got {checks.shown(values)}")
    return Parameter(name, kind, tuple(values))


def whole_family(family: str, model: str) -> Space:
    """Return a space of every parameter of a family around its defaults, to be edited.

    A positive number varies between half and twice its default, as far as the family allows; a boolean is a choice; so
    is ``variant``. Other parameters, ``seed`` and ``image_size`` stand with their defaults. Parameters that follow from
    others, as FractalDB's ``instances`` does, are left out.

    Args:
        family: a family's name, or a preset's, whose parameters are then the defaults.
        model: timm's name of the model.

    Raises:
        ValueError: there is no such family or preset, or it has no defaults.
    """
    known = sorted(name for name, kind in Recipe.families.items() if kind.presets)
    recipe = as_recipe(checks.choice("family", family, [*known, *presets()])) if family not in known else None
    kind = Recipe.families[family] if recipe is None else type(recipe)
    made = json.loads((kind() if recipe is None else recipe).to_json())
    stated = {} if recipe is None else json.loads(json.dumps(kind.presets[family]))
    set_by_itself = {field.name for field in fields(kind) if field.default not in (None, MISSING)} | set(stated)
    values = {name: value for name, value in made.items() if name in set_by_itself}
    for name, value in made.items():  # of those that the family computes, the ones that are free
        if name not in values and isinstance(value, int) and _allowed(kind.family, values, name, value * 2):
            values[name] = value
    template = {name: _around(kind.family, values, name) for name in values}
    return Space({
        "recipe": {"family": kind.family, **template}, "model": model,
        "training": {"image_size": 64, "batch_size": 128, "lr": {"log": [1e-4, 1e-2]}},
    })  # fmt: skip


def _around(family: str, values: Mapping[str, Any], name: str) -> Any:
    """Return a parameter around one of the values of a recipe, or the value where the family allows no other."""
    value = values[name]
    if isinstance(value, bool) or name == "variant":
        others = [not value] if isinstance(value, bool) else [text for text in ("released", "paper") if text != value]
        options = [value, *(other for other in others if _allowed(family, values, name, other))]
        return {"choice": options} if len(options) > 1 else value
    if name in ("seed", "image_size") or not isinstance(value, (int, float)) or value <= 0:
        return value
    wider = (max(1, value // 2) if isinstance(value, int) else value / 2, value * 2)
    low, high = (bound if _allowed(family, values, name, bound) else value for bound in wider)
    return {"log": [low, high]} if low < high else value


def _allowed(family: str, values: Mapping[str, Any], name: str, value: Any) -> bool:
    try:
        as_recipe({"family": family, **values, name: value})
    except (TypeError, ValueError):
        return False
    return True
