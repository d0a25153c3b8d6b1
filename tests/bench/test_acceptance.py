"""The acceptance run: what it keeps when steps hang, crash or are killed, how it spends its time, and its steps.

The steps of the first half are small programs that write by the same means as the real ones. Nothing there depends on
how long anything takes: a program is ended when it has written what the test waits for.
"""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import gpurender as gr
from bench import acceptance, groups, steps
from bench.acceptance import Part
from bench.steps import (
    consumers,
    equality,
    goals,
    gpu_tests,
    kernels,
    ncu,
    rates,
    rehearsal,
    report,
    sanitizer,
    soak,
    tools,
    train,
)  # fmt: skip
from bench.steps.seen import CutError, NotInstalledError, Seen, read, write
from gpurender.benchmark import measure as bench
from tests.support import ROOT

HEAD = f"""
import os, signal, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from bench import groups
from bench.steps.seen import Seen
groups.die_with_parent()
file = Path(sys.argv[1])
seen = Seen(file, sys.argv[2])

def grandchild():
    # deaf to SIGTERM, and it says so before anybody goes on
    words = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(999)"
    child = subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child.pid
"""
PROGRAMS = {
    "good": "seen.row({'value': 1}); seen.note(outcome='passed')",
    "hangs": """
        print('before')
        seen.row({'value': 1})
        seen.row({'pids': [os.getpid(), grandchild()]})
        time.sleep(999)
    """,
    "exits": "seen.row({'value': 1}); os._exit(3)",
    "segfault": "seen.row({'value': 1}); os.kill(os.getpid(), signal.SIGSEGV)",
    "leaves": "seen.row({'pids': [grandchild()]}); seen.note(outcome='passed')",
    "half": """
        from gpurender.util.atomic_files import replacing
        seen.row({'value': 1})
        seen.row({'pids': [os.getpid()]})
        with replacing(file) as temporary:
            with open(temporary, 'w') as half:
                half.write(file.read_text()[:-20])
            (file.parent / 'written').touch()
            time.sleep(999)
    """,
}


def program(name, file, step):
    """The command of a small step."""
    return [sys.executable, "-u", "-c", HEAD + textwrap.dedent(PROGRAMS[name]).strip(), str(file), step]


class When:
    """A wish to end as soon as something is the case."""

    def __init__(self, case):
        self._case = case

    @property
    def signal(self):
        return signal.SIGTERM if self._case() else None


