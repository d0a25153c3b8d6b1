"""Ranks draw disjoint parts of one global order, however many there are and however their number changes."""

import itertools
import json
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DistributedSampler

import gpurender as gr
from gpurender.loading import ranks

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]
LENGTH = 26


def tiny(instances=LENGTH):
    return gr.OnePFrac(classes=1, instances=instances, image_size=32, points=500, fill_rate=0.0, base=TRIANGLE)


def loader(recipe=None, **keywords):
    keywords = {"batch_size": 2, "image_size": 24, "augment": gr.augment.Crop(), "shuffle": True, "seed": 5, **keywords}
    return gr.DataLoader(recipe or tiny(), **keywords)


def team(size, **keywords):
    return [loader(rank=rank, world_size=size, **keywords) for rank in range(size)]


def joined(batches):
    """The batches of all ranks in one step, in rank order, as one batch."""
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def equal(batch, other):
    return all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_all_ranks_together_are_one_process(size, batch_size, drop_last):
    single = loader(batch_size=size * batch_size, drop_last=drop_last)
    ranks = team(size, batch_size=batch_size, drop_last=drop_last)
    assert {len(rank) for rank in ranks} == {len(single)}
    for _ in range(2):
        for expected, *batches in itertools.zip_longest(single, *ranks):
            images, targets = joined(batches)
            count = len(expected[1])
            assert equal((images[:count], targets[:count]), expected)
            if len(targets) > count:  # fewer samples than ranks were left: the epoch's first ones fill up
                assert len(targets) == size
            assert all(rank.state_dict() == single.state_dict() for rank in ranks)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [2, 3, 5, 8])
@pytest.mark.parametrize("length", [1, 7, 8, 24, 25, 26, 40, 41])
def test_as_many_batches_as_with_torchs_distributed_sampler(length, size, drop_last):
    data = range(length)
    for rank, batch_size in itertools.product(range(size), (1, 2, 4)):
        sampler = DistributedSampler(data, size, rank, drop_last=drop_last)
        theirs = torch.utils.data.DataLoader(data, batch_size=batch_size, sampler=sampler, drop_last=drop_last)
        ours = loader(tiny(length), batch_size=batch_size, drop_last=drop_last, rank=rank, world_size=size)
        assert len(ours) == len(theirs)
        assert len(list(ours.batch_sampler)) == len(ours)
        assert len(ours.sampler) == len(list(ours.sampler))


@pytest.mark.parametrize(("size", "batch_size"), [(1, 4), (2, 3), (3, 2), (3, 5), (7, 2)])
def test_nothing_is_lost_and_nothing_repeated(size, batch_size):
    drawn = [n for rank in team(size, batch_size=batch_size) for n in rank.sampler]
    padding = len(drawn) - LENGTH
    assert 0 <= padding < size
    assert sorted(set(drawn)) == list(range(LENGTH))
    if LENGTH % (size * batch_size) in (0, *range(size, size * batch_size)):
        assert padding == 0


@pytest.mark.parametrize(
    "teams", [[(1, 2), (2, 2), (3, 2)], [(3, 2), (2, 2), (1, 1)], [(2, 3), (1, 5), (4, 1)], [(8, 1), (6, 1), (2, 2)]]
)
def test_the_number_of_ranks_changes_within_an_epoch(teams):
    """(ranks, batch size) change after every step; samples go on where they were."""
    single = loader(batch_size=1)
    samples = [pair for _ in range(2) for pair in single]
    state, got = loader().state_dict(), []
    for size, batch_size in itertools.cycle(teams):
        ranks = team(size, batch_size=batch_size)
        left = LENGTH - state["position"]
        for rank in ranks:
            rank.load_state_dict(json.loads(json.dumps(state)))
        images, targets = joined([next(iter(rank)) for rank in ranks])
        got += [(images[i : i + 1], targets[i : i + 1]) for i in range(min(left, len(targets)))]
        states = [rank.state_dict() for rank in ranks]
        assert states == [states[0]] * size
        state = states[0]
        if state["epoch"] == 2:
            break
    assert len(got) == len(samples)
    assert all(equal(a, b) for a, b in zip(got, samples, strict=True))


# ------------------------------------------------------------------------------------------------- which rank this is


