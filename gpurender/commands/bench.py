"""``gpurender bench``: images per second on this machine, and pictures of such results."""

import argparse
import json
from typing import Any

from gpurender.commands.preview import AUGMENT


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "bench",
        help="images/s by stage",
        description="Measure images/s of the raster alone, of raster and augmentation, and of the loader; "
        "batch by batch after a warm-up, median with 5th and 95th percentile.",
    )
    command.add_argument("recipe", metavar="RECIPE", nargs="?", help="a preset's name or a JSON file")
    command.add_argument("--device", metavar="D", help="device that renders (default: the GPU if there is one)")
    command.add_argument("--batch-size", type=int, default=256, metavar="B", help="images per batch (default 256)")
    command.add_argument(
        "--seconds", type=float, default=5.0, metavar="T", help="seconds measured for each stage (default 5)"
    )
    command.add_argument("--augment", default="crop", metavar="POLICY", help=f"{AUGMENT} (default crop)")
    command.add_argument("--train", metavar="MODEL", help="also measure training steps of this timm model")
    command.add_argument("--json", metavar="FILE", help="also write environment and rows as JSON")
    command.add_argument(
        "--trace", metavar="FILE", help="instead of measuring, write what the loader does for 8 batches as a trace, "
        "JSON for ui.perfetto.dev or chrome://tracing",
    )  # fmt: skip
    command.add_argument(
        "--plot", nargs="+", metavar="RESULT", help="instead, plot result files, or directories of them, as a picture"
    )
    command.add_argument("-o", "--output", metavar="FILE", help="the picture that --plot writes (default bench.png)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.util.atomic_files import check_writable, replacing

    if options.plot:
        return _plot(options)
    from gpurender.benchmark import measure

    if options.recipe is None:
        raise ValueError("RECIPE is missing: give a preset's name or a JSON file, or else --plot with result files")
    if options.output is not None:
        raise ValueError("-o must be given together with --plot; --json writes what is measured")
    if options.trace is not None:
        return _trace(options)
    if options.json is not None:
        check_writable(options.json)

    def show(result: dict[str, Any]) -> None:
        if len(result["rows"]) == 1:
            print(measure.heading(result["environment"]))
        print(measure.line(result["rows"][-1]), flush=True)

    result = measure.measure(
        options.recipe,
        device=options.device,
        batch_size=options.batch_size,
        seconds=options.seconds,
        augment=options.augment,
        model=options.train,
        on_row=show,
    )
    if options.json is not None:
        with replacing(options.json) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    return 0


def _trace(options: argparse.Namespace) -> int:
    """Write a trace of the loader; refuse what only a measurement takes."""
    from gpurender.benchmark.trace import trace

    for name in ("train", "json"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name} must be left out with --trace, which measures nothing, got {getattr(options, name)!r}"
            )
    count = trace(
        options.recipe, options.trace, device=options.device, batch_size=options.batch_size, augment=options.augment
    )
    print(f"{options.trace}: {count} batches, for ui.perfetto.dev")
    return 0


def _plot(options: argparse.Namespace) -> int:
    """Plot result files; refuse what only a measurement takes."""
    from gpurender.benchmark.plot import plot
    from gpurender.util.plural import counted

    for name in ("recipe", "device", "train", "json", "trace"):
        if getattr(options, name) is not None:
            word = "RECIPE" if name == "recipe" else f"--{name}"
            raise ValueError(
                f"{word} must be left out with --plot, which measures nothing, got {getattr(options, name)!r}"
            )
    output = "bench.png" if options.output is None else options.output
    print(f"{output}: {counted(plot(options.plot, output), 'row')}")
    return 0
