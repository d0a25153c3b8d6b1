"""Mutations: small faults are put into the library at random, one at a time; do the tests notice?

    python -m trials.mutations --count 110 --seed 2 --out FILE    goes on where FILE ends, if it is of the same run
    python -m trials.mutations --mutant N --seed 2                one of them again: its change, and pytest's output

Needs the extra 'test'. First every test file runs once under coverage.py, which says which tests run a line. A
mutant is then made in a copy of the checkout, and the tests that run its line are run until one fails (``killed``), or
takes ten times as long as before and 30 s (``timed out``). A test that fails without the mutant as well decides
nothing. ``survived``: none of them failed, of as many as fit into --budget, nor, at the end, of five times as many;
``not reached``: no test runs the line here, as with code for a GPU on a machine without one. Which mutants there are
stands in mutants.py.

Exit status 1 if one survived or was not reached.
"""

import argparse
import collections
import contextlib
import difflib
import fnmatch
import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trials.mutations import reach, suite
from trials.mutations.mutants import Mutant, drawn, modules

ROOT = Path(__file__).resolve().parents[2]
NOTICED = ("killed", "timed out")
LONGER = 5  # times the budget for what a survivor has not been tried with


class Bench:
    """What a worker has: a copy of the tree, what its tests reach, and which of them were seen to pass unchanged."""

    def __init__(self, work: Path, number: int) -> None:
        self.tree = suite.Tree(ROOT, work / str(number), reach.digest(ROOT))
        self.passed: dict[str, bool] = {}

    def trial(self, mutant: Mutant, source: str, tests: list[str], cost: reach.Cost) -> suite.Outcome:
        """Return what the tests say of a mutant; those that fail without it too are left out."""
        while True:
            with self.tree.changed(mutant.path, source):
                value = mutant.once and mutant.operator not in ("DropKeyword", "RemoveDecorator")
                fresh = value and mutant.path in _frozen(self.tree.root)
                outcome = self._run(tests, cost, fresh)
            if outcome.failed not in tests or self._passes(outcome.failed, cost):
                return outcome
            tests = [test for test in tests if test != outcome.failed]

    def _run(self, tests: list[str], cost: reach.Cost, fresh: bool = False) -> suite.Outcome:
        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        slower = 5 * suite.SLOWER if fresh else suite.SLOWER
        return suite.Run(
            self.tree,
            files,
            tests,
            limits=lambda test: suite.PATIENCE + slower * cost.of(test),
            fresh=fresh,
            known=cost.times,
        ).whole()

    def _passes(self, test: str, cost: reach.Cost) -> bool:
        if test not in self.passed:
            self.passed[test] = self._run([test], cost).failed is None
        return self.passed[test]


def _frozen(root: Path) -> set[str]:
    """Modules whose values are compiled into kernels of the CPU: what is kept of these does not see a change."""
    found = set()
    for file in root.glob("gpurender/kernels/*/cpu*.py"):
        for module, names in re.findall(r"^from gpurender\.?(\S*) import (.+)$", file.read_text(), re.MULTILINE):
            parts = module.split(".") if module else []
            for place in (parts, *([*parts, name.strip()] for name in names.split(","))):
                path = "/".join(["gpurender", *place])
                found |= {f"{path}.py", f"{path}/__init__.py"}
    return found


# ------------------------------------------------------------------------------------------------- one worker's side

_bench: Bench  # of this process


def _begin(work: Path, numbers: Any) -> None:
    global _bench
    suite.end_with_parent()
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    _bench = Bench(work, number)


def _measured(file: str, folder: Path) -> Path:
    return reach.measure(_bench.tree, file, folder)


def _tried(number: int, mutant: Mutant, source: str, tests: list[str], cost: reach.Cost, **more: Any) -> Any:
    row = {"number": number, "path": mutant.path, "line": mutant.line, "operator": mutant.operator}
    row["change"] = changes((_bench.tree.root / mutant.path).read_text(encoding="utf-8"), source)
    row |= {"tests": len(tests), **more}
    if not tests:
        return row | {"outcome": "not reached", "by": None, "seconds": 0.0}
    outcome = _bench.trial(mutant, source, tests, cost)
    late = outcome.why.startswith("no end within")
    kind = "survived" if outcome.failed is None else "timed out" if late else "killed"
    return row | {"outcome": kind, "by": outcome.failed, "seconds": round(outcome.seconds, 1)}


# ---------------------------------------------------------------------------------------------------------- the whole


def changes(before: str, after: str) -> list[str]:
    """Return the lines that differ, with - and + before them."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


@contextlib.contextmanager
def workers(work: Path, count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that have the heavy packages, each with a copy of the tree."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(count, context, _begin, (work, context.Value("i", 0))) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def measured(pool: ProcessPoolExecutor, work: Path) -> reach.Reach:
    """Return what the tests reach, measured where it is not known."""
    jobs = [pool.submit(_measured, file, work / "reach") for file in reach.test_files(ROOT)]
    bar = tqdm(as_completed(jobs), total=len(jobs), unit="file", desc="what tests reach")
    return reach.Reach(ROOT, sorted(job.result() for job in bar))


def chosen(seed: int, only: list[str], count: int) -> list[tuple[int, Mutant, str]]:
    """Return the first mutants of a seed, numbered, of the modules that a pattern fits."""
    paths = [path for path in modules(ROOT) if any(fnmatch.fnmatch(path, pattern) for pattern in only)]
    return [(number, *some) for number, some in enumerate(itertools.islice(drawn(ROOT, seed, paths), count))]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many there are of each outcome, and the percentage that was noticed."""
    counts = collections.Counter(row["outcome"] for row in rows)
    noticed = sum(counts[name] for name in NOTICED)
    return {"tried": len(rows), **counts, "noticed_percent": round(100 * noticed / max(len(rows), 1), 1)}


