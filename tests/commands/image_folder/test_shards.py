"""Shards: their parts, and what Slurm and torchrun say."""

from itertools import pairwise

import pytest

from gpurender.commands.image_folder import shards
from gpurender.commands.image_folder.shards import Shard


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (
        "ARRAY_TASK_ID",
        "ARRAY_TASK_COUNT",
        "ARRAY_TASK_MIN",
        "ARRAY_TASK_MAX",
        "ARRAY_TASK_STEP",
        "PROCID",
        "NTASKS",
        "STEP_NUM_TASKS",
    ):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def array(number, count, first, step=1, last=None):
    """The variables of a task of a Slurm array."""
    last = first + step * (count - 1) if last is None else last
    values = {"ID": number, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(("total", "count"), [(24, 1), (24, 5), (3, 8), (0, 2), (10**12 + 7, 1000)])
def test_parts_cover_everything_once(total, count):
    bounds = [Shard(index, count).part(total) for index in range(count)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == total
    assert all(end == first for (_, end), (first, _) in pairwise(bounds))
    sizes = {end - first for first, end in bounds}
    assert max(sizes) - min(sizes) <= 1


def test_a_text_or_a_pair_names_a_shard():
    assert (
        shards.shard("3/8") == shards.shard((3, 8)) == shards.shard([3, 8]) == shards.shard(Shard(3, 8)) == Shard(3, 8)
    )
    assert shards.shard(None) == shards.shard("0/1") == Shard(0, 1)
    assert str(Shard(3, 8)) == "3/8"


@pytest.mark.parametrize(
    "value", ["8/8", "1", "", "/", "0/0", "-1/2", "1/2/3", "a/b", "1 / 2", "0/1000001", "٣/8", "0/99999999999999"]
)
def test_a_wrong_text_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^shard must be I/N with 0 <= I < N <= 1000000, such as 0/8, got '"):
        shards.shard(value)


@pytest.mark.parametrize("value", [(2, 2), (0, 0), (-1, 2), 3, (0.0, 1), (1, 2, 3), {0: 1}, (True, 2)])
def test_another_wrong_value_is_refused_by_name(value):
    with pytest.raises((TypeError, ValueError), match=r"^shard"):
        shards.shard(value)


@pytest.mark.parametrize(
    ("variables", "expected", "names"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, (3, 8), "RANK"),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8), "SLURM_PROCID"),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "9"}, (3, 8), "SLURM_PROCID"),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (3, 8), "SLURM_PROCID"),
        (array(0, 4, 0), (0, 4), "SLURM_ARRAY_TASK_ID"),
        (array(4, 4, 1), (3, 4), "SLURM_ARRAY_TASK_ID"),
        (array(14, 8, 0, step=2), (7, 8), "SLURM_ARRAY_TASK_ID"),
        (
            {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "4"},
            (1, 3),
            "SLURM_ARRAY_TASK_ID",
        ),
        # torchrun in every Slurm task: its ranks count all processes
        ({"RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (5, 8), "RANK"),
        # srun in every task of an array
        (
            array(2, 3, 1) | {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"},
            (7, 12),
            "SLURM_ARRAY_TASK_ID, SLURM_PROCID",
        ),
        (array(2, 3, 1) | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (1, 3), "SLURM_ARRAY_TASK_ID"),
    ],
)
def test_a_launcher_says_the_shard(monkeypatch, variables, expected, names):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert shards.from_environment() == (Shard(*expected), names)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_NTASKS": "8"},  # the shell of salloc
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"},  # the script of sbatch --ntasks=8, without srun
        {"SLURM_PROCID": "0"},  # sbatch without --ntasks
        array(7, 1, 7),
        {"RANK": "0"},
    ],
)
def test_a_process_by_itself_has_no_shard(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert shards.from_environment() is None


def test_the_tasks_of_an_array_with_processes_cover_everything_once(monkeypatch):
    found = []
    for number in (3, 5, 7):
        for process in range(4):
            for name, value in (
                array(number, 3, 3, step=2) | {"SLURM_PROCID": str(process), "SLURM_STEP_NUM_TASKS": "4"}
            ).items():
                monkeypatch.setenv(name, value)
            found.append(shards.from_environment()[0])
    assert found == [Shard(index, 12) for index in range(12)]


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"WORLD_SIZE": "8"}, r"variable RANK must be an integer in \[0, 7\], it is not set; give --shard I/N"),
        ({"WORLD_SIZE": "8", "RANK": "8"}, r"RANK must be an integer in \[0, 7\], it is '8'"),
        ({"WORLD_SIZE": "eight", "RANK": "0"}, r"WORLD_SIZE must be .* it is 'eight'"),
        ({"SLURM_PROCID": "x", "SLURM_STEP_NUM_TASKS": "2"}, r"SLURM_PROCID must be"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, r"SLURM_ARRAY_TASK_COUNT must be .* it is not set"),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}, r"SLURM_ARRAY_TASK_MIN must be .* not set"),
        (array(2, 3, 1, last=7), r"the 3 task numbers of this Slurm array are not evenly spaced from 1.* --shard I/N"),
        (array(7, 3, 1, last=7), r"not evenly spaced"),
        (array(3, 4, 0, step=2), r"not evenly spaced"),
    ],
)
def test_a_launcher_that_does_not_say_the_shard_is_refused(monkeypatch, variables, text):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=text):
        shards.from_environment()
