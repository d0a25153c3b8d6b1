"""Which tests run a line, and how long each takes: measured once by coverage.py, file by file.

Processes that tests start are measured as well, as long as they end by themselves.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials.mutations.suite import Run, Tree

LIBRARY = ("gpurender/**/*.py", "gpurender/**/*.cu*", "gpurender/**/*.json")


def test_files(root: Path) -> list[str]:
    """Return the test files as pytest names them, without that of this trial."""
    paths = sorted((root / "tests").rglob("test_*.py"))
    return [str(path.relative_to(root)) for path in paths if path.stem != "test_mutations"]


def digest(root: Path, file: str | None = None) -> str:
    """Return a name for the library's sources; with a test file, for these, all helpers of tests, and that file."""
    helpers = [
        path
        for folder in ("tests", "trials")
        for path in (root / folder).rglob("*")
        if path.is_file() and not path.match("test_*.py") and not path.match("__pycache__/*")
    ]
    paths = {path for pattern in LIBRARY for path in root.glob(pattern)}
    paths |= {*helpers, root / file} if file else set()
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def measure(tree: Tree, file: str, folder: Path) -> Path:
    """Return a JSON file of what the tests of a file reach and last, on the unchanged tree; made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{file.replace('/', '.')}.{digest(tree.root, file)}"
    done = folder / f"{name}.json"
    if done.exists():
        return done
    for stale in folder.glob(f"{name}.cover*"):
        stale.unlink()
    outcome = Run(tree, [file], first=False, measured=folder / f"{name}.cover").whole()
    result = {
        "times": {test: round(seconds, 3) for test, seconds in outcome.times.items()},
        "setup": round(max(outcome.setups.values(), default=0.0), 3),
        "failures": sorted(set(outcome.failures)),
        "lines": _lines(tree.root, sorted(folder.glob(f"{name}.cover*"))),
    }
    part = done.with_suffix(".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    return part.replace(done)


def _lines(root: Path, files: list[Path]) -> dict[str, dict[str, list[str]]]:
    """Of each module the contexts ("test (call)", "test (setup)" or "") by line."""
    import coverage

    found: dict[str, dict[str, set[str]]] = collections.defaultdict(lambda: collections.defaultdict(set))
    for file in files:
        data = coverage.CoverageData(basename=str(file))
        try:
            data.read()
        except coverage.CoverageException:
            continue  # its process was killed while it wrote
        for path in data.measured_files():
            name = str(Path(path).relative_to(root))
            for line, contexts in data.contexts_by_lineno(path).items():
                found[name][str(line)].update(contexts)
        file.unlink()
    return {name: {line: sorted(some) for line, some in lines.items()} for name, lines in found.items()}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds: ``times`` of each test, and ``setups``, the longest that a test of each file needed to be set up."""

    times: dict[str, float]
    setups: dict[str, float]

    def of(self, test: str) -> float:
        """Return what a test may take, alone."""
        return self.times.get(test, 10.0) + self.setups.get(_file(test), 0.0)

    def within(self, tests: list[str], budget: float) -> list[str]:
        """Return tests that fit into the budget together, and the shortest if none does.

        The first half of the budget goes to the likeliest, in their order. The other half goes to the shortest of those
        that are left: many files then have a say, such as those of bounds and promises, which name no module.
        """
        likeliest = self._taken(tests, budget / 2, set())
        spent = self._seconds(likeliest)
        left = sorted((test for test in tests if test not in set(likeliest)), key=self.of)
        found = likeliest + self._taken(left, budget - spent, {_file(test) for test in likeliest})
        return found or left[:1]

    def _taken(self, tests: list[str], budget: float, begun: set[str]) -> list[str]:
        """Return the tests, in their order, that fit; files that have ``begun`` are set up already."""
        found, begun = [], set(begun)
        for test in tests:
            more = self.times[test] if _file(test) in begun else self.of(test)
            if more <= budget:
                found.append(test)
                begun.add(_file(test))
                budget -= more
        return found

    def _seconds(self, tests: list[str]) -> float:
        files = {_file(test) for test in tests}
        return sum(self.times[test] for test in tests) + sum(self.setups.get(file, 0.0) for file in files)