def test_a_lone_process_is_rank_0_of_1(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "7")  # means nothing alone
    assert ranks.current() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ranks.current() == (0, 1)


def test_torchruns_environment_counts_before_a_process_group_exists(monkeypatch):
    everywhere = loader()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ranks.current() == (1, 2)
    assert len(everywhere) == 7
    assert equal(next(iter(everywhere)), next(iter(team(2)[1])))
    assert equal(next(iter(loader(rank=0, world_size=3))), next(iter(team(3)[0])))  # arguments come first


@pytest.mark.parametrize(("rank", "size"), [(0, 2), (1, 2), (2**31 - 2, 2**31 - 1)])
def test_the_first_and_the_last_rank_of_an_environment_are_taken(monkeypatch, rank, size):
    monkeypatch.setenv("RANK", f" {rank} ")
    monkeypatch.setenv("WORLD_SIZE", f"{size}\n")
    assert ranks.current() == (rank, size)


def test_the_process_group_comes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        assert ranks.current() == (0, 1)
    finally:
        torch.distributed.destroy_process_group()
    assert ranks.current() == (1, 2)


@pytest.mark.parametrize(
    ("rank", "size", "says"),
    [
        (None, "2", "RANK.*not set"),
        ("", "2", "RANK"),
        ("2", "2", r"RANK must be an integer in \[0, 1\], it is '2'"),
        ("-1", "2", "RANK"),
        ("one", "2", "RANK"),
        ("0", "0", "WORLD_SIZE"),
        ("0", "two", "WORLD_SIZE.*'two'"),
        ("0", "2147483648", r"WORLD_SIZE must be an integer in \[1, 2147483647\], it is '2147483648'"),
    ],
)
def test_an_environment_that_says_nothing_sensible_is_refused(monkeypatch, rank, size, says):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match=says):
        next(iter(loader()))


PROCESS = """
import json, sys, torch
import torch.distributed as dist
import gpurender as gr

rank, size, steps = (int(text) for text in sys.argv[1:4])
group, recipe, state, out = sys.argv[4:]
torch.set_num_threads(1)
recipe = gr.Recipe.from_json(recipe)
loader = gr.DataLoader(recipe, batch_size=2, image_size=24, augment=gr.augment.Crop(), shuffle=True, seed=5)
dist.init_process_group("gloo", init_method=f"file://{group}", rank=rank, world_size=size)
loader.load_state_dict(json.loads(state))
taken = []
while len(taken) < steps:
    for batch in loader:
        taken.append(batch)
        if len(taken) == steps:
            break
states = [None] * size
dist.all_gather_object(states, loader.state_dict())
assert states == [states[0]] * size, states
torch.save({"batches": taken, "state": states[0]}, f"{out}.{rank}")
dist.barrier()
dist.destroy_process_group()
"""


def gloo(size, steps, state, folder):
    """The batches of every rank of a real process group over some steps, and the state after them."""
    arguments = [str(folder / f"group{size}"), tiny().to_json(), json.dumps(state), str(folder / f"out{size}")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(size), str(steps), *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert not any(process.returncode for process in processes), errors
    results = [torch.load(f"{arguments[3]}.{rank}") for rank in range(size)]
    return [result["batches"] for result in results], results[0]["state"]


def test_a_gloo_group_of_two_and_then_of_three(tmp_path):
    """Two processes take 3 steps (12 samples), three go on into the next epoch: 12 samples, the 2 left, 6 more."""
    single = loader(batch_size=1)
    samples = [*single, *single]
    two, state = gloo(2, 3, loader().state_dict(), tmp_path)
    assert (state["epoch"], state["position"]) == (0, 12)
    three, state = gloo(3, 4, state, tmp_path)
    assert (state["epoch"], state["position"]) == (1, 6)
    steps = [joined(step) for step in (*zip(*two, strict=True), *zip(*three, strict=True))]
    places = [0, 4, 8, 12, 18, 24, 26]
    for (images, targets), start, stop in zip(steps, places, [4, 8, 12, 18, 24, 26, 32], strict=True):
        expected = joined(samples[start:stop])
        assert equal((images[: stop - start], targets[: stop - start]), expected)
    assert equal(three[2][2], samples[0])  # rank 2 had none of the 2 left and took the epoch's first once more