def alive(pid):
    """Whether a process runs: not one that has ended and waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(case, seconds=60):
    """Wait for a case that must come."""
    end = time.monotonic() + seconds
    while not case():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def rows_of(file, name):
    """The rows of a step so far."""
    return read(file)["steps"].get(name, {}).get("rows", [])


def ran(folder, parts, **ended):
    """The result of parts named after their programs; one is ended when ``ended[its name](file)``."""
    file = acceptance.begin(folder, "first", {})

    def run(part, limit):
        log = acceptance.log_of(file)
        stop = When(lambda: part.name in ended and ended[part.name](file))
        command = program(part.name, file, part.name)
        return groups.run_group(command, log=log, seconds=limit, stop=stop, folder=folder, variables={})

    parts = [Part(name, 1000.0, "tiny") for name in parts]
    return acceptance.perform(file, parts, acceptance.budget(parts), run, groups.Stop())


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(groups, "GRACE", 1.0)


def test_a_step_that_hangs_dies_with_its_children_and_the_next_one_runs(tmp_path):
    result = ran(tmp_path / "out", ["hangs", "good"], hangs=lambda file: len(rows_of(file, "hangs")) == 2)
    hung = result["steps"]["hangs"]
    assert (hung["outcome"], hung["rows"][0]) == ("cut", {"value": 1})
    assert "before" in hung["tail"]
    assert "ended at its limit" in hung["error"]
    assert not any(alive(pid) for pid in hung["rows"][1]["pids"])
    assert result["steps"]["good"]["outcome"] == "passed"
    assert result == {key: value for key, value in read(tmp_path / "out/first.json").items() if key in result}


def test_the_log_of_all_steps_is_one_file_and_a_tail_is_of_its_own_step(tmp_path):
    """Few files may come back from a machine that is lent: the JSON, the log, and the tests' report."""
    result = ran(tmp_path / "out", ["hangs", "exits"], hangs=lambda file: len(rows_of(file, "hangs")) == 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first.json", "first.log"]
    log = (tmp_path / "out/first.log").read_text()
    assert log.index("======== hangs\nbefore\n") < log.index('======== exits\n{"value": 1}\n')
    assert result["steps"]["exits"]["tail"] == '{"value": 1}\n'
    assert log[result["steps"]["exits"]["log_from_byte"] :] == '{"value": 1}\n'


def test_children_that_a_step_leaves_behind_are_ended(tmp_path):
    result = ran(tmp_path / "out", ["leaves"])
    assert result["steps"]["leaves"]["outcome"] == "passed"
    assert not alive(result["steps"]["leaves"]["rows"][0]["pids"][0])


@pytest.mark.parametrize(("name", "status"), [("exits", 3), ("segfault", -signal.SIGSEGV)])
def test_a_step_that_crashes_keeps_its_rows_and_the_next_one_runs(tmp_path, name, status):
    result = ran(tmp_path / "out", [name, "good"])
    crashed = result["steps"][name]
    assert (crashed["outcome"], crashed["rows"]) == ("failed", [{"value": 1}])
    assert f"status {int(status)} " in crashed["error"]
    assert result["steps"]["good"]["outcome"] == "passed"


def test_a_run_goes_on_where_nobody_listens(tmp_path):
    """Under nohup a closed terminal is no wish to end; and what is said into a closed pipe is not missed."""
    file = tmp_path / "out/first.json"
    commands = json.dumps({name: program(name, file, name) for name in ("hangs", "good")})
    words = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + DRIVER
    driver = subprocess.Popen(
        [sys.executable, "-c", words, str(file.parent), commands], cwd=tmp_path, stdout=subprocess.PIPE
    )
    driver.stdout.close()
    until(lambda: file.exists() and len(rows_of(file, "hangs")) == 2)
    driver.send_signal(signal.SIGHUP)
    os.kill(rows_of(file, "hangs")[1]["pids"][0], signal.SIGKILL)
    driver.wait(60)
    outcomes = {name: step["outcome"] for name, step in read(file)["steps"].items()}
    assert outcomes == {"hangs": "failed", "good": "passed"}


def test_half_a_row_is_no_row(tmp_path):
    folder = tmp_path / "out"
    result = ran(folder, ["half", "good"], half=lambda file: (folder / "written").exists())
    half = result["steps"]["half"]
    assert (half["outcome"], half["rows"][0], len(half["rows"])) == ("cut", {"value": 1}, 2)
    assert not alive(half["rows"][1]["pids"][0])
    assert result["steps"]["good"]["outcome"] == "passed"
    assert sorted(path.name for path in folder.iterdir()) == ["first.json", "first.log", "written"]


def test_a_program_is_ended_at_its_limit(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(999)"]
    keywords = {"log": tmp_path / "log", "stop": groups.Stop(), "folder": tmp_path, "variables": {}}
    assert groups.run_group(command, seconds=0.2, **keywords) is None
    assert groups.run_group([sys.executable, "-c", "print(7); exit(5)"], seconds=60, **keywords) == 5
    assert (tmp_path / "log").read_text() == "7\n"


DRIVER = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from bench import acceptance, groups
folder, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
file, stop = acceptance.begin(folder, "first", {{}}), groups.Stop()
stop.catch()

def run(part, limit):
    log, command = acceptance.log_of(file), commands[part.name]
    return groups.run_group(command, log=log, seconds=limit, stop=stop, folder=folder, variables={{}})

parts = [acceptance.Part(name, 1000.0, "tiny") for name in commands]
acceptance.perform(file, parts, acceptance.budget(parts), run, stop)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_midway_has_lost_nothing(tmp_path, number):
    file = tmp_path / "out/first.json"
    commands = json.dumps({name: program(name, file, name) for name in ("good", "hangs", "exits")})
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(file.parent), commands], cwd=tmp_path)
    until(lambda: file.exists() and len(rows_of(file, "hangs")) == 2)
    driver.send_signal(number)
    assert driver.wait(60) == (-number if number == signal.SIGKILL else 0)
    result = read(file)
    until(lambda: not any(alive(pid) for pid in result["steps"]["hangs"]["rows"][1]["pids"]))
    assert result["steps"]["good"]["rows"] == result["steps"]["hangs"]["rows"][:1] == [{"value": 1}]
    if number == signal.SIGKILL:  # it could say no more
        assert result["steps"]["hangs"]["outcome"] == "running"
        return
    outcomes = {name: step["outcome"] for name, step in result["steps"].items()}
    assert outcomes == {"good": "passed", "hangs": "stopped", "exits": "left out"}
    assert result["stopped"] == number
    assert any("hangs" in line and "stopped" in line for line in result["summary"])


@pytest.mark.parametrize("command", list(acceptance.PLANS))
@pytest.mark.parametrize("seconds", [None, 60.0, 1000.0])
@pytest.mark.parametrize("used", [1.0, 0.5, 0.0])
def test_limits_come_from_the_budget(tmp_path, command, seconds, used):
    """All steps together take no more than the budget, whatever each takes; what one leaves goes to those behind."""
    parts = acceptance.PLANS[command]
    seconds = acceptance.budget(parts) if seconds is None else seconds
    file, now, limits = acceptance.begin(tmp_path, command, {}), [0.0], []

    def run(part, limit):
        limits.append(limit)
        now[0] += used * limit

    result = acceptance.perform(file, parts, seconds, run, groups.Stop(), clock=lambda: now[0])
    assert now[0] <= seconds - acceptance.END + 1e-6
    shares = [part.share * (seconds - acceptance.END) / (acceptance.budget(parts) - acceptance.END) for part in parts]
    begun = [share for part, share in zip(parts, shares, strict=True) if "limit" in result["steps"][part.name]]
    assert all(limit >= share - 1e-6 for limit, share in zip(limits, begun, strict=True))
    if used == 1.0 and len(limits) == len(parts):
        assert limits == pytest.approx(begun)
    if used == 0.0:
        assert limits[-1] == pytest.approx(seconds - acceptance.END)
    short = [step for step in result["steps"].values() if step["outcome"] == "left out"]
    assert len(short) == len(parts) - len(limits)
    assert all(step["error"] == "no time was left" for step in short)


