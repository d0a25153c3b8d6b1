"""``gpurender export``: a dataset as files, or their verification."""

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpurender.commands.image_folder.verify import Problem

LINES = 20  # problems that are printed
ADVICE = "; first give --classes, --per-class and --limit as in the export, then --repair writes these again"


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "export",
        help="the dataset as files",
        description="Write a dataset as PNG files, one folder per class (torchvision's ImageFolder reads it), or as "
        "tar files of these (the package webdataset reads them). "
        "Safe to run again after a kill: what is there stays, what is missing is written. Several processes may write "
        "one directory if each has its own --shard.",
    )
    command.add_argument("recipe", metavar="RECIPE", help="a preset's name or a JSON file")
    command.add_argument(
        "directory", metavar="DIR", help="a new or empty directory, or one of an earlier export of the recipe"
    )
    command.add_argument("--per-class", type=int, metavar="N", help="only the first N images of every class")
    command.add_argument(
        "--classes", metavar="LIST", help="only these classes, numbered from 0: 0-99 or 0-9,42; each has a folder"
    )
    command.add_argument(
        "--limit", type=int, metavar="N", help="only the first N images, class by class, of what is selected otherwise"
    )
    command.add_argument(
        "--shard", metavar="I/N", help="only part I of N, with I from 0 to N - 1 (default: the part of this Slurm "
        "array task, srun process or torchrun process, which is reported on stderr; 0/1 is everything)",
    )  # fmt: skip
    command.add_argument(
        "--verify", action="store_true", help="instead, write nothing: decode every file of this selection, compare "
        "its pixels with the recipe, and list what is missing, damaged or foreign; exit status 1 if something is",
    )  # fmt: skip
    command.add_argument(
        "--repair",
        action="store_true",
        help="with --verify: write again what is missing or damaged; nothing is removed",
    )
    command.add_argument(
        "--format", choices=["imagefolder", "webdataset"], default="imagefolder", help="layout (default imagefolder)"
    )
    command.add_argument(
        "--per-tar", type=int, metavar="N", help="with --format webdataset: at most N images per tar file, all of "
        "which have the same number or one less (default 1000)",
    )  # fmt: skip
    command.add_argument("--device", default="cpu", metavar="D", help="device that renders (default cpu)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.commands.image_folder.export import export
    from gpurender.util.plural import counted

    if options.repair and not options.verify:
        raise ValueError("--repair must be given together with --verify")
    if options.per_tar is not None and options.format != "webdataset":
        raise ValueError("--per-tar must be given together with --format webdataset")
    chosen = {
        "limit": options.limit,
        "per_class": options.per_class,
        "classes": options.classes,
        "shard": _shard(options.shard),
        "device": options.device,
    }
    if options.verify:
        return _verify(options, chosen)
    written, present = export(
        options.recipe, options.directory, format=options.format, per_tar=options.per_tar, **chosen
    )
    print(f"{options.directory}: {counted(written, 'image')} written, {present:,} there before")
    return 0


def _verify(options: argparse.Namespace, chosen: dict[str, Any]) -> int:
    """Compare the files with the recipe, and repair them if asked to; return 1 if something stays wrong."""
    from gpurender.commands.image_folder.verify import verify as verify_folders
    from gpurender.commands.web_dataset.verify import verify as verify_tars
    from gpurender.util.plural import counted

    lines = _Lines()
    chosen = {**chosen, "repair": options.repair, "on_problem": lines.show}
    if options.format == "webdataset":
        report = verify_tars(options.recipe, options.directory, **chosen, per_tar=options.per_tar)
    else:
        report = verify_folders(options.recipe, options.directory, **chosen)
    if lines.left_out:
        print(f"... and {lines.left_out:,} more")
    wrong = report.problems - report.foreign
    files = "tar files " if options.format == "webdataset" else ""
    text = f"{options.directory}: {counted(report.images, 'image')} checked, {wrong:,} {files}missing or damaged"
    if report.foreign:
        text += f", {report.foreign:,} foreign"
    if wrong:
        text += f"; {report.repaired:,} repaired" if options.repair else ADVICE
    print(text)
    return 0 if report.repaired == report.problems else 1


class _Lines:
    """Prints the first problems, and apart from these the first that are repaired."""

    def __init__(self) -> None:
        self._counts: Counter[bool] = Counter()

    @property
    def left_out(self) -> int:
        return sum(max(0, count - LINES) for count in self._counts.values())

    def show(self, problem: "Problem") -> None:
        self._counts[problem.repaired] += 1
        if self._counts[problem.repaired] <= LINES:
            print(f"{problem.path}: {problem.reason}", flush=True)


def _shard(given: str | None) -> Any:
    """Return the shard that is given, or else that of the environment, which is reported on stderr."""
    from gpurender.commands.image_folder.shards import from_environment

    if given is not None or (found := from_environment()) is None:
        return given
    shard, names = found
    print(f"gpurender: shard {shard} of the export, from {names} (--shard 0/1 is everything)", file=sys.stderr)
    return shard
