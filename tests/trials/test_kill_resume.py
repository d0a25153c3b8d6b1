"""Killed training runs go on where they were: trials/kill_resume.py, shortened, and that it would notice if not."""

import copy
import json
import subprocess
import sys
from random import Random

import pytest

from trials import kill_resume

SEED = 3


def trials(root, tmp_path, *more):
    """Rows of a run, in a process of its own: it forks, and this one has threads of other tests."""
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", "trials.kill_resume", "--seed", str(SEED), "--json", str(file), *more]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


def test_no_sample_is_lost_repeated_or_changed_by_kills(root, tmp_path):
    result = trials(root, tmp_path, "--trials", "6")
    assert [row["lost"] for row in result["trials"]] == [None] * 6
    assert result["kill_trials"]["kills"] >= 6
    assert all(row["samples"] > 0 for row in result["trials"])
    assert {row["restart"] for row in result["trials"]} == {"other ranks", "same ranks"}
    seek = result["kill_trials"]["seek"]
    assert seek["at_2147483548_ms"] < 5 * seek["at_0_ms"] + 50  # one by one it would take minutes


def test_new_interpreters_go_on_too(root, tmp_path):
    result = trials(root, tmp_path, "--trial", "19")
    (row,) = result["trials"]
    assert (row["start"], row["lost"]) == ("new interpreters", None)
    assert row["samples"] > 0


def test_trials_cover_all_families_policies_and_ways():
    drawn = [kill_resume.drawn(Random(f"0/{number}"), False)[0] for number in range(200)]
    assert {json.loads(settings.recipe)["family"] for settings in drawn} == {
        "onepfrac",
        "fractaldb",
        "visualatom",
        "mixture",
    }
    assert {settings.policy for settings in drawn} == set(kill_resume.POLICIES)
    for name in ("shuffle", "fresh", "drop_last", "elastic"):
        assert {getattr(settings, name) for settings in drawn} == {False, True}
    assert {settings.prefetch_factor for settings in drawn} == {None, 1, 3}


# ------------------------------------------------------------------------------------------ would it notice anything?


@pytest.fixture(scope="module")
def run():
    """Settings, topology and steps of a run that nobody interrupted."""
    settings = kill_resume.Settings(
        recipe=kill_resume.recipes()["onepfrac"].to_json(), epochs=2, shuffle=True, fresh=False, drop_last=False,
        policy="crop", seed=1, prefetch_factor=None, elastic=False, method="fork",
    )  # fmt: skip
    topology = kill_resume.Topology(3, 4)
    ranks = kill_resume.uninterrupted(settings, topology)
    return settings, topology, [(topology, list(records)) for records in zip(*ranks, strict=True)]


def test_an_uninterrupted_run_compares_equal(run):
    settings, topology, steps = run
    given = sum(len(record["samples"]) for _, records in steps for record in records)
    assert given == 2 * (35 + 0)
    assert kill_resume.compare_batches(settings, topology, steps) == given
    assert kill_resume.compare_samples(settings, steps, topology) == given


def repeated(steps):
    return [*steps[:2], steps[1], *steps[2:]]


def left_out(steps):
    return [*steps[:1], *steps[2:]]


def exchanged(steps):
    return [steps[1], steps[0], *steps[2:]]


def cut_short(steps):
    return steps[:-1]


def changed(steps):
    steps[2][1][1]["digests"][0] = "0" * 64
    return steps


def relabelled(steps):
    steps[2][1][0]["samples"][1] += 1
    return steps


def ranks_exchanged(steps):
    steps[1][1].reverse()
    return steps


def moved(steps):
    for record in steps[1][1]:
        record["after"]["position"] += 1
    return steps


@pytest.mark.parametrize(
    "spoil", [repeated, left_out, exchanged, cut_short, changed, relabelled, ranks_exchanged, moved]
)
def test_a_spoiled_run_is_noticed(run, spoil):
    settings, topology, steps = run
    spoiled = spoil(copy.deepcopy(steps))
    with pytest.raises(kill_resume.LostError):
        kill_resume.compare_batches(settings, topology, spoiled)
    with pytest.raises(kill_resume.LostError):
        kill_resume.compare_samples(settings, spoiled, topology)


def test_ranks_at_different_places_are_noticed(run, tmp_path):
    settings, topology, steps = run
    attempt = kill_resume.Attempt(0, topology, (0, 0), (settings.epochs, 0))
    for rank in range(topology.ranks):
        lines = [json.dumps(records[rank]) + "\n" for _, records in steps[1 if rank == 2 else 0 :]]
        (tmp_path / f"journal-0-{rank}").write_text("".join(lines))
    with pytest.raises(kill_resume.LostError, match="different places"):
        kill_resume.committed([attempt], tmp_path)


def test_what_was_given_behind_the_last_state_does_not_count(run, tmp_path):
    """A trainer rolls back to its checkpoint; a line that the kill tore is none."""
    _, topology, steps = run
    attempt = kill_resume.Attempt(0, topology, (0, 0), (0, 24))
    for rank in range(topology.ranks):
        text = "".join(json.dumps(records[rank]) + "\n" for _, records in steps[:3])
        (tmp_path / f"journal-0-{rank}").write_text(text + '{"epoch": 0, "posi')
    assert kill_resume.committed([attempt], tmp_path) == steps[:2]


# ------------------------------------------------------------------------------------------------------------ locks

KILLED_IN_A_BAR = """
import os, signal, time
import gpurender as gr
from tqdm import tqdm

tqdm(total=1, disable=True)  # as a training script's: the first bar makes tqdm's lock
held, holds = os.pipe()
if (child := os.fork()) == 0:
    tqdm.get_lock().acquire()
    os.write(holds, b"held")
    time.sleep(300)
print(os.read(held, 4).decode(), flush=True)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
recipe = gr.OnePFrac(classes=2, instances=2, image_size=32, points=100, fill_rate=0.0)
print(gr.Renderer(recipe)(0).shape, flush=True)
"""


def test_a_process_killed_in_a_progress_bar_stops_no_other():
    """tqdm's own lock is a semaphore shared by all forked processes; who dies with it stops whoever shows a bar."""
    process = subprocess.Popen([sys.executable, "-c", KILLED_IN_A_BAR], stdout=subprocess.PIPE, text=True)
    try:
        out, _ = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("drawing waits for a lock that died with another process")
    assert process.returncode == 0
    assert out.split() == ["held", "torch.Size([1,", "1,", "32,", "32])"]