def test_the_plans_fit_what_they_are_for():
    assert acceptance.budget(acceptance.PLANS["first"]) == 330
    assert acceptance.budget(acceptance.PLANS["second"]) == 480
    assert {part.name for part in acceptance.PLANS["full"]} == set(steps.STEPS)
    for name in steps.STEPS:
        assert steps.step(name).__doc__
    for plan in acceptance.PLANS.values():  # what is measured, or watched by a tool, has been compiled before
        assert "doctor" in [part.name for part in plan][:2]


@pytest.mark.parametrize("own", [None, "relative", "/of/the/user"])
def test_all_steps_keep_their_kernels_in_one_folder(tmp_path, monkeypatch, own):
    """Processes of the library and of the tests, by the means of tests/conftest.py; none of it in the results."""
    monkeypatch.delenv("GPURENDER_CACHE_DIR", raising=False)
    if own is not None:
        monkeypatch.setenv("GPURENDER_CACHE_DIR", own)
    asked = []

    def run_group(command, *, variables, **keywords):
        asked.append(variables)
        return 0

    monkeypatch.setattr(groups, "run_group", run_group)
    monkeypatch.setattr(groups.Stop, "catch", lambda stop: None)
    file = acceptance.begin(tmp_path / "out", "first", {})
    acceptance.watch(file, [Part("start", 10.0, "tiny"), Part("tests", 10.0, "tiny")], 100.0, rehearse=True)
    folder = own if own == "/of/the/user" else str(ROOT / "build/acceptance")
    assert asked[0] == asked[1]
    assert {key: value for key, value in asked[0].items() if not key.startswith("PYTHON")} == {
        "GPURENDER_CACHE_DIR": folder, "GPURENDER_TESTS_CACHE": folder,
        "NUMBA_CACHE_DIR": f"{folder}/numba", "TRITON_CACHE_DIR": f"{folder}/triton",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first", "--rehearse", "--out", "{tmp}/file/out"], "--out must be a folder that can be written"),
        (["first", "--rehearse", "--out", "/proc/out"], "--out must be a folder that can be written"),
        (["first", "--rehearse", "--out", "{tmp}/used"], "without a result of an earlier run"),
        (["first", "--rehearse", "--out", "{tmp}/new", "--only", "soak"], "some of start, doctor, kernels"),
        (["first", "--rehearse", "--out", "{tmp}/new", "--seconds", "8"], "--seconds must be more than 8"),
        (["first", "--rehearse", "--out", "{tmp}/new", "--seconds", "nan"], "--seconds must be more than 8"),
        (["first", "--out", "{tmp}/new"], "a GPU is needed"),
    ],
)
def test_what_cannot_begin_is_refused_before_the_work(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(acceptance, "watch", lambda *given: pytest.fail("it began"))
    (tmp_path / "file").touch()
    (tmp_path / "used").mkdir()
    (tmp_path / "used/first.json").write_text("{}")
    assert acceptance.main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_real_step_runs_in_a_process_of_its_own(tmp_path):
    """The whole way, by the command: a rehearsal of the soak."""
    command = [sys.executable, "-m", "bench.acceptance", "full", "--rehearse", "--only", "soak"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--seconds", "500"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = read(tmp_path / "out/full.json")
    assert result["steps"]["soak"]["outcome"] == "passed"
    assert [row["batches"] for row in result["steps"]["soak"]["rows"]] == list(range(3, 61, 3))
    assert result["environment"]["torch"]
    assert result["summary"][1].startswith("soak      passed")
    log = (tmp_path / "out/full.log").read_text()
    assert log.startswith("======== soak\n")
    assert '"batches": 60' in log
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["full.json", "full.log"]


# ------------------------------------------------------------------------------------------------ what steps write


@pytest.fixture
def seen(tmp_path):
    """A step's place in a result file."""
    write(tmp_path / "first.json", {"steps": {}})
    return Seen(tmp_path / "first.json", "step")


def test_a_row_is_in_the_file_when_it_is_there(seen):
    seen.row({"a": 1})
    assert rows_of(seen.file, "step") == [{"a": 1}]
    with pytest.raises(ValueError, match="JSON"):
        seen.row({"a": float("nan")})
    seen.row({"a": 2})
    seen.note(outcome="passed")
    assert read(seen.file)["steps"]["step"] == {"rows": [{"a": 1}, {"a": 2}], "outcome": "passed"}


def test_what_there_is_no_time_for_is_noted(seen, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    step = Seen(seen.file, "step", seconds=10.0)
    assert step.enough(10.0, "first")
    assert not step.enough(10.1, "second")
    assert read(seen.file)["steps"]["step"]["left_out"] == ["second"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "passed"),
        (AssertionError("pixel 7 differs"), "failed"),
        (NotInstalledError("no ncu"), "left out"),
        (CutError("after 7 tests"), "cut"),
    ],
)
def test_a_step_s_outcome_and_what_the_library_logged(error, outcome, capsys):
    import logging

    def step(here):
        for _ in range(2):
            logging.getLogger("gpurender").info("batches are launched one kernel at a time: %s", "no graph")
        if error is not None:
            raise error

    found = acceptance.outcome_of(step, Seen())
    assert found["outcome"] == outcome
    assert found["log_messages"] == ["batches are launched one kernel at a time: no graph"]
    assert error is None or str(error) in found["error"]


def test_a_program_s_lines_are_passed_on_and_may_end_it(capfd):
    words = "import time\nfor i in range(999): print('line', i, flush=True); time.sleep(0.01)"
    status, text = tools.run([sys.executable, "-c", words], on_line=lambda line: line == "line 3\n")
    assert status == -signal.SIGTERM
    assert text.startswith("line 0\nline 1\nline 2\nline 3\n")
    assert capfd.readouterr().out.startswith("line 0\nline 1\n")


@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN])
def test_a_program_may_be_interrupted_to_write_down_what_it_has(monkeypatch, inherited):
    """Also under nohup, where this process ignores the signal."""
    words = "import time\ntry:\n    print('ready', flush=True); time.sleep(999)\nfinally: print('written')"
    timers = []

    class Timer:
        """Its time comes when the program is ready, however long that takes."""

        def __init__(self, seconds, action, arguments):
            self.seconds, self.fire, self.cancelled = seconds, lambda: action(*arguments), False
            timers.append(self)

        def start(self):
            pass

        def cancel(self):
            self.cancelled = True

    monkeypatch.setattr(tools.threading, "Timer", Timer)
    command = [sys.executable, "-c", words]
    before = signal.signal(signal.SIGINT, inherited)
    try:
        status, text = tools.run(
            command, interrupt_after=7.0, on_line=lambda line: line == "ready\n" and timers[0].fire()
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == -signal.SIGINT
    assert text.startswith("ready\nwritten\n")
    assert (timers[0].seconds, timers[0].cancelled) == (7.0, True)


def test_rows_of_a_table_are_kept_when_it_breaks_off(seen, monkeypatch):
    def measure(recipe, *, on_row, batch_size, stages, **keywords):
        result = {"rows": []}
        for stage in stages:
            common = {"stage": stage, "batch_size": batch_size, "image_size": 512, "augment": "crop"}
            result["rows"].append(common | {"images_per_second": {"median": 1e6}})
            on_row(result)
            if stage == "augment":
                raise RuntimeError("the GPU is gone")

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    with pytest.raises(RuntimeError, match="gone"):
        rates.table(seen)
    rows = rows_of(seen.file, "step")
    assert [(row["recipe"], row["stage"]) for row in rows] == [("onepfrac-1k", "raster"), ("onepfrac-1k", "augment")]
    assert (rows[0]["goal"], rows[0]["verdict"], rows[0]["points"]) == (2e6, "missed", 100_000)


def test_a_summary_names_what_failed_and_what_was_measured():
    row = {"recipe": "r", "stage": "train", "batch_size": 2, "images_per_second": {"median": 12345.6}, "model": "m"}
    row |= {"overhead_percent": 1.5, "overhead_interval_percent": [0.5, 2.5], "augment": "crop", "verdict": "missed"}
    kernel = {"recipe": "k", "augment": "deit", "fresh": True, "batch_size": 8, "batch_us": 90.0, "plain_sum_us": 70.0}
    text = "\n".join(
        report.summary(
            {
                "steps": {
                    "one": {"outcome": "failed", "error": "ValueError: pixel 7 differs\nmore", "seconds": 1.0},
                    "two": {"outcome": "left out", "error": "ncu is not installed"},
                    "three": {"outcome": "passed", "rows": [row, kernel | {"plain_us": {"move": (70.0, 2)}}]},
                    "four": {"outcome": "running", "left_out": ["visualatom"]},
                }
            }
        )
    )
    assert "ValueError: pixel 7 differs\n" in text
    assert "ncu is not installed" in text
    assert "12,346 images/s, m: +1.5 % a step (+0.5 to +2.5): missed" in text
    assert "k deit fresh 8: 90 us a batch; kernel by kernel 70: move 70" in text
    assert "left out: visualatom" in text


# ------------------------------------------------------------------------------------------------------ goals


RASTER = {"stage": "raster", "image_size": 512}
LOADER = {"stage": "loader", "image_size": 224}


@pytest.mark.parametrize(
    ("row", "goal", "limit"),
    [
        (RASTER | {"recipe": "onepfrac-1k", "points": 100_000, "cached": False}, 2e6, 5.7e6),
        (RASTER | {"recipe": "onepfrac-1k", "points": 100_000, "cached": True}, None, 4.8e12 / 2**18),
        (RASTER | {"recipe": "fractaldb-100k-512", "points": 100_000, "cached": False}, 2e6, 5.7e6),
        ({"stage": "raster", "image_size": 362, "recipe": "fractaldb-1k", "points": 200_000}, None, 2.85e6),
        (RASTER | {"recipe": "visualatom-1k", "points": None}, 1e6, 4.8e12 / 2**18),
        (LOADER | {"recipe": "onepfrac-1k", "augment": "crop", "cached": True}, 2.5e6, 4.8e12 / 301_056),
        (LOADER | {"recipe": "visualatom-1k", "augment": "crop", "cached": False}, None, 4.8e12 / 301_056),
        (LOADER | {"recipe": "fractaldb-1k", "augment": "deit", "cached": True}, 1e6, 4.8e12 / 301_056),
        (LOADER | {"recipe": "visualatom-1k", "augment": "deit"}, 6e5, 4.8e12 / 301_056),
        (LOADER | {"stage": "augment", "recipe": "onepfrac-1k", "augment": "deit"}, None, 4.8e12 / 301_056),
    ],
)  # fmt: skip
def test_drawn_and_kept_have_goals_of_their_own(row, goal, limit):
    assert goals.goal_of(row) == goal
    assert goals.limit_of(row, "NVIDIA H200") == limit
    assert goals.limit_of(row, "GeForce GT 710") is None
    judged = goals.judged(row | {"images_per_second": {"median": 1.5e6}}, "NVIDIA H200")
    assert judged.get("verdict") == (None if goal is None else "met" if goal <= 1.5e6 else "missed")
    assert judged["percent_of_goal"] == (None if goal is None else pytest.approx(150e6 / goal, abs=0.05))


@pytest.mark.parametrize(
    ("interval", "verdict"), [([-1, 0.9], "met"), ([1.1, 1.3], "missed"), ([0.5, 1.5], "within noise of the goal")]
)
def test_a_step_s_goal_is_met_only_beyond_noise(interval, verdict):
    row = {"recipe": "onepfrac-1k", "model": "vit_tiny_patch16_224", "overhead_interval_percent": interval}
    assert goals.judged_step(row)["verdict"] == verdict
    assert goals.judged_step(row | {"recipe": "visualatom-1k"})["goal_percent"] == 2.0
    assert "verdict" not in goals.judged_step(row | {"model": "resnet50"})


def test_durations_have_goals():
    assert goals.judged_seconds(0.2, goals.SEARCH[1000])["verdict"] == "met"
    assert goals.judged_seconds(5.1, goals.SEARCH[21_000])["verdict"] == "missed"
    assert (goals.START["cold"], goals.START["warm"]) == (60.0, 5.0)
    assert "verdict" not in goals.judged_seconds(1.0, None)


# ------------------------------------------------------------------------------------------------------ steps


TINY = gr.VisualAtom(classes=3, instances=4, image_size=32, orbits=(1, 3), quantization=(5, 9))


def test_every_family_is_among_the_recipes_compared():
    recipes = equality.small_recipes().values()
    assert {(recipe.family, recipe.variant) for recipe in recipes} >= {
        ("onepfrac", "released"), ("onepfrac", "paper"), ("fractaldb", "released"),
        ("visualatom", "released"), ("visualatom", "paper"), ("rcdb", "released"), ("rcdb", "paper"),
    }  # fmt: skip
    assert all(len(recipe) >= 10_000 for recipe in recipes)


def test_canvases_and_batches_are_compared(monkeypatch):
    assert equality.compare_canvases("tiny", TINY, 5, "cpu") == 10
    assert equality.compare_batches("tiny", TINY, "cpu") == 3
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor.flip(-1))  # the GPU mirrors its images
    with pytest.raises(AssertionError, match=r"tiny, epoch 0, as kept: samples \[\d"):
        equality.compare_canvases("tiny", TINY, 5, "cpu")
    with pytest.raises(AssertionError, match="tiny"):
        equality.compare_batches("tiny", TINY, "cpu")


