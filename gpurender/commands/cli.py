"""The command ``gpurender``: doctor, recipes, recipe, preview, bench, export."""

import argparse
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpurender.commands import recipe, recipes

EPILOG = """\
RECIPE is a preset's name, such as onepfrac-1k ("gpurender recipes" lists all of them), or a recipe's JSON file.

examples:
  gpurender doctor                                      which kernels work on this machine
  gpurender doctor --warm sm_80 sm_90                   compile the CUDA kernels in advance
  gpurender recipes                                     which datasets have a name
  gpurender recipe onepfrac-1k --set classes=10 -o r.json   a dataset of your own, as a JSON file
  gpurender preview fractaldb-1k                        look at a dataset: fractaldb-1k.png, one class per row
  gpurender preview onepfrac-1k --augment deit -o x.png look at what training sees
  gpurender bench onepfrac-1k --seconds 5 --json r.json images/s on this machine
  gpurender bench --plot r.json -o rates.png            plot result files
  gpurender export visualatom-1k atoms/ --per-class 10  files for a program that needs files
"""


AUGMENT = "crop (random resized crop, flips), deit, or the name of a paper's preset, such as onepfrac"


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end; the exception unwinds as Ctrl-C does, so no half-written file stays."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 when done, 1 when the machine refused (a full disk, for example), 2
    for wrong input; 1 and 2 with one line on stderr. Without arguments the call is the program itself: it reads the
    arguments of the command line, and handles streams and signals as a program does.
    """
    return _program() if arguments is None else _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError as error:
        if error.filename is None:  # standard output's is no failure; an output file's is a failure
            raise
        return _fail(error, 1)
    except (ValueError, TypeError) as error:
        return _fail(error, 2)
    except (OSError, RuntimeError, MemoryError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        return _fail(error, 128 + number, "interrupted" if number == signal.SIGINT else "terminated")


def _fail(error: object, code: int, text: str | None = None) -> int:
    """Print what went wrong in one line on stderr, with the notes of the error; return the exit status."""
    if text is None and isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename!r}: {error.strerror}"
    parts = [str(error) if text is None else text, *getattr(error, "__notes__", ())]
    line = " ".join("; ".join(parts).split()) or type(error).__name__
    print(f"gpurender: error: {line}", file=sys.stderr)
    return code


def _program() -> int:
    """Run the command line; when a pipe breaks or a signal comes, end by that signal, as programs do."""
    _open_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):  # sent by Slurm and by a closed terminal
        if signal.getsignal(number) == signal.SIG_DFL:  # not under nohup
            signal.signal(number, _stop)
    try:
        try:
            code = _run(sys.argv[1:])
        except SystemExit as leaving:  # --help, and arguments that argparse refuses
            code = leaving.code if isinstance(leaving.code, int) else 0
            if isinstance(leaving.code, str):
                code = _fail(leaving.code, 1)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE
        _silence()
    except OSError as error:
        code = 1
        with contextlib.suppress(OSError):
            _fail(f"standard output: {error.strerror}", code)
        _silence()
    if code > 128:  # so that a shell's loop ends too
        signal.signal(code - 128, signal.SIG_DFL)
        os.kill(os.getpid(), code - 128)  # process 1 of a container survives the signal
    return code


def _open_streams() -> None:
    """Make streams escape characters that they cannot encode, and make closed streams silent."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the first file that is opened would take the stream's number
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _stop(number: int, frame: Any) -> None:
    raise Stopped(number)


def _silence() -> None:
    """Discard output that a broken pipe or a full disk refused, which Python would write again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


class _Parser(argparse.ArgumentParser):
    """An argparse parser that prints its errors in one line, and raises where a stream takes no text."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise SystemExit(_fail(f"{message} (see {self.prog} --help)", 2))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a wrong command, or a wrong choice of an option, with the one that was probably meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            from gpurender.util import checks  # imports NumPy, which a right command may not need

            error.message += checks.did_you_mean(str(value), map(str, action.choices or ()))
            raise

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file or sys.stderr)


