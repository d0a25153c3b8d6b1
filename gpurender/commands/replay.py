"""``gpurender replay``: what exactly a model saw in some steps, as a sheet of pictures and as JSON."""

import argparse
import json
import os
from typing import Any

from gpurender.commands.preview import AUGMENT

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "replay",
        help="what a model saw in some steps",
        description="Render the batches of some steps of a training again: the same bytes, a batch a row, every image "
        "at its own size. STATE is a checkpoint of gpurender pretrain or its folder; or a JSON file: the text of "
        "gr.replay.Recorder, or a loader's state_dict(), with which RECIPE and batch size must be given.",
    )
    command.add_argument("state", metavar="STATE", help="checkpoint.safetensors, its folder, or a JSON file")
    command.add_argument(
        "--steps", metavar="A:B", help="steps A to B - 1, counted from 0; or one step. Of a recorder's text, the kept "
        "steps in this range (default: all)",
    )  # fmt: skip
    command.add_argument("-o", "--output", metavar="FILE", help="the picture to write (default replay.png)")
    command.add_argument("--json", metavar="FILE", help="also write every parameter of every image as JSON")
    command.add_argument(
        "--images", type=int, default=16, metavar="N", help="pictures of each batch on the sheet (default 16)"
    )
    command.add_argument("--recipe", metavar="RECIPE", help="of the loader whose state is given")
    command.add_argument("--batch-size", type=int, metavar="B", help="of the loader whose state is given, per rank")
    command.add_argument("--image-size", type=int, metavar="S", help="of the loader whose state is given (default 224)")
    command.add_argument("--drop-last", action="store_true", help="the loader whose state is given drops the last step")
    command.add_argument("--augment", metavar="POLICY", help=f"of the loader whose state is given: {AUGMENT}")
    command.add_argument("--world-size", type=int, metavar="W", help="ranks, if the state does not say it (default 1)")
    command.add_argument("--device", default="cpu", metavar="D", help="device that renders (default cpu)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.augment.text import policy_of
    from gpurender.replay.batches import plan
    from gpurender.replay.pictures import page
    from gpurender.util import checks
    from gpurender.util.atomic_files import check_writable, replacing
    from gpurender.util.plural import counted
    from gpurender.util.progress import progress

    output = "replay.png" if options.output is None else options.output
    if os.path.splitext(output)[1].lower() not in PICTURES:
        raise ValueError(f"output must end in a picture's suffix such as .png or .jpg, got {output!r}")
    most = checks.integer("images", options.images, 1, 2**31 - 1)
    planned = plan(
        options.state, options.steps, recipe=options.recipe, batch_size=options.batch_size,
        image_size=options.image_size, drop_last=options.drop_last, world_size=options.world_size,
        augment=None if options.augment is None else policy_of(options.augment),
    )  # fmt: skip
    for path in (output, options.json):
        if path is not None:
            check_writable(path)
    rows: list[Any] = []
    seen: list[Any] = []
    with progress(total=planned.total, desc="replay", unit="batch") as bar:
        for batch in planned.batches(options.device):
            rows += batch.rows(most)
            seen.append(batch.to_json())
            bar.update()
    sheet = page(rows)
    if options.json is not None:
        with replacing(options.json) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump(planned.to_json(seen), file, indent=1, allow_nan=False)
            file.write("\n")
    with replacing(output) as temporary:
        sheet.save(temporary, format=_form(output))
    print(f"{output}: {sheet.width} x {sheet.height}, {counted(len(rows), 'row')} of {planned.recipe.family}")
    return 0


def _form(path: str) -> str:
    """Return Pillow's name of a picture's format."""
    from PIL import Image

    return Image.registered_extensions()[os.path.splitext(path)[1].lower()]