def report(rows: list[dict[str, Any]]) -> str:
    """Return a short table, and every mutant that no test noticed."""
    lines = [f"{name:<20}{value:>9}" for name, value in summary(rows).items()]
    for row in rows:
        if row["outcome"] not in NOTICED:
            lines.append(f"[{row['number']}] {row['path']}:{row['line']} {row['operator']}: {row['outcome']}")
            lines += [f"    {line}" for line in row["change"]]
    return "\n".join(lines)


def campaign(options: argparse.Namespace, kept: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield all rows, whenever one is new: first every mutant, then each survivor before the tests that were left."""
    rows = {row["number"]: row for row in kept}
    with workers(options.work, options.processes) as pool:
        found = measured(pool, options.work)
        mutants = chosen(options.seed, options.only, options.count)
        for turn in ("mutations", "survivors"):
            jobs = []
            for number, mutant, source in mutants:
                tests = found.tests(mutant.path, mutant.lines, mutant.once)
                some, row = found.cost.within(tests, options.budget), rows.get(number)
                if row is not None and row["outcome"] == "survived" and row["turn"] == "mutations" and some != tests:
                    before = set(some)
                    tests = [test for test in tests if test not in before]
                    some = found.cost.within(tests, LONGER * options.budget)
                elif row is not None:
                    continue
                left = len(tests) - len(some)
                jobs.append(pool.submit(_tried, number, mutant, source, some, found.cost, left=left, turn=turn))
            bar = tqdm(as_completed(jobs), total=len(jobs), unit="mutant", desc=turn)
            for job in bar:
                row = job.result()
                rows[row["number"]] = row
                bar.set_postfix(survived=sum(row["outcome"] not in NOTICED for row in rows.values()))
                yield [rows[number] for number in sorted(rows)]
    yield [rows[number] for number in sorted(rows)]


def again(options: argparse.Namespace) -> int:
    """Show one mutant, and run all tests that reach it, whatever they take; 1 if none failed."""
    number, mutant, source = chosen(options.seed, options.only, options.mutant + 1)[-1]
    with workers(options.work, 1) as pool:
        found = measured(pool, options.work)
        tests = found.tests(mutant.path, mutant.lines, mutant.once)
        row = pool.submit(_tried, number, mutant, source, tests, found.cost).result()
        log = options.work / "0" / "scratch" / "log"
        print(log.read_text(encoding="utf-8", errors="replace")[-10_000:] if tests else "")
    print(report([row]) if row["outcome"] not in NOTICED else "\n".join([*row["change"], f"{row['by']} failed"]))
    return int(row["outcome"] not in NOTICED)


def known(path: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a result file that is of the same run; an error if it is another's."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if any(found["mutations"].get(name) != value for name, value in run.items()):
        sys.exit(f"trials.mutations: {path} is of another run; name another file for --out")
    return found["mutants"]


def _environment() -> dict[str, Any]:
    """What stands in every result. A process of its own asks: this one must not import the library."""
    code = "import json; from gpurender.util.environment import environment; print(json.dumps(environment()))"
    words = [sys.executable, "-c", code]
    return json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 1 if a mutant was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="mutants; default 100")
    parser.add_argument("--seed", type=int, default=0, help="of the choice; default 0")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="modules, as 'gpurender/loading/*'")
    parser.add_argument("--budget", type=float, default=120.0, metavar="SECONDS", help="of tests a mutant; default 120")
    parser.add_argument("--processes", type=int, default=1, help="each with a copy of the tree; default 1")
    parser.add_argument("--mutant", type=int, metavar="N", help="try mutant N again and show what its tests say")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON, written after every mutant")
    parser.add_argument("--work", type=Path, default=ROOT / "build/mutations", metavar="FOLDER", help="copies, kept")
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    suite.preload()
    if options.mutant is not None:
        return again(options)
    run = {"seed": options.seed, "only": options.only, "library": reach.digest(ROOT)}
    kept = known(options.out, run) if options.out else []
    result = {"environment": _environment(), "mutations": run, "seconds": 0.0, "mutants": kept}
    start, rows = time.perf_counter(), kept
    for rows in campaign(options, kept):
        result |= {"mutations": {**run, **summary(rows)}, "mutants": rows}
        result["seconds"] = round(time.perf_counter() - start, 1)
        if options.out:
            part = options.out.with_name(options.out.name + ".part")
            part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            os.replace(part, options.out)
    print(report(rows))
    return int(any(row["outcome"] not in NOTICED for row in rows))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("trials.mutations: interrupted; the same command goes on behind the last mutant in --out")
