"""Everything that must be seen on a GPU, within a budget of time, and a folder of what was seen.

    python -m bench.acceptance first --out FOLDER     what tells most: does it run, is it equal, how fast is it
    python -m bench.acceptance second --out FOLDER    profiles, consumers, tests, memory checks, training
    python -m bench.acceptance full --out FOLDER      all steps at length, for a machine of one's own

`--seconds N` sets another budget, `--only STEP ...` takes some of the steps. Each step runs in a process of its own and
gets its share of what is left of the budget; then it is ended, with all that it started. FOLDER receives a JSON file of
the command's name, which is replaced whenever a row has been measured, and a log of all that the steps print. A run
that is killed has lost nothing that it had measured. `--rehearse` runs the steps on a CPU, with little of everything.
"""

import argparse
import contextlib
import importlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import groups, steps
from bench.steps import report, seen
from gpurender.util import atomic_files

ROOT = Path(__file__).resolve().parent.parent


END = 8.0  # seconds of a budget that are kept for the last step's death and for the summary
LEAST = 3.0  # seconds without which a step is not begun
TAIL = 3000  # characters of a log that stand in the result of a step that did not pass


class Part(NamedTuple):
    """A step of a plan: its name, its share of the budget in seconds, and how much it measures."""

    name: str
    share: float
    size: str


# In the order of what they teach, behind what compiles the kernels for all. The shares of a plan and END are its
# budget; what a step leaves goes to those behind.
PLANS: dict[str, tuple[Part, ...]] = {
    "first": (
        Part("start", 75, "short"), Part("doctor", 50, "short"), Part("kernels", 40, "short"),
        Part("equality", 45, "short"), Part("table", 52, "short"), Part("search", 32, "short"),
        Part("train", 28, "short"),
    ),
    "second": (
        Part("doctor", 70, "short"), Part("table", 38, "short"), Part("search", 20, "short"),
        Part("profile", 55, "short"), Part("consumers", 40, "short"), Part("tests", 120, "short"),
        Part("memcheck", 50, "short"), Part("train", 53, "long"), Part("pretrain", 26, "short"),
    ),
    "full": (
        Part("start", 120, "long"), Part("doctor", 120, "long"), Part("kernels", 120, "long"),
        Part("equality", 400, "long"), Part("table", 400, "long"), Part("search", 200, "long"),
        Part("train", 400, "long"), Part("profile", 200, "long"), Part("consumers", 120, "long"),
        Part("tests", 600, "long"), Part("memcheck", 300, "long"), Part("racecheck", 600, "long"),
        Part("augment", 120, "long"), Part("sweep", 200, "long"), Part("files", 200, "long"),
        Part("pretrain", 400, "long"), Part("soak", 592, "long"),
    ),
}  # fmt: skip


def budget(parts: Sequence[Part]) -> float:
    """Seconds that a plan takes unless it is told otherwise."""
    return sum(part.share for part in parts) + END


def limit_of(parts: Sequence[Part], left: float) -> float:
    """Seconds that the first of the parts may take, of those that are left for all of them."""
    return max(0.0, left) * parts[0].share / sum(part.share for part in parts)


Run = Callable[[Part, float], int | None]


