"""Small faults in a toy library: trials/mutations, which puts them into ours, tells what its tests notice."""

import collections
import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("cosmic_ray", reason="needs cosmic-ray, of the extra 'test'")
pytest.importorskip("coverage", reason="needs coverage, of the extra 'test'")
from trials.mutations import mutants, reach

TOY = '''
import functools
import logging
from typing import TYPE_CHECKING

_log = logging.getLogger("toy")
LIMIT = 10
Number = int | float


def clipped(x: int | float) -> int | float:
    """Return the double of x, at most 20."""
    if x > LIMIT:
        _log.info("%d is more than %d", x, 10 + 0)
        return 20
    return x * 2


@functools.cache
def checked(x: int, *, strict: bool = True) -> int:
    if x < 0:
        least = 0 + 0
        raise ValueError(f"x must be at least {0 + 0} or {least}, not {x}")
    return max([x], key=abs, default=0)


def unseen(x):
    return x + 1
'''
TESTS = """
import time

import pytest

from gpurender import toy


def test_clipped():
    assert [toy.clipped(x) for x in (0, 3, 12)] == [0, 6, 20]


def test_checked():
    with pytest.raises(ValueError):
        toy.checked(-1)
    assert toy.checked(0) == 0


def test_that_fails():
    assert toy.clipped(1) == 3


def test_that_hangs():
    if toy.clipped(3) != 6:
        time.sleep(60)
"""


