"""``gpurender recipe``: a recipe as JSON, with some of its parameters replaced."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpurender.recipes.base import Recipe


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "recipe",
        help="a dataset as JSON, to read, change and keep",
        description="Print a recipe as JSON, which every command and gr.recipe take as RECIPE. What it stands for goes "
        "to standard error: its size, its fingerprint and the paper it follows.",
    )
    command.add_argument("recipe", metavar="RECIPE", help="a preset's name or a JSON file")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="replace a parameter, such as classes=10, variant=paper or \"class_prior=[3, 2, 1]\"; the value is JSON, "
        "and what is not JSON is text; may be given for several parameters",
    )  # fmt: skip
    command.add_argument("-o", "--output", metavar="FILE", help="write the JSON to this file instead")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.recipes.base import recipe as as_recipe
    from gpurender.util.atomic_files import check_writable, replacing

    if options.output is not None:
        check_writable(options.output)
    recipe = as_recipe(options.recipe, **overrides(options.settings))
    if options.output is None:
        print(as_text(recipe), flush=True)
    else:
        with replacing(options.output) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(as_text(recipe) + "\n")
    print(summary(recipe), file=sys.stderr)
    return 0


def overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that texts ``NAME=VALUE`` set, by name.

    Raises:
        ValueError: a text has no equals sign, or a parameter is set twice.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ValueError(f"--set must be NAME=VALUE, such as classes=10, got {setting!r}")
        if name in found:
            raise ValueError(f"--set must name each parameter once, got {name!r} twice")
        found[name] = value_of(text)
    return found


def value_of(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a number of 5,000 digits is a ValueError, too
        return text


def as_text(recipe: "Recipe") -> str:
    """Return a recipe as JSON text with one parameter per line."""
    values = json.loads(recipe.to_json())
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def summary(recipe: "Recipe") -> str:
    """Return what a recipe stands for, in three lines: size, fingerprint, paper."""
    return f"{size(recipe)}\nfingerprint: {recipe.fingerprint}\npaper: {recipe.source}"


def size(recipe: "Recipe") -> str:
    """Return the number of classes and images of a recipe, and the size of its canvas."""
    from gpurender.util.plural import counted

    counts, side = recipe.class_counts(), recipe.image_size
    each = ("" if counts.min() == counts.max() else f"{counts.min():,} to ") + counted(int(counts.max()), "image")
    return f"{counted(recipe.classes, 'class')} x {each} = {counted(len(recipe), 'image')} of {side} x {side} pixels"