def test_all_differences_are_reported_together(seen, monkeypatch):
    monkeypatch.setattr(equality, "small_recipes", lambda: {"one": TINY, "two": TINY})
    monkeypatch.setattr(equality, "large_recipes", lambda: {"three": TINY})
    monkeypatch.setattr(equality, "compare_batches", lambda *given: 0)

    def canvases(name, recipe, count, device):
        if name != "two":
            raise AssertionError(f"{name}: sample 7")
        return 4

    monkeypatch.setattr(equality, "compare_canvases", canvases)
    with pytest.raises(AssertionError, match="one, three"):
        equality.equality(seen)
    assert [row.get("differs") for row in seen.rows] == ["one: sample 7", None, "three: sample 7"]


def test_a_checksum_sees_a_bit_and_a_place():
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32))
    assert torch.equal(consumers.checksum(images), consumers.checksum(images.clone()))
    one = images.clone()
    one.view(torch.int32)[1, 2, 3, 3] ^= 1
    assert (consumers.checksum(one) == consumers.checksum(images)).tolist() == [True, False, True]
    assert not (consumers.checksum(images.flip(-1)) == consumers.checksum(images)).any()


@pytest.mark.parametrize("name", list(consumers.CONSUMERS))
def test_consumers_take_their_sums_of_the_loader_s_batches(name):
    keywords = {"batch_size": 5, "image_size": 64, "device": "cpu", "shuffle": True}
    wanted = [consumers.checksum(images) for images, _ in gr.DataLoader(TINY, **keywords)]
    with rehearsal.stand_ins():
        found = consumers.CONSUMERS[name](gr.DataLoader(TINY, **keywords))
    assert [sums[: len(right)].tolist() for sums, right in zip(found, wanted, strict=True)] == [
        right.tolist() for right in wanted
    ]