@pytest.fixture(scope="module")
def toy(root, tmp_path_factory):
    """A checkout of another library, with our trials/."""
    folder = tmp_path_factory.mktemp("mutations") / "toy"
    shutil.copytree(root / "trials", folder / "trials", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {
        "gpurender/__init__.py": "",
        "gpurender/util/environment.py": "def environment():\n    return {'gpu': None}\n",
        "gpurender/toy.py": TOY,
        "tests/test_toy.py": TESTS,
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    if shutil.which("git") is None:
        pytest.skip("needs git")
    plain = dict.fromkeys(("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"), os.devnull)  # whatever this user has set
    subprocess.run(["git", "init", "-q"], cwd=folder, env={**os.environ, **plain}, check=True)
    return folder


def python(toy, code):
    """Run code in the toy's folder, with no more packages loaded than it needs."""
    code = "import sys; from trials.mutations import suite; suite.HEAVY = ('numba', 'pytest')\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=toy, capture_output=True, text=True, timeout=300, check=False
    )


def run(toy, *words):
    done = python(
        toy, f"from trials.mutations import __main__ as run; sys.exit(run.main({[str(word) for word in words]}))"
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done


def test_what_tests_cannot_notice_is_left_out():
    """No annotation, alias, message, logged text or cache; each fault is Python and differs from the source."""
    found = [(mutant, mutant.applied(TOY)) for mutant in mutants.mutants(TOY, "toy.py")]
    lines = collections.defaultdict(set)
    for mutant, _ in found:
        lines[mutant.line].add(mutant.operator.split("_")[0])
    source = TOY.split("\n")
    assert {source[line - 1].strip() for line in lines} == {
        "LIMIT = 10",
        "if x > LIMIT:",
        "return 20",
        "return x * 2",
        "def checked(x: int, *, strict: bool = True) -> int:",
        "if x < 0:",
        'raise ValueError(f"x must be at least {0 + 0} or {least}, not {x}")',
        "return max([x], key=abs, default=0)",
        "return x + 1",
    }
    assert {mutant.line for mutant, _ in found if mutant.once} >= {
        number for number in lines if "max(" in source[number - 1]
    }
    assert not any(mutant.once for mutant, _ in found if source[mutant.line - 1].strip() == "return x * 2")
    refusal = next(number for number, line in enumerate(source, 1) if "raise" in line)
    assert lines[refusal] == {"RemoveStatement"}
    for mutant, changed in found:
        assert changed not in (None, TOY), mutant
    texts = [changed for _, changed in found]
    assert any("max([x], default=0)" in text for text in texts)
    assert any("max([x], key=abs)" in text for text in texts)
    assert any("        pass\n    return max" in text for text in texts)


def test_an_exception_with_a_dotted_name_is_passed_over():
    """cosmic-ray cannot replace it."""
    source = "try:\n    f()\nexcept (a.B, KeyError):\n    pass\n"
    found = [mutant.applied(source) for mutant in mutants.mutants(source, "toy.py") if "Exception" in mutant.operator]
    assert len(found) == 2
    assert None in found
    assert any(text and "a.B" in text and "KeyError" not in text for text in found)


def test_half_of_the_budget_goes_to_the_likeliest_and_half_to_the_shortest():
    """What sets up a file is paid for once."""
    times = {"x::a": 3.0, "y::b": 9.0, "x::c": 2.0, "z::d": 1.0}
    cost = reach.Cost(times, {"x": 4.0, "y": 0.0, "z": 0.5})
    for budget, found in (
        (39.0, "abcd"),
        (19.5, "acdb"),
        (16.0, "adc"),
        (12.5, "cda"),
        (8.5, "dc"),
        (1.5, "d"),
        (0.0, "d"),
    ):
        assert "".join(test[-1] for test in cost.within(list(times), budget)) == found
    assert cost.within([], 9.0) == []
    assert cost.of("x::c") == 6.0


def test_the_order_is_the_seeds(toy):
    paths = mutants.modules(toy)
    assert "gpurender/toy.py" in paths
    orders = [[mutant for mutant, _ in mutants.drawn(toy, seed, paths)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert len({(mutant.line, mutant.column) for mutant in orders[0]}) == len(orders[0])


def test_faults_are_killed_survive_or_are_not_reached(toy, tmp_path):
    """The boundary of the limit is not tested, nor is what nothing calls; a test that fails anyway kills nothing."""
    out = tmp_path / "found.json"
    words = ("--seed", 4, "--only", "gpurender/toy.py", "--out", out)
    run(toy, "--count", 3, *words)
    first = json.loads(out.read_text())["mutants"]
    assert len(first) == 3
    done = run(toy, "--count", 12, *words)
    found = json.loads(out.read_text())
    rows = found["mutants"]
    assert rows[:3] == first  # not tried again
    assert found["environment"] == {"gpu": None}
    assert found["mutations"]["tried"] == len(rows)
    assert (toy / "gpurender/toy.py").read_text() == TOY
    for row in rows:
        assert row["by"] != "tests/test_toy.py::test_that_fails"
        if "+    return x + 1" in row["change"] or "-    return x + 1" in row["change"]:
            assert row["outcome"] == "not reached"
        if "-    return x * 2" in row["change"]:
            assert (row["outcome"], row["by"]) == ("killed", "tests/test_toy.py::test_clipped")
        if "-LIMIT = 10" in row["change"]:
            assert row["outcome"] == "survived"
    assert {row["outcome"] for row in rows} == {"killed", "survived", "not reached"}
    survivors = [row for row in rows if row["outcome"] in ("survived", "not reached")]
    assert done.returncode == 1
    assert all(f"[{row['number']}]" in done.stdout for row in survivors)


def test_a_test_that_hangs_notices_too(toy):
    """It ends within its limit, and so does the process that it runs in."""
    code = """
        from pathlib import Path

        suite.preload()
        tree = suite.Tree(Path.cwd(), Path("build/hangs").resolve(), "none")
        test = "tests/test_toy.py::test_that_hangs"
        known = {test, "tests/test_toy.py::test_that_fails"}
        assert suite.Run(tree, ["tests/test_toy.py"], [test], known=known).whole().failed is None
        with tree.changed("gpurender/toy.py", "def clipped(x):\\n    return 0\\n"):
            limits = {"collection": 60.0, test: 1.0}.get
            run = suite.Run(tree, ["tests/test_toy.py"], [test], known=known, limits=limits)
            outcome = run.whole()
        assert (outcome.failed, outcome.why) == (test, "no end within 1 s"), outcome
        assert not run.process.is_alive()
        assert "LIMIT" in (tree.root / "gpurender/toy.py").read_text()
    """
    done = python(toy, code)
    assert done.returncode == 0, done.stderr


def test_a_fault_in_a_table_is_tried_with_the_tests_of_the_modules_that_import_it(tmp_path):
    (tmp_path / "gpurender").mkdir()
    (tmp_path / "gpurender/toy.py").write_text("from gpurender.table import TABLE\n\n\ndef f():\n    return TABLE\n")
    (tmp_path / "gpurender/table.py").write_text("TABLE = [1, 2]\n")
    (tmp_path / "test_toy.py").write_text("from gpurender import toy\n")
    (tmp_path / "test_other.py").write_text("from gpurender.table import TABLE\n")
    (tmp_path / "found.json").write_text(
        json.dumps(
            {
                "times": {"test_toy.py::test_f": 1.0, "test_other.py::test_g": 1.0, "test_other.py::test_h": 1.0},
                "setup": 0.0,
                "failures": [],
                "lines": {
                    "gpurender/table.py": {"1": ["test_other.py::test_g (call)"]},
                    "gpurender/toy.py": {"1": ["test_other.py::test_g (call)"], "5": ["test_toy.py::test_f (call)"]},
                },
            }
        )
    )
    found = reach.Reach(tmp_path, [tmp_path / "found.json"])
    assert set(found.tests("gpurender/table.py", (1, 1), once=True)) == set(found.cost.times)
    assert found.tests("gpurender/toy.py", (5, 5), once=False) == ["test_toy.py::test_f"]
    for path, files in {
        "gpurender/toy.py": {"test_toy.py"},
        "gpurender/table.py": {"test_other.py"},
        "gpurender/tab.py": set(),
    }.items():
        assert found.importers(path) == files
    assert found.tests("gpurender/table.py", (1, 1), once=True)[0] == "test_other.py::test_g"
    # test_h runs no line of a module, but may compare the table that its file has imported
    assert "test_other.py::test_h" not in found.tests("gpurender/table.py", (1, 1), once=False)
