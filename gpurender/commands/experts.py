"""``gpurender experts``: the experts of a data server, trained and extended."""

import argparse
import os
from typing import Any

from gpurender.commands.engines import add_engine, check_engine

SCHOOLING = ("k", "task", "partition", "model", "image_size", "images", "batch_size", "lr", "seed")


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "experts",
        help="make a data server, which says what a task needs",
        description="Make a data server: a folder of expert models, each trained on one recipe or on a part of an "
        "image folder. gpurender adapt and recommend use it. Needs the extra 'train'.",
    )
    parts = command.add_subparsers(dest="part", metavar="PART", required=True)
    _add_build(parts)
    more = parts.add_parser(
        "add", help="index a recipe, without training", description="Index a recipe on a server by what its experts "
        "make of the recipe's images. Takes seconds; nothing is trained."
    )  # fmt: skip
    more.add_argument("server", metavar="SERVER", help="the server's folder")
    more.add_argument("recipe", metavar="RECIPE", help="a preset's name or a JSON file")
    more.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: the GPU if there is one)")
    more.set_defaults(run=_add)


def _add_build(parts: argparse._SubParsersAction) -> None:
    command = parts.add_parser(
        "build", help="train the experts of a server", description="Train the experts of a server. The same command "
        "goes on after a kill; started on several machines that share the folder, they divide the work."
    )  # fmt: skip
    command.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="recipes; or a study of gpurender search, of which the K recipes "
        "are taken that together serve its tasks best; or a folder of images"
    )  # fmt: skip
    command.add_argument("-k", type=int, metavar="K", help="experts of a study or of an image folder (default 5)")
    command.add_argument("-o", "--output", metavar="SERVER", required=True, help="the server's folder")
    command.add_argument(
        "--task", default="rotation", metavar="T", help="rotation (default): experts say by how much an image was "
        "rotated, and clients need no labels; classify: experts know classes, and clients need labels"
    )  # fmt: skip
    command.add_argument(
        "--partition", metavar="P", help="of an image folder: unsupervised (default), by the likeness of images; "
        "superclass, by that of classes"
    )  # fmt: skip
    command.add_argument("--model", default="resnet18", metavar="M", help="name of a timm model (default resnet18)")
    command.add_argument("--image-size", type=int, default=64, metavar="S", help="side of the images (default 64)")
    command.add_argument(
        "--images", type=int, default=200_000, metavar="N", help="images that an expert sees (default 200000)"
    )
    command.add_argument("--batch-size", type=int, default=256, metavar="B", help="images per step (default 256)")
    command.add_argument("--lr", type=float, default=1e-3, metavar="R", help="learning rate of AdamW (default 0.001)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the training (default 0)")
    command.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: the GPU if there is one)")
    add_engine(command)
    command.set_defaults(run=_build)


def _build(options: argparse.Namespace) -> int:
    from gpurender import server

    check_engine(options)
    given = {name: getattr(options, name) for name in SCHOOLING}
    if options.engine == "slurm":
        return _submit(options, given)
    if options.engine == "ray":
        from gpurender.server import building, engines

        made = engines.on_ray(
            building.begin(options.sources, options.output, **given), options.workers, options.address
        )
    else:
        made = server.build(options.sources, options.output, device=options.device, **given)
    for entry in made.catalogue.sources:
        print(entry.name)
    return 0


def _submit(options: argparse.Namespace, given: dict[str, Any]) -> int:
    """Begin the server, and submit an array of this command for it: what is wrong is said here, not in a log."""
    from gpurender.search import slurm
    from gpurender.server import building
    from gpurender.util.plural import counted

    root = building.begin(options.sources, options.output, **given).resolve()
    sources = [os.path.abspath(one) if os.path.exists(one) else one for one in options.sources]  # or presets' names
    words = ["experts", "build", *sources, "-o", str(root)]
    for name, value in given.items():
        if value is not None:
            words += ["-k" if name == "k" else f"--{name.replace('_', '-')}", str(value)]
    print(f"job {slurm.submit(words, root, options.workers)}: {counted(options.workers, 'worker')}")
    return 0


def _add(options: argparse.Namespace) -> int:
    from gpurender.server import add as index

    for name, score in index(options.server, options.recipe, device=options.device).items():
        print(f"{score:.4f}  {name}")
    return 0