@pytest.mark.parametrize("text", [text for text, _, _ in ncu.PROGRAMS.values()])
def test_what_is_profiled_runs(text, monkeypatch):
    """On a CPU, with two samples of each preset."""
    monkeypatch.setattr(sys, "argv", ["", "cpu", "2"])
    exec(compile(text, "profiled", "exec"), {})


def test_samples_are_a_preset_s_own():
    """However few it has, and however many are asked for."""
    for length, count in ((1000, 512), (1000, 1024), (1_000_000, 512), (3, 512), (1000, 1)):
        space = {"count": count}
        exec(ncu.SAMPLES, space)
        found = list(space["samples"](range(length)))
        assert len(found) == len(set(found)) == min(length, count)
        assert 0 <= min(found) <= max(found) < length


def test_a_profile_is_read_launch_by_launch():
    head = '"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"'
    text = f"""==PROF== Connected to process 7
printed by the program
{head}
"0","7","chaos_game_grey","Occupancy","Achieved Occupancy","%","36.1"
"0","7","chaos_game_grey","LaunchStats","Registers Per Thread","register/thread","79"
"1","7","visual_atom_render","Command line profiler metrics","smsp__inst_executed.max","inst","4,800"
==PROF== Disconnected"""
    assert ncu.profiled(text) == [
        {"kernel": "chaos_game_grey", "Achieved Occupancy": "36.1 %", "Registers Per Thread": "79 register/thread"},
        {"kernel": "visual_atom_render", "smsp__inst_executed.max": "4,800 inst"},
    ]
    assert ncu.profiled("==ERROR== no permission") == []


