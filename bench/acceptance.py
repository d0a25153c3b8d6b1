"""Everything that must be seen on a GPU, in one command, and one JSON file of what was seen.

    python bench/acceptance.py [--quick] [--only STEP ...] [--out FILE]

Steps: tests, equality, sanitizer, consumers, table, augment, sweep, search, profile, train, files, soak. Each runs in a
process of its own: one that fails, crashes or hangs is recorded with its error, and the others go on. Exit status 1 if
any failed. On an H200 all but the soak should fit ten minutes (``--quick``: a few); the soak may take eight more.
"""

import argparse
import functools
import json
import logging
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]  # runs in a checkout, installed or not

import torch  # noqa: E402
from steps import STEPS, NotInstalledError  # noqa: E402

from gpurender.environment import environment  # noqa: E402
from gpurender.files import check_writable  # noqa: E402

Step = Callable[[bool], dict[str, Any]]
PATIENCE = 590  # seconds for a step


class Messages(logging.Handler):
    """What the library logs, such as that batches are not captured in a graph."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message once."""
        if (text := record.getMessage()) not in self.texts:
            self.texts.append(text)


def seen_of(step: Step, quick: bool) -> dict[str, Any]:
    """What a step saw, whatever became of it."""
    messages, log, start = Messages(), logging.getLogger("gpurender"), time.perf_counter()
    log.setLevel(logging.INFO)
    log.addHandler(messages)
    try:
        seen = {"passed": True} | step(quick)
    except NotInstalledError as error:
        seen = {"passed": None, "error": str(error)}
    except Exception as error:
        text, where = f"{type(error).__name__}: {error}"[:4000], traceback.format_exc()[-1500:]
        seen = {"passed": False, "error": text, "where": where}
    finally:
        log.removeHandler(messages)
    if messages.texts:
        seen["log"] = messages.texts
    return {"seconds": round(time.perf_counter() - start, 1)} | seen


def perform(steps: dict[str, Step], quick: bool, out: str) -> dict[str, Any]:
    """Run the steps; the file is written after each, so that what was seen survives whatever comes."""
    result: dict[str, Any] = {"environment": environment(), "quick": quick, "steps": {}}
    for name, step in steps.items():
        seen = result["steps"][name] = seen_of(step, quick)
        Path(out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"{name:<10} {mark(seen)} in {seen['seconds']} s", flush=True)
    return result


def alone(name: str, quick: bool) -> dict[str, Any]:
    """A step in a process of its own: after some errors a process can use its GPU no more."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, str(ROOT / "bench/acceptance.py"), "--alone", "--only", name, "--out", file.name]
        done = subprocess.run([*command, *(["--quick"] if quick else [])], check=False, timeout=PATIENCE)
        text = Path(file.name).read_text(encoding="utf-8")
    if not text:
        raise RuntimeError(f"the process of the step ended with status {done.returncode}")
    return json.loads(text)


def mark(seen: dict[str, Any]) -> str:
    """The outcome in a word."""
    return {True: "passed", False: "FAILED", None: "left out"}[seen["passed"]]


def summary(result: dict[str, Any]) -> str:
    """A short table, for the end of a long log."""
    lines = []
    for name, seen in result["steps"].items():
        said = seen.get("summary") or seen.get("error", "")[:150] or "; ".join(seen.get("log", []))[:150]
        lines.append(f"{name:<10} {mark(seen):<9} {said}")
        for row in seen.get("rows", []):
            if "recipe" in row:
                lines.append("  " + _line(row))
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    kept = {True: " kept", False: " drawn", None: ""}[row.get("cached")]
    more = [f"{row['overhead_percent']:+} % a step"] if "overhead_percent" in row else []
    more += [f"{row[key]} % of the {key[11:]}" for key in ("percent_of_goal", "percent_of_limit") if row.get(key)]
    rate = f"{row['images_per_second']['median']:>12,.0f} images/s"
    return ", ".join([f"{row['recipe']:<14}{row['stage'] + kept:<14}{row['batch_size']:>5} {rate}", *more])


def main(arguments: list[str] | None = None) -> int:
    """Run the steps asked for; 0 if none failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller measure of everything")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), metavar="STEP", help=f"some of {', '.join(STEPS)}")
    parser.add_argument("--out", default="acceptance.json", metavar="FILE", help="default acceptance.json")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("acceptance.py needs a CUDA device, and torch sees none", file=sys.stderr)
        return 2
    if options.alone:  # this is the process of one step
        (name,) = options.only
        seen = seen_of(STEPS[name], options.quick)
        Path(options.out).write_text(json.dumps(seen), encoding="utf-8")
        return 0
    try:
        check_writable(options.out)
    except ValueError as error:
        print(f"acceptance.py: {error}", file=sys.stderr)
        return 2
    chosen = {name: functools.partial(alone, name) for name in STEPS if not options.only or name in options.only}
    result = perform(chosen, options.quick, options.out)
    print(summary(result))
    return 1 if any(seen["passed"] is False for seen in result["steps"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