class Reach:
    """What the measurements say.

    A test is named as pytest names it. ``broken``: those that fail on the unchanged tree, which decide nothing.
    """

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root = root
        self.cost = Cost({}, {})
        self.broken: set[str] = set()
        self.lines: dict[str, dict[int, set[str]]] = collections.defaultdict(lambda: collections.defaultdict(set))
        self.fixtures: dict[str, dict[int, set[str]]] = collections.defaultdict(lambda: collections.defaultdict(set))
        for file in files:
            self._add(json.loads(file.read_text(encoding="utf-8")))

    def _add(self, found: dict[str, Any]) -> None:
        self.cost.times.update(found["times"])
        self.cost.setups.update({_file(test): found["setup"] for test in found["times"]})
        self.broken.update(found["failures"])
        for path, lines in found["lines"].items():
            for line, contexts in lines.items():
                for context in filter(None, contexts):
                    test, phase = context.rsplit(" (", 1)
                    where = self.fixtures if phase == "setup)" else self.lines
                    where[path][int(line)].add(test)

    def tests(self, path: str, lines: tuple[int, int], once: bool) -> list[str]:
        """Return the tests that run some of the lines, from the first to the last, likeliest first.

        A fixture may serve all tests of its file, so all of them count if it runs a line. A line that a process runs
        ``once`` is reached by all tests that reach anything of the module, or of one that imports its names, and by
        those of the test files that import it: they may compare a table without running a line of its module.
        """
        wanted = range(lines[0], lines[1] + 1)
        some = [(path, line) for line in {*self.lines[path], *self.fixtures[path]} if once or line in wanted]
        for user in self.users(path) if once else ():
            some += [(user, line) for line in {*self.lines[user], *self.fixtures[user]}]
        found = {test for module, line in some for test in self.lines[module].get(line, ())}
        files = {_file(test) for module, line in some for test in self.fixtures[module].get(line, ())}
        files |= self.importers(path) if once else set()
        found |= {test for test in self.cost.times if _file(test) in files}
        return sorted(
            (test for test in found if test in self.cost.times and test not in self.broken), key=self._rank(path)
        )

    def users(self, path: str) -> list[str]:
        """Return the measured modules with a line ``from <the module> import ...``."""
        line = re.compile(rf"^\s*from {re.escape(_module(path))} import ", re.MULTILINE)
        return sorted(user for user in self.lines if line.search((self.root / user).read_text(encoding="utf-8")))

    def importers(self, path: str) -> set[str]:
        """Return the test files with a line that imports the module, or a name from it."""
        package, _, stem = _module(path).rpartition(".")
        line = re.compile(
            rf"^\s*(from {re.escape(package)} import (.*\b)?{stem}\b|(from|import) {re.escape(_module(path))}\b)",
            re.MULTILINE,
        )
        return {file for file in self.cost.setups if line.search((self.root / file).read_text(encoding="utf-8"))}

    def _rank(self, path: str) -> Callable[[str], tuple[Any, ...]]:
        """Files named after the module first, then those that import it, those named after its folder, and the rest.

        Among these the files come first whose tests run little else.
        """
        folder, stem, importers = Path(path).parent.name, Path(path).stem, self.importers(path)
        shares: dict[str, float] = collections.defaultdict(float)
        for test, count in self._counts(path).items():
            shares[_file(test)] = max(shares[_file(test)], count / self._total[test])
        return lambda test: (
            _distance(_file(test), stem, folder, importers),
            -shares[_file(test)],
            _file(test),
            self._order[test],
        )

    def _counts(self, path: str) -> dict[str, int]:
        """How many lines of a module each test runs."""
        found = [
            test for lines in (self.lines[path], self.fixtures[path]) for tests in lines.values() for test in tests
        ]
        return collections.Counter(found)

    @functools.cached_property
    def _total(self) -> dict[str, int]:
        found: collections.Counter[str] = collections.Counter()
        for path in list(self.lines):
            found.update(self._counts(path))
        return found

    @functools.cached_property
    def _order(self) -> dict[str, int]:
        return {test: number for number, test in enumerate(self.cost.times)}


def _distance(file: str, stem: str, folder: str, importers: set[str]) -> int:
    name = Path(file).stem
    return 0 if stem in name else 1 if file in importers else 2 if folder in name else 3


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _file(test: str) -> str:
    return test.split("::")[0]