def test_the_profiled_kernels_exist():
    """Each name in the expressions is one of a kernel's, and each long kernel's name is in one of them."""
    import re

    sources = [path.read_text() for path in (ROOT / "kernels").rglob("*") if path.suffix in (".cu", ".py")]
    defined = {name for text in sources for name in re.findall(r"^def (\w+)\(|^\s+(\w+)\(const ", text, re.MULTILINE)}
    names = {name for pair in defined for name in pair if name}
    chosen = [expression.removeprefix("regex:") for _, expression, _ in ncu.PROGRAMS.values()]
    for kernel in (
        "chaos_game_grey", "chaos_game_paint", "visual_atom_render", "resized_crop_bits", "resized_crop_bytes",
        "tabulate", "change", "move", "mix_erase_pixels",
    ):  # fmt: skip
        assert kernel in names
        assert sum(re.search(expression, kernel) is not None for expression in chosen) == 1
    assert {"smsp__inst_executed.max", "smsp__inst_executed.min"} <= set(ncu.METRICS)


def test_races_that_are_meant_are_told_from_others():
    text = """========= COMPUTE-SANITIZER
========= Error: Race reported between Read access at 0x1a20 in chaos_game_grey
=========     and Write access at 0x1a60 in chaos_game_grey [212 hazards]
========= Error: Race reported between Write access at 0x1a60 in chaos_game_grey
=========     and Write access at 0x1a60 in chaos_game_grey [1 hazards]
=========
========= Error: Race reported between Write access at visual_atom_render+0x2b0 in gpu.cu:180
=========     and Write access at visual_atom_render+0x2b0 in gpu.cu:180 [16 hazards]
=========
========= Error: Race reported between Write access at 0x10 in visual_atom_render
=========     and Read access at 0x90 in visual_atom_render [4 hazards]
========= Error: Race reported between Read access at 0x10 in change
=========     and Write access at 0x90 in change [4 hazards]
========= RACECHECK SUMMARY: 4 hazards displayed (4 errors, 0 warnings)
"""
    known, other = sanitizer.races(text)
    assert list(known.values()) == [1, 1]
    assert set(known) == set(sanitizer.KNOWN)
    assert len(other) == 3
    assert other[0].count("chaos_game_grey") == 2
    assert "Read access at 0x90 in visual_atom_render [4 hazards]" in other[1]
    assert "change" in other[2]
    assert sanitizer.races("========= RACECHECK SUMMARY: 0 hazards displayed") == ({}, [])


@pytest.fixture
def sanitized(monkeypatch):
    """compute-sanitizer is there, and prints what it is given; yields the commands and their text."""
    asked, said = [], {"status": 0, "text": "", "lines": ["RAN onepfrac canvases\n", "printed\n"]}

    def run(command, *, on_line, **variables):
        asked.append((command, variables))
        for line in said["lines"]:
            on_line(line)
        return said["status"], said["text"]

    monkeypatch.setattr(sanitizer, "find", lambda tool: f"/cuda/{tool}")
    monkeypatch.setattr(sanitizer, "run", run)
    return asked, said


