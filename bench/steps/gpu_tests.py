"""The tests marked gpu."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from bench.steps.seen import CutError, Seen
from bench.steps.tools import ROOT, run

OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
# Left out where time is short: one whose CPU side takes a minute, and 56 that draw on the CPU beside a GPU.
SLOW = "tests/kernels/test_chaos_game_cuda.py::test_the_gpu_draws_the_reference[7-2048]"
ON_THE_CPU = "not (test_results_do_not_depend_on_it_beside_a_gpu and cpu)"
INTERRUPTED = 2  # pytest's exit status
EARLY = 15.0  # seconds before the step's limit at which pytest is interrupted: it ends its workers and reports


def gpu_tests(seen: Seen) -> None:
    """Run them, none of which may be skipped for want of a GPU: counts as they come, then a row a failure."""
    counts: dict[str, int] = {}
    ended: list[str] = []  # the summary names tests once more

    def heard(line: str) -> None:
        if "short test summary info" in line:
            ended.append(line)
        if not ended and "::" in line and (found := OUTCOME.search(line)):
            counts[found[1].lower()] = counts.get(found[1].lower(), 0) + 1
            seen.note(counts=counts)

    xml = seen.file.with_name("tests.xml") if seen.file is not None else None
    variables = {} if seen.device == "cpu" else {"GPURENDER_REQUIRE_CUDA": "1"}
    words = command(xml, several=seen.size != "tiny", all_of_them=seen.size == "long")
    status, text = run(words, on_line=heard, interrupt_after=max(1.0, seen.left() - EARLY), **variables)
    if xml is not None and xml.is_file():
        for row in failures(xml):
            seen.row(row)
    if status == INTERRUPTED and not seen.rows:
        raise CutError(f"interrupted {EARLY:g} s before its limit, after {counts}")
    if status:
        raise AssertionError(f"exit {status}: {text[-2000:]}")


def command(xml: Path | None, *, several: bool, all_of_them: bool) -> list[str]:
    """pytest on the files that have such tests; in several processes, and with a limit a test, where these can be."""
    words = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider", *files()]
    if several and find_spec("xdist") is not None:
        words += ["-n", "6", "--dist", "worksteal"]  # half of the tests are in one file
    if find_spec("pytest_timeout") is not None:
        words += ["--timeout", "120"]
    if not all_of_them:
        words += ["--deselect", SLOW, "-k", ON_THE_CPU]
    return [*words, f"--junitxml={xml}"] if xml is not None else words


def files() -> list[str]:
    """The test files in which some test is marked gpu."""
    return sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"^(@|pytestmark = )pytest\.mark\.gpu\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    )


def failures(xml: Path) -> list[dict[str, str]]:
    """Name and message of each test that failed or could not run, of a JUnit report."""
    return [
        {"test": f"{case.get('classname')}::{case.get('name')}", kind: (found.get("message") or "")[:500]}
        for case in ElementTree.parse(xml).iter("testcase")
        for kind in ("failure", "error")
        if (found := case.find(kind)) is not None
    ]
