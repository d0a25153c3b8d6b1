"""The program ``gpurender``: its parser, exit status, streams and signals; each command has a file beside this one."""

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from gpurender.commands import (
    adapt,
    bench,
    card,
    doctor,
    experts,
    explore,
    export,
    finetune,
    pretrain,
    preview,
    probe,
    recipe,
    recipes,
    recommend,
    replay,
    search,
    serve,
    verify,
)

COMMANDS = (
    doctor, recipes, recipe, preview, explore, bench, export, pretrain, finetune, probe, replay, card, verify, search,
    experts, adapt, recommend, serve,
)  # fmt: skip

EPILOG = """\
RECIPE is a preset's name, such as onepfrac-1k ("gpurender recipes" lists all of them), or a recipe's JSON file.

examples:
  gpurender doctor                                      which kernels work on this machine
  gpurender doctor --warm sm_80 sm_90                   compile the CUDA kernels in advance
  gpurender recipes                                     which datasets have a name
  gpurender recipe onepfrac-1k --set seed=7 -o r.json   a dataset of your own, as a JSON file
  gpurender preview fractaldb-1k                        look at a dataset: fractaldb-1k.png, one class per row
  gpurender preview onepfrac-1k --augment deit -o x.png look at what training sees
  gpurender explore visualatom-1k                       change its parameters on a local page
  gpurender bench onepfrac-1k --seconds 5 --json r.json images/s on this machine
  gpurender bench --plot r.json -o rates.png            plot result files
  gpurender export visualatom-1k atoms/ --per-class 10  files for a program that needs files
  gpurender pretrain --list                             the papers' training, settings and hours
  gpurender pretrain onepfrac-1k --model M --output run train timm's model M on a dataset
  gpurender finetune run/checkpoint.safetensors --help  then on real images
  gpurender probe run/checkpoint.safetensors --help     or measure its frozen features
  gpurender replay run --steps 12000:12004 -o seen.png  what a training saw in these steps
  gpurender card run -o card.md                         a data card for a model card; gpurender verify checks it
  gpurender search --help                               search the dataset that suits your tasks
  gpurender experts build R1 R2 R3 -o server            make a data server
  gpurender recommend server --task images --budget 10M ask it what your images need
"""


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
    """An argparse parser that takes options by their whole names alone, prints its errors in one line with what was
    probably meant, and raises where a stream takes no text.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse unknown arguments here, where the options of the command are known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            from gpurender.util import checks

            option = next((word for word in unknown if word.startswith("-")), "")
            hint = checks.did_you_mean(option.partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

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
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
