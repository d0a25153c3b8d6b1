"""``gpurender preview``: a contact sheet of a dataset, or a page of all presets."""

import argparse
import os
from pathlib import Path

AUGMENT = "crop (random resized crop, flips), deit, or the policy of a paper, such as onepfrac"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "preview",
        help="a contact sheet: one class a row; or a page of all presets",
        description="Render a contact sheet of a dataset: a row is a class, a column an instance. Where a class has "
        "one image, or its images look alike, every cell is a class. The sheet, not the dataset, is brightened so that "
        "a thumbnail shows it. With --gallery, write a page of HTML with a row of every preset.",
    )
    command.add_argument("recipe", metavar="RECIPE", nargs="?", help="a preset's name or a JSON file")
    command.add_argument(
        "--gallery", metavar="FILE", help="instead of RECIPE: write one page of HTML with every preset, its pictures, "
        "paper, size, and what of it is exact; --cols, --augment and --device hold for it",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", metavar="FILE", help="the picture to write (default: RECIPE.png in the current folder)"
    )
    command.add_argument(
        "--rows", type=int, metavar="R", help="rows (default 4; with --classes, as many as these classes need)"
    )
    command.add_argument("--cols", type=int, default=6, metavar="C", help="pictures in a row (default 6)")
    command.add_argument("--classes", metavar="N", help="only these classes, such as 0-9,42 (default: all, spread)")
    command.add_argument("--augment", metavar="POLICY", help=f"show what training sees: {AUGMENT}")
    command.add_argument("--device", default="cpu", metavar="D", help="device that renders (default cpu)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    if (options.recipe is None) == (options.gallery is None):
        raise ValueError("give either a RECIPE or --gallery FILE")
    return _sheet(options) if options.gallery is None else _gallery(options)


def _gallery(options: argparse.Namespace) -> int:
    """Write the page of all presets."""
    from gpurender.augment.named import policy
    from gpurender.commands.gallery.cards import cards
    from gpurender.commands.gallery.page import page
    from gpurender.util.atomic_files import check_writable, replacing

    for name in ("output", "rows", "classes"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} must be left out with --gallery")
    augment = None if options.augment is None else policy(options.augment)
    check_writable(options.gallery)
    made = list(cards(options.cols, augment, options.device))
    with replacing(options.gallery) as temporary:
        Path(temporary).write_text(page(made), encoding="utf-8")
    print(f"{options.gallery}: {len(made)} presets")
    return 0


def _sheet(options: argparse.Namespace) -> int:
    """Write the contact sheet of a recipe."""
    from PIL import Image

    from gpurender.augment.named import policy
    from gpurender.recipes.base import is_json, recipe
    from gpurender.renderer import Renderer
    from gpurender.sheet import contact_sheet
    from gpurender.util.atomic_files import check_writable, replacing

    chosen = recipe(options.recipe)
    name = chosen.family if is_json(options.recipe) else Path(options.recipe).stem
    output = f"{name}.png" if options.output is None else options.output
    form = Image.registered_extensions().get(os.path.splitext(output)[1].lower())
    if form not in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        raise ValueError(f"output must end in a picture's suffix such as .png or .jpg, got {output!r}")
    augment = None if options.augment is None else policy(options.augment)
    check_writable(output)
    renderer = Renderer(chosen, options.device)
    sheet = contact_sheet(renderer, options.rows, options.cols, classes=options.classes, augment=augment)
    with replacing(output) as temporary:
        sheet.save(temporary, format=form)
    print(f"{output}: {sheet.width} x {sheet.height}, {chosen.family}, fingerprint {chosen.fingerprint[:12]}")
    return 0