def test_memory_is_checked_without_the_noise_of_torch_s_start(sanitized):
    asked, said = sanitized
    here = Seen()
    sanitizer.memcheck(here)
    (command, variables) = asked[0]
    assert command[:3] == ["/cuda/compute-sanitizer", "--tool", "memcheck"]
    assert command[command.index("--report-api-errors") + 1] == "no"
    assert variables == {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    assert here.rows == [{"ran": "onepfrac canvases"}]
    said |= {"status": 9, "text": "noise\n========= Invalid __global__ write of size 1 bytes\n"}
    with pytest.raises(AssertionError, match=r"(?s)exit 9.*Invalid __global__ write"):
        sanitizer.memcheck(Seen())


@pytest.mark.parametrize("check", [sanitizer.memcheck, sanitizer.racecheck])
def test_a_tool_that_has_seen_nothing_run_has_checked_nothing(sanitized, check):
    _, said = sanitized
    said["lines"] = ["printed\n", "LEFT visualatom\n"]
    with pytest.raises(AssertionError, match="exit 0, 0 parts have run"):
        check(Seen())


def test_the_first_recipe_is_checked_however_little_time_is_left(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["", "cpu", "-1"])
    with rehearsal.stand_ins():
        exec(compile(sanitizer.SMALL_BATCHES, "checked", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "RAN onepfrac canvases", "RAN onepfrac batches", "LEFT visualatom", "LEFT fractaldb",
    ]  # fmt: skip


def test_known_races_pass_and_others_do_not(sanitized):
    _, said = sanitized
    race = "= Race reported between {} access at 0x1 in {}\n=    and Write access at 0x2 in {} [4 hazards]\n"
    said["text"] = race.format("Read", "chaos_game_grey", "chaos_game_grey")
    here = Seen()
    sanitizer.racecheck(here)
    assert sum(here.found["known_races"].values()) == 1
    said["text"] += race.format("Read", "change", "change")
    with pytest.raises(AssertionError, match="1 unknown kinds"):
        sanitizer.racecheck(Seen())


def test_the_tests_marked_gpu_are_found_and_run_beside_each_other(tmp_path):
    found = gpu_tests.files()
    some = ("loading/test_cuda_graphs", "kernels/test_triton", "loading/test_prefetch")
    assert {f"tests/{name}.py" for name in some} <= set(found)
    assert "tests/bench/test_acceptance.py" not in found
    assert "tests/kernels/test_shuffle.py" not in found
    words = gpu_tests.command(tmp_path / "tests.xml", several=True, all_of_them=False)
    assert f"--junitxml={tmp_path / 'tests.xml'}" in words
    assert set(found) <= set(words)
    file, name = gpu_tests.SLOW.split("::")
    assert f"def {name.split('[')[0]}(" in (ROOT / file).read_text()
    assert gpu_tests.SLOW in words
    assert "worksteal" in words
    left_out = words[words.index("-k") + 1]
    assert f"def {left_out.split()[1].lstrip('(')}(" in (ROOT / "tests/promises/test_global_state.py").read_text()
    whole = gpu_tests.command(None, several=False, all_of_them=True)
    assert gpu_tests.SLOW not in whole
    assert "-k" not in whole


def test_outcomes_of_tests_are_counted_as_they_come_and_failures_named(seen, monkeypatch):
    xml = """<testsuites><testsuite name="pytest"><testcase classname="tests.test_a" name="test_x" time="1"/>
    <testcase classname="tests.test_a" name="test_y[3]"><failure message="pixel 7 differs">long</failure></testcase>
    <testcase classname="tests.test_b" name="test_z"><error message="no GPU">long</error></testcase>
    </testsuite></testsuites>"""

    def run(command, *, on_line, interrupt_after, **variables):
        on_line("tests/test_a.py::test_x PASSED [ 3%]\n")
        on_line("[gw1] [ 3%] FAILED tests/test_a.py::test_y[3]\n")
        on_line("=== short test summary info ===\n")
        on_line("FAILED tests/test_a.py::test_y[3] - pixel 7 differs\n")
        assert read(seen.file)["steps"]["step"]["counts"] == {"passed": 1, "failed": 1}
        seen.file.with_name("tests.xml").write_text(xml)
        return 1, "1 failed"

    monkeypatch.setattr(gpu_tests, "run", run)
    with pytest.raises(AssertionError, match="1 failed"):
        gpu_tests.gpu_tests(seen)
    assert seen.rows == [
        {"test": "tests.test_a::test_y[3]", "failure": "pixel 7 differs"},
        {"test": "tests.test_b::test_z", "error": "no GPU"},
    ]


def test_tests_are_interrupted_before_the_limit_so_that_their_report_is_written(seen, monkeypatch):
    """What has failed is in the rows; where nothing has, the step has not passed either."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    here = Seen(seen.file, "step", size="short", seconds=130.0)
    asked = []

    def run(command, *, on_line, interrupt_after, **variables):
        asked.append(interrupt_after)
        on_line("tests/test_a.py::test_x PASSED [ 3%]\n")
        return gpu_tests.INTERRUPTED, "KeyboardInterrupt"

    monkeypatch.setattr(gpu_tests, "run", run)
    with pytest.raises(CutError, match=r"15 s before its limit, after \{'passed': 1\}"):
        gpu_tests.gpu_tests(here)
    assert asked == [115.0]
    xml = '<testsuite><testcase classname="a" name="b"><failure message="pixel 7 differs"/></testcase></testsuite>'
    seen.file.with_name("tests.xml").write_text(xml)
    with pytest.raises(AssertionError, match="exit 2"):
        gpu_tests.gpu_tests(here)
    assert here.rows == [{"test": "a::b", "failure": "pixel 7 differs"}]


INTERRUPTED = """
import pathlib, time

def test_bad():
    assert 7 == 8

def test_next():
    while not pathlib.Path("heard").exists():
        time.sleep(0.01)

def test_long():
    time.sleep(999)
"""


def test_an_interrupted_pytest_writes_its_report(tmp_path):
    """In several processes, one of which is in the middle of a test."""
    (tmp_path / "test_a.py").write_text(INTERRUPTED)
    words = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", f"--junitxml={tmp_path / 'tests.xml'}"]
    if importlib.util.find_spec("xdist") is not None:
        words += ["-n", "2", "--dist", "worksteal"]
    with subprocess.Popen(
        [*words, "test_a.py"], cwd=tmp_path, stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nohup ignores it
    ) as process:  # fmt: skip
        for outcome in (b"FAILED", b"PASSED"):  # what comes later is heard later, so the failure is noted by then
            said = b""
            while outcome not in said:  # no whole line: its end comes with the next one
                said += (more := os.read(process.stdout.fileno(), 4096))
                assert more, said
            (tmp_path / "heard").touch()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == gpu_tests.INTERRUPTED
    assert gpu_tests.failures(tmp_path / "tests.xml") == [{"test": "test_a::test_bad", "failure": "assert 7 == 8"}]


def test_the_profiler_s_own_work_is_no_kernel(monkeypatch):
    cpu = torch.autograd.DeviceType.CPU
    names = {"move": 70.0, "Activity Buffer Request": 900.0, "change": 30.0}
    events = [
        SimpleNamespace(name=name, device_type=cpu, time_range=SimpleNamespace(elapsed_us=lambda us=us: us))
        for name, us in names.items()
    ]
    profile = contextlib.nullcontext(SimpleNamespace(events=lambda: events))
    monkeypatch.setattr(torch.profiler, "profile", lambda **keywords: profile)
    with rehearsal.stand_ins():
        assert kernels.profiled(lambda: None, "cpu") == {"move": (70.0, 1), "change": (30.0, 1)}


def test_clocks_are_read_while_the_chip_copies(monkeypatch):
    copied, asked = threading.Event(), threading.Event()
    copy = torch.Tensor.copy_

    def seen_copy(tensor, *given):
        if asked.is_set():
            copied.set()
        return copy(tensor, *given)

    def clocks():
        asked.set()
        return copied.wait(60)

    monkeypatch.setattr(torch.Tensor, "copy_", seen_copy)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(kernels, "clocks", clocks)
    with rehearsal.stand_ins():
        assert kernels.copies(1 << 10)["nvidia_smi"] is True


def test_losses_are_read_as_the_example_prints_them(seen, monkeypatch):
    """Its own format, and no line of anything else."""
    text = (ROOT / "examples/pretrain.py").read_text()
    assert 'f"step {step:>6}  loss {loss:.4f}  lr {lr:.2e}  {rate:.0f} images/s"' in text
    lines = [f"step {10 * i:>6}  loss {7 - i:.4f}  lr {1e-3:.2e}  {17000 + i:.0f} images/s\n" for i in (1, 2, 3)]

    def run(command, *, on_line):
        assert Path(ROOT, command[1]).is_file()
        for line in ("contact sheet\n", *lines):
            assert not on_line(line)
        return 0, ""

    monkeypatch.setattr(train, "run", run)
    train.pretrain(seen)
    assert seen.rows == [{"step": 10 * i, "loss": 7.0 - i, "rate": 17000.0 + i} for i in (1, 2, 3)]
    assert seen.found["images_per_second"]["median"] == 17002.0
    lines.reverse()
    with pytest.raises(AssertionError, match=r"does not fall: 4.0 to 6.0"):
        train.pretrain(Seen(seen.file, "again", size="short"))


def test_memory_that_grows_is_seen():
    flat = [{"allocated_kib": 100, "reserved_mib": 20, "resident_mib": 900 + i % 3} for i in range(9)]
    assert soak.growth(flat) == {}
    assert soak.growth([*flat, flat[0] | {"reserved_mib": 22}]) == {"reserved_mib": 2}
    assert soak.growth([*flat, flat[0] | {"allocated_kib": 1125}]) == {"allocated_kib": 1025}
    assert soak.growth([*flat, flat[0] | {"resident_mib": 920}]) == {"resident_mib": 20}


def test_a_tool_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(tools.shutil, "which", lambda tool: None)
    with pytest.raises(NotInstalledError, match="no-such-tool"):
        tools.find("no-such-tool")
