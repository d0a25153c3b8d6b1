"""What the page asks for: its words become a recipe and a place in it; pure functions."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpurender.augment.named import POLICIES
from gpurender.commands.explorer.starts import STARTS
from gpurender.commands.recipe import value_of
from gpurender.recipes.base import Recipe, from_data, presets
from gpurender.util import checks
from gpurender.util.lazy import cached_property

MOST_SETTINGS = 64
MOST_SIDE = 2048  # pixels of a canvas: 8192 take a second
MOST_CLASSES = 200_000  # systems of all classes together: their parameters take a third of a second
MOST_CELLS = 48  # pictures of one answer
MOST_CELL = 256  # pixels of a side of them
KEYS = ("slot", "recipe", "set", "class", "instance", "augment", "fresh")
SHEET_KEYS = ("slot", "recipe", "set", "augment", "cells", "side")


@dataclass(frozen=True)
class Asked:
    """A recipe in the page's words.

    Attributes:
        base: a preset's or a family's name.
        settings: values that replace those of the base, by parameter, as texts of JSON; what is not JSON is a text.
    """

    base: str
    settings: Mapping[str, str]

    @classmethod
    def of(cls, base: Any, settings: Any) -> "Asked":
        """Return checked words.

        Raises:
            TypeError, ValueError: naming what is not allowed.
        """
        known = [*presets(), *sorted(Recipe.families)]
        base = checks.choice("recipe", base, known)
        if not isinstance(settings, dict) or len(settings) > MOST_SETTINGS:
            raise TypeError(f"set must be an object of at most {MOST_SETTINGS} texts, got {checks.shown(settings)}")
        for name, text in settings.items():
            if not isinstance(text, str):
                raise TypeError(f"{name} must be a text of JSON, got {checks.shown(text)}")
        return cls(base, settings)

    @property
    def preset(self) -> dict[str, Any] | None:
        """The values that the base's name stands for, or ``None`` if it is a family's."""
        return next((kind.presets[self.base] for kind in Recipe.families.values() if self.base in kind.presets), None)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The values of the settings."""
        return {name: value_of(text) for name, text in self.settings.items()}

    @cached_property
    def data(self) -> dict[str, Any]:
        """The family and all values that are stated.

        Raises:
            ValueError: a picture is given as a path, which the server must not open.
        """
        family = next((name for name, kind in Recipe.families.items() if self.base in kind.presets), self.base)
        stated = STARTS.get(self.base, {}) if self.preset is None else self.preset
        _check_pictures(self.values, False)
        return {**stated, **self.values, "family": family}

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe.

        Raises:
            TypeError, ValueError: naming the parameter, its value and what is allowed.
        """
        return from_data(self.data)


def _check_pictures(value: Any, inside: bool) -> None:
    """Refuse texts under the name ``image``, wherever it stands, that are no pictures but would be paths."""
    if isinstance(value, dict):
        for name, each in value.items():
            _check_pictures(each, inside or name == "image")
    elif isinstance(value, list):
        for each in value:
            _check_pictures(each, inside)
    elif inside and isinstance(value, str) and not value.startswith("data:"):
        raise ValueError(f"image must be a picture that is chosen on this page, not a path, got {checks.shown(value)}")


def check_size(recipe: Recipe) -> None:
    """Refuse a recipe whose pictures would take more than moments; its text and fingerprint are free.

    Raises:
        ValueError: naming the parameter.
    """
    if recipe.image_size > MOST_SIDE:
        raise ValueError(f"image_size must be at most {MOST_SIDE} to be drawn on this page, got {recipe.image_size}")
    systems = getattr(recipe, "systems", 1)
    if recipe.classes * systems > MOST_CLASSES:
        name = "classes" if recipe.classes > MOST_CLASSES else "systems"
        what = name if systems == 1 else "classes x systems"
        raise ValueError(
            f"{name}: {what} must be at most {MOST_CLASSES:,} to be drawn on this page, got "
            f"{recipe.classes * systems:,}"
        )


def place(name: str, value: Any) -> int:
    """Return a class or an instance that is asked for: an integer from 0."""
    return checks.integer(name, value, 0, 2**63 - 1)


def policy_name(value: Any) -> str | None:
    """Return the name of a policy, or ``None``."""
    return None if value is None else checks.choice("augment", value, tuple(POLICIES))


def cells(value: Any) -> list[tuple[int, int]]:
    """Return the cells of a sheet that are asked for: pairs of a class and an instance."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_CELLS:
        raise TypeError(f"cells must be 1 to {MOST_CELLS} pairs (class, instance), got {checks.shown(value)}")
    return [(place("cells", first), place("cells", last)) for first, last in map(_pair, value)]


def _pair(value: Any) -> tuple[Any, Any]:
    if not checks.is_sequence(value, 2):
        raise TypeError(f"cells must be pairs (class, instance), got {checks.shown(value)}")
    return value[0], value[1]


def parameter_of(message: str, names: Iterable[str]) -> str | None:
    """Return the parameter that a refusal is about: the first of the names that it begins with or has before "must"."""
    known = set(names)
    first = re.match(r"\w+", message)
    if first and first[0] in known:
        return first[0]
    for word in re.findall(r"(\w+)(?:\[\d+\])* must", message):
        if word in known:
            return word
    unknown = re.search(r"has no parameter '(\w+)'", message)
    return unknown[1] if unknown else None


def settings_of(recipe: Recipe) -> dict[str, str]:
    """Return the settings with which the family's name stands for a recipe: texts of the values that differ from the
    family's own.
    """
    values = json.loads(recipe.to_json())
    del values["gpurender"], values["family"]
    usual = json.loads(Asked(recipe.family, {}).recipe.to_json())
    few = {name: json.dumps(value) for name, value in values.items() if name not in usual or usual[name] != value}
    if Asked(recipe.family, few).recipe == recipe:
        return few
    return {name: json.dumps(value) for name, value in values.items()}