def perform(
    file: Path, parts: Sequence[Part], seconds: float, run: Run, stop: groups.Stop,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:  # fmt: skip
    """Run the parts of a plan one after the other; the result.

    Args:
        file: the result, in which the steps themselves write what they see.
        parts: to be run.
        seconds: the whole budget.
        run: runs a part for so many seconds and returns its exit status, or ``None`` if it was ended then.
        stop: whether to end.
        clock: seconds.
    """
    end = clock() + seconds - END
    for place, part in enumerate(parts):
        limit = limit_of(parts[place:], end - clock())
        if stop.signal is not None or limit < LEAST:
            why = "no time was left" if stop.signal is None else f"stopped by signal {stop.signal}"
            seen.update(file, part.name, {"outcome": "left out", "error": why})
            continue
        at = _headed(log_of(file), part.name)
        seen.update(file, part.name, {"outcome": "running", "limit": round(limit, 1), "log_from_byte": at})
        _say(f"{part.name:<10}begins, {limit:.0f} s at most")
        begin = clock()
        status = run(part, limit)
        _clean(file.parent)
        seen.update(file, part.name, {"seconds": round(clock() - begin, 1)} | _verdict(file, part.name, status, stop))
    result = seen.read(file)
    seen.write(file, result | {"summary": report.summary(result), "stopped": stop.signal})
    return result


def _verdict(file: Path, name: str, status: int | None, stop: groups.Stop) -> dict[str, Any]:
    """The outcome of a step that has ended, unless it said so itself; with the end of its log if it did not pass."""
    found = seen.read(file)["steps"][name]
    verdict: dict[str, Any] = {}
    if stop.signal is not None and status is None:
        verdict = {"outcome": "stopped", "error": f"stopped by signal {stop.signal}"}
    elif found["outcome"] == "running" and status is None:
        verdict = {"outcome": "cut", "error": f"ended at its limit of {found['limit']:g} s"}
    elif found["outcome"] == "running":
        verdict = {"outcome": "failed", "error": f"its process ended with status {status} before it was done"}
    if (found | verdict)["outcome"] not in ("passed", "left out"):
        verdict["tail"] = _tail(log_of(file), found["log_from_byte"])
    return verdict


def log_of(file: Path) -> Path:
    """The log of all steps of a result: one file, because few may come back from a machine that is lent."""
    return file.with_suffix(".log")


def _headed(log: Path, name: str) -> int:
    """Write a line above what a step will print; where that begins, in bytes."""
    with open(log, "ab") as printed:
        printed.write(f"======== {name}\n".encode())
        return printed.tell()


def _tail(log: Path, begin: int) -> str:
    """The end of what the last step printed, which begins there."""
    with contextlib.suppress(OSError), open(log, "rb") as printed:
        printed.seek(max(begin, os.fstat(printed.fileno()).st_size - TAIL))
        return printed.read().decode("utf-8", "replace")
    return ""


def _say(text: str) -> None:
    """Print, where somebody still listens: the run goes on without."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _clean(folder: Path) -> None:
    """Remove what a step that was killed while it wrote has left of its file."""
    for left in folder.glob(f"{atomic_files.TEMPORARY}*"):
        with contextlib.suppress(OSError):
            left.unlink()


def begin(folder: Path, command: str, about: dict[str, Any]) -> Path:
    """Make the folder and the result file in it; return the file.

    Raises:
        ValueError: it cannot be written, or there is one already.
    """
    file = folder / f"{command}.json"
    if file.exists():
        raise ValueError(f"--out must be a folder without a result of an earlier run, got {str(folder)!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        seen.write(file, {"command": command, **about, "steps": {}})
    except OSError as error:
        raise ValueError(f"--out must be a folder that can be written, got {str(folder)!r}: {error.strerror}") from None
    return file


def alone(name: str, options: argparse.Namespace) -> int:
    """This is the process of one step: do it and write down its outcome."""
    groups.die_with_parent()
    here = seen.Seen(
        Path(options.file), name, size=options.size, seconds=options.seconds,
        device="cpu" if options.rehearse else "cuda",
    )  # fmt: skip
    with importlib.import_module("bench.steps.rehearsal").stand_ins() if options.rehearse else contextlib.nullcontext():
        here.note(**outcome_of(steps.step(name), here))
    return 0


def outcome_of(step: steps.Step, here: seen.Seen) -> dict[str, Any]:
    """What became of a step, and what the library logged meanwhile, such as that a batch could not be captured."""
    messages, log = Messages(), logging.getLogger("gpurender")
    log.setLevel(logging.INFO)
    log.addHandler(messages)
    try:
        step(here)
        outcome = {"outcome": "passed"}
    except seen.NotInstalledError as error:
        outcome = {"outcome": "left out", "error": str(error)}
    except seen.CutError as error:
        outcome = {"outcome": "cut", "error": str(error)}
    except Exception as error:
        traceback.print_exc()
        outcome = {"outcome": "failed", "error": f"{type(error).__name__}: {error}"[:4000]}
    finally:
        log.removeHandler(messages)
    return outcome | ({"log_messages": messages.texts} if messages.texts else {})


class Messages(logging.Handler):
    """What the library logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message once."""
        if (text := record.getMessage()) not in self.texts:
            self.texts.append(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument("command", choices=list(PLANS))
    made.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="for the results; made if need be")
    made.add_argument("--seconds", type=float, metavar="N", help="budget of the whole run (default: the plan's)")
    made.add_argument("--only", nargs="+", metavar="STEP", help="some of the command's steps")
    made.add_argument("--rehearse", action="store_true", help="on a CPU, with little of everything")
    return made


def chosen(command: str, only: Sequence[str] | None) -> list[Part]:
    """The parts of a plan that are asked for, in its order.

    Raises:
        ValueError: it has no such step.
    """
    names = [part.name for part in PLANS[command]]
    for name in only or ():
        if name not in names:
            raise ValueError(f"--only must name steps of {command}, some of {', '.join(names)}, got {name!r}")
    return [part for part in PLANS[command] if only is None or part.name in only]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if every step passed or was left out, 1 if not, 2 if it could not begin."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["--alone"]:
        return alone(arguments[1], _alone_parser().parse_args(arguments[2:]))
    options = parser().parse_args(arguments)
    try:
        parts = chosen(options.command, options.only)
        seconds = budget(parts) if options.seconds is None else options.seconds
        if not seconds > END:
            raise ValueError(f"--seconds must be more than {END:g}, got {seconds:g}")
        import torch

        if not options.rehearse and not torch.cuda.is_available():
            raise ValueError("a GPU is needed, and torch sees no CUDA device (--rehearse runs the steps on a CPU)")
        file = begin(options.out.absolute(), options.command, {"seconds": seconds, "rehearsal": options.rehearse})
    except ValueError as error:
        print(f"bench.acceptance: {error}", file=sys.stderr)
        return 2
    return watch(file, parts, seconds, options.rehearse)


def watch(file: Path, parts: Sequence[Part], seconds: float, rehearse: bool) -> int:
    """Run the parts in processes of their own, and print what came of it; the exit status."""
    start, stop = time.monotonic(), groups.Stop()
    stop.catch()
    from gpurender.util.environment import environment

    seen.write(file, seen.read(file) | {"environment": environment()})

    def run(part: Part, limit: float) -> int | None:
        command = [sys.executable, "-m", "bench.acceptance", "--alone", part.name, "--file", str(file)]
        command += ["--size", "tiny" if rehearse else part.size, "--seconds", str(limit)]
        return groups.run_group(
            [*command, *(["--rehearse"] if rehearse else [])], log=log_of(file), seconds=limit, stop=stop,
            folder=ROOT, variables={"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)} | kernels_kept(),
        )  # fmt: skip

    result = perform(file, parts, seconds - (time.monotonic() - start), run, stop)
    _say("\n".join(report.summary(result)))
    _say(f"{file}: {time.monotonic() - start:.0f} of {seconds:.0f} s")
    return 0 if all(step["outcome"] in ("passed", "left out") for step in result["steps"].values()) else 1


def kernels_kept() -> dict[str, str]:
    """Variables by which all steps, the tests among them, keep what they compile in one folder: the user's
    ``GPURENDER_CACHE_DIR``, else ``build/acceptance``, where the next run finds it.
    """
    own = os.environ.get("GPURENDER_CACHE_DIR", "")
    folder = Path(own) if os.path.isabs(own) else ROOT / "build/acceptance"
    return {
        "GPURENDER_CACHE_DIR": str(folder), "NUMBA_CACHE_DIR": str(folder / "numba"),
        "TRITON_CACHE_DIR": str(folder / "triton"), "GPURENDER_TESTS_CACHE": str(folder),
    }  # fmt: skip


def _alone_parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--file", required=True)
    made.add_argument("--size", choices=seen.SIZES, required=True)
    made.add_argument("--seconds", type=float, required=True)
    made.add_argument("--rehearse", action="store_true")
    return made


if __name__ == "__main__":
    sys.exit(main())
