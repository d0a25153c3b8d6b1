"""Code: a recipe as the Python that makes it, in as few words as give an equal recipe."""

import dataclasses
from typing import Any

from gpurender.recipes.base import Recipe, from_data
from gpurender.recipes.base import recipe as as_recipe
from gpurender.recipes.mixture import Mixture
from gpurender.recipes.schedule import Schedule

LONGEST = 2000  # characters of Python; a longer recipe is given as JSON
LONGEST_JSON = 20_000  # characters: of longer recipes it would take a second to find out what follows from what


def python_of(recipe: Recipe, preset: str | None = None, values: dict[str, Any] | None = None) -> str:
    """Return an expression whose value is a recipe, after ``import gpurender as gr``.

    Args:
        recipe: the recipe.
        preset: a preset's name that it was made of, if it was.
        values: the values that replaced the preset's.
    """
    if len(whole := recipe.to_json()) > LONGEST_JSON:
        return f"gr.Recipe.from_json({whole!r})"
    if preset is not None:
        names = [name for name in values or {} if hasattr(recipe, name)]
        kept = {name: getattr(recipe, name) for name in names}
        text = _call("gr.recipe", [repr(preset)], kept)
        if as_recipe(preset, **kept) == recipe and len(text) <= LONGEST:
            return text
    text = _expression(recipe)
    return text if len(text) <= LONGEST else f"gr.Recipe.from_json({whole!r})"


def _expression(recipe: Recipe) -> str:
    name = f"gr.{type(recipe).__name__}"
    if isinstance(recipe, Mixture):
        pairs = zip(recipe.recipes, recipe.weights, strict=True)
        inside = ", ".join(f"{_expression(part)}: {weight}" for part, weight in pairs)
        return _call(name, [f"{{{inside}}}"], {} if recipe.labels == "joint" else {"labels": recipe.labels})
    if isinstance(recipe, Schedule):
        return _call(name, [_expression(recipe.recipe)], dict(recipe.knots))
    return _call(name, [], _few(recipe))


def _few(recipe: Recipe) -> dict[str, Any]:
    """Return the values that a family needs in order to make a recipe, as few as its defaults allow."""
    kept = {
        field.name: getattr(recipe, field.name)
        for field in dataclasses.fields(recipe)
        if repr(getattr(recipe, field.name)) != repr(field.default)
    }
    for name in list(kept):  # those that follow from the others
        fewer = {other: value for other, value in kept.items() if other != name}
        try:
            follows = from_data({**fewer, "family": recipe.family}) == recipe
        except (TypeError, ValueError):
            continue
        if follows:
            kept = fewer
    return kept


def _call(name: str, given: list[str], values: dict[str, Any]) -> str:
    return f"{name}({', '.join([*given, *(f'{key}={value!r}' for key, value in values.items())])})"
