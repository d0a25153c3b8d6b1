"""``gpurender recipes``: the presets, one per line."""

import argparse
from collections.abc import Iterator


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "recipes",
        help="the datasets that have a name",
        description="List the presets: name, classes and images per class, size of an image in pixels, paper. "
        '"gpurender recipe NAME" shows the parameters of one.',
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    for line in lines():
        print(line)
    return 0


def lines() -> Iterator[str]:
    """Yield a line per preset: its name, classes x images per class, canvas size, paper."""
    from gpurender.recipes.base import presets, recipe

    for name in presets():
        preset = recipe(name)
        counts = f"{preset.classes:,} x {preset.instances:,}"
        yield f"{name:<15} {counts:<15} {preset.image_size} x {preset.image_size}  {preset.source}"
