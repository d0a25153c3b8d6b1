"""trials.versions: bounds from metadata, and what a run of tests counts."""

import sys

import pytest

from trials import versions

REQUIRES = [
    "numpy>=1.24.4",
    "torchvision; extra == 'train'",
    'timm >= 1.0.31; extra == "train"',
    'ruff; extra == "dev"',
]
TESTS = """
import pytest


def test_right():
    pass


def test_wrong():
    assert False


@pytest.mark.skip(reason="of an example")
def test_left_out():
    pass


def test_unprepared(nothing_of_this_name):
    pass
"""


def test_lower_bounds_are_those_of_the_project_and_the_chosen_extras():
    assert versions.lower_bounds(REQUIRES, {"train"}) == {"numpy": "1.24.4", "timm": "1.0.31"}
    assert versions.lower_bounds(REQUIRES, set()) == {"numpy": "1.24.4"}


@pytest.mark.parametrize("said", ["numpy", "numpy==1.24.4", "numpy>=1.24,<3"])
def test_a_requirement_without_one_lower_bound_is_named(said):
    with pytest.raises(ValueError, match=r"^the requirement 'numpy.* must have one lower bound"):
        versions.lower_bounds([said], set())


def test_what_is_pinned():
    oldest = versions.constraints(versions.SETS["oldest"])
    assert {line.partition("==")[0] for line in oldest} == {
        "accelerate", "numba", "numpy", "pillow", "safetensors", "timm", "torch", "tqdm",
    }  # fmt: skip
    gpus = versions.constraints(versions.SETS["oldest-cuda"])
    assert {line.partition("==")[0] for line in gpus} == {
        *("accelerate", "numba", "numpy", "pillow", "safetensors", "timm", "tqdm"),
        *("cupy-cuda12x", "triton"),  # which brings its own torch
    }
    assert versions.constraints(versions.SETS["newest"]) == []


def test_every_outcome_is_counted(tmp_path, capfd):
    (tmp_path / "test_four.py").write_text(TESTS)
    found = versions.run_tests(sys.executable, [str(tmp_path / "test_four.py")], tmp_path)
    assert (found["passed"], found["skipped"]) == (1, 1)
    assert [name.partition("::")[2] for name in found["failed"]] == ["test_wrong", "test_unprepared"]
    row = {"set": "newest", "seconds": 3, "versions": {"python": "3.13.0"}, **found}
    assert versions.line(row) == "newest: 1 passed, 2 failed, 1 skipped, 3 s, 0.0 GB; python 3.13.0"


def test_a_run_without_tests_is_a_failure(tmp_path, capfd):
    (tmp_path / "test_none.py").write_text("")
    found = versions.run_tests(sys.executable, [str(tmp_path / "test_none.py")], tmp_path)
    assert found == {"passed": 0, "skipped": 0, "failed": ["pytest ended with exit status 5"]}


def test_a_run_whose_tests_are_all_skipped_is_a_failure(tmp_path, capfd):
    (tmp_path / "test_none.py").write_text("import pytest\n\n\n@pytest.mark.skip\ndef test_left_out():\n    pass\n")
    found = versions.run_tests(sys.executable, [str(tmp_path / "test_none.py")], tmp_path)
    assert found == {"passed": 0, "skipped": 1, "failed": ["no test passed"]}


def test_a_run_that_does_not_end_is_a_failure(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(versions, "LIMIT", 1)
    (tmp_path / "test_long.py").write_text("import time\n\n\ndef test_long():\n    time.sleep(60)\n")
    found = versions.run_tests(sys.executable, [str(tmp_path / "test_long.py")], tmp_path)
    assert found == {"passed": 0, "skipped": 0, "failed": ["pytest took longer than 1 s"]}


def test_an_interpreter_that_is_not_there_is_a_failure(tmp_path):
    row = versions.trial(str(tmp_path / "python9"), "newest", tmp_path / "environment")
    assert row["set"] == "newest"
    assert row["failed"][0].startswith("not installed: ")