def _parser() -> argparse.ArgumentParser:
    from gpurender.util.version import __version__

    parser = _Parser(
        prog="gpurender",
        description="Formula-driven pre-training images, rendered while the model trains.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gpurender {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for add in (_add_doctor, recipes.add, recipe.add, _add_preview, _add_bench, _add_export):
        add(commands)
    return parser


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "doctor",
        help="versions, devices, and which kernels work",
        description="Report versions and devices, try every kernel on a small image, and say why one is off. "
        "Exit status 0 if something can render.",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    instead = command.add_mutually_exclusive_group()
    instead.add_argument(
        "--warm", nargs="*", metavar="ARCH", help="instead, compile the GPU kernels in advance for these architectures "
        "(sm_80, sm_90 ...; default: those of the GPUs here) and name the files that are kept",
    )  # fmt: skip
    instead.add_argument(
        "--clean-cache", action="store_true", help="instead, remove the compiled kernels and search results that "
        "gpurender keeps; whatever is needed again is made again",
    )  # fmt: skip
    command.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from gpurender.commands.checkup import examine

    if options.warm is not None:
        return _warm(options.warm)
    if options.clean_cache:
        return _clean_cache()
    report = examine.examine()
    print(json.dumps(report, indent=2) if options.json else examine.table(report))
    return 0 if any(kernel["available"] for kernel in report["kernels"]) else 1


def _clean_cache() -> int:
    from gpurender.commands.checkup import cache

    whole = True
    for done in cache.clean():
        print(f"{done.folder}: {done.files} files removed, {done.bytes / 1e6:.1f} MB")
        for problem in done.errors[:1]:
            print(f"  {len(done.errors)} files stay, such as {problem.filename!r}: {problem.strerror}")
        whole = whole and not done.errors
    return 0 if whole else 1


def _warm(architectures: Sequence[str]) -> int:
    import torch

    from gpurender.commands.checkup.precompile import warm

    kept = True
    for operation, architecture, file in warm(architectures):
        print(f"{operation:<11} {architecture:<8} {file or 'compiled, but there is no place to keep it'}", flush=True)
        kept = kept and file is not None
    if torch.cuda.is_available():
        print("Triton kernels: compiled for the GPUs here")
    else:
        print("Triton kernels: compiled at first use on a GPU")
    return 0 if kept else 1


def _add_preview(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "preview",
        help="a contact sheet: one class a row",
        description="Render a contact sheet of a dataset: a row is a class, a column an instance. Where a class has "
        "one image, or its images look alike, every cell is a class. The sheet, not the dataset, is brightened so that "
        "a thumbnail shows it.",
    )
    command.add_argument("recipe", metavar="RECIPE", help="a preset's name or a JSON file")
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
    command.set_defaults(run=_preview)


def _preview(options: argparse.Namespace) -> int:
    from PIL import Image

    from gpurender.augment.named import policy
    from gpurender.commands.preview import contact_sheet
    from gpurender.recipes.base import is_json, recipe
    from gpurender.util.atomic_files import check_writable, replacing
    from gpurender.util.ranges import parse_ranges

    chosen = recipe(options.recipe)
    name = chosen.family if is_json(options.recipe) else Path(options.recipe).stem
    output = f"{name}.png" if options.output is None else options.output
    form = Image.registered_extensions().get(os.path.splitext(output)[1].lower())
    if form not in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        raise ValueError(f"output must end in a picture's suffix such as .png or .jpg, got {output!r}")
    augment = None if options.augment is None else policy(options.augment)
    classes = None if options.classes is None else parse_ranges(options.classes, chosen.classes, "classes")
    check_writable(output)
    sheet = contact_sheet(chosen, options.rows, options.cols, classes=classes, augment=augment, device=options.device)
    with replacing(output) as temporary:
        sheet.save(temporary, format=form)
    print(f"{output}: {sheet.width} x {sheet.height}, {chosen.family}, fingerprint {chosen.fingerprint[:12]}")
    return 0


def _add_bench(commands: argparse._SubParsersAction) -> None:
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
        "--plot", nargs="+", metavar="RESULT", help="instead, plot result files, or directories of them, as a picture"
    )
    command.add_argument(
        "-o", "--output", default="bench.png", metavar="FILE", help="the picture that --plot writes (default bench.png)"
    )
    command.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    from gpurender.util.atomic_files import check_writable, replacing

    if options.plot:
        from gpurender.benchmark.plot import plot

        print(f"{options.output}: {plot(options.plot, options.output)} rows")
        return 0
    from gpurender.benchmark import measure

    if options.recipe is None:
        raise ValueError("RECIPE must be a preset's name or a JSON file (or give --plot result files)")
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


def _add_export(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "export",
        help="the dataset as files",
        description="Write a dataset as PNG files, one folder per class (torchvision's ImageFolder reads it). "
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
        "its pixels with the recipe, and list what is missing or damaged; exit status 1 if something is",
    )  # fmt: skip
    command.add_argument("--repair", action="store_true", help="with --verify: write again what is missing or damaged")
    command.add_argument(
        "--format", choices=["imagefolder"], default="imagefolder", help="layout (default imagefolder)"
    )
    command.add_argument("--device", default="cpu", metavar="D", help="device that renders (default cpu)")
    command.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from gpurender.commands.image_folder.export import export

    if options.repair and not options.verify:
        raise ValueError("--repair must be given together with --verify")
    chosen = {
        "limit": options.limit,
        "per_class": options.per_class,
        "classes": options.classes,
        "shard": _shard(options.shard),
        "device": options.device,
    }
    if options.verify:
        return _verify(options, chosen)
    written, present = export(options.recipe, options.directory, **chosen)
    print(f"{options.directory}: {written} images written, {present} were there")
    return 0


def _verify(options: argparse.Namespace, chosen: dict[str, Any]) -> int:
    from gpurender.commands.image_folder.verify import verify

    def show(problem: Any) -> None:
        print(f"{problem.path}: {problem.reason}", flush=True)

    report = verify(options.recipe, options.directory, **chosen, repair=options.repair, on_problem=show)
    text = f"{options.directory}: {report.images} images verified, {report.problems} missing or damaged"
    if report.problems:
        text += f"; {report.repaired} images written again" if options.repair else "; --repair writes them again"
    print(text)
    return 0 if options.repair or not report.problems else 1


def _shard(given: str | None) -> Any:
    """Return the shard that is given, or else that of the environment, which is reported on stderr."""
    from gpurender.commands.image_folder.shards import from_environment

    if given is not None or (found := from_environment()) is None:
        return given
    shard, names = found
    print(f"gpurender: shard {shard} of the export, from {names} (--shard 0/1 is everything)", file=sys.stderr)
    return shard


if __name__ == "__main__":
    sys.exit(main())
