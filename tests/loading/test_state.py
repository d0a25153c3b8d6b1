"""state_dict and load_state_dict: the very next batch is the one that would have come, wherever and whenever."""

import hashlib
import json
import subprocess
import sys
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpurender as gr

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]
LENGTH = 17


def tiny(instances=LENGTH, **parameters):
    return gr.OnePFrac(
        classes=1, instances=instances, image_size=32, points=500, fill_rate=0.0, base=TRIANGLE, **parameters
    )


def loader(recipe=None, **keywords):
    keywords = {"batch_size": 3, "image_size": 24, "augment": gr.augment.Crop(), "shuffle": True, "seed": 5, **keywords}
    return gr.DataLoader(recipe or tiny(), **keywords)


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


def run(source, epochs):
    """Batches until the end of the given number of epochs since epoch 0, each with the state as text after it."""
    taken = []
    while source.state_dict()["epoch"] < epochs:
        taken += [(batch, json.dumps(source.state_dict())) for batch in source]
    return taken


def singles(batches):
    """Batches taken apart into samples."""
    return [pair for x, y in batches for pair in zip(x, y, strict=True)]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("shuffle", "fresh"), [(True, False), (False, True)])
def test_every_batch_of_three_epochs_is_a_place_to_resume_at(shuffle, fresh, drop_last):
    keywords = {"shuffle": shuffle, "fresh": fresh, "drop_last": drop_last}
    whole = run(loader(**keywords), 3)
    batches = [batch for batch, _ in whole]
    assert len(batches) == 3 * (5 if drop_last else 6)
    for done, (_, state) in enumerate(whole, start=1):
        resumed = loader(**keywords)
        resumed.load_state_dict(json.loads(state))
        assert json.dumps(resumed.state_dict()) == state
        assert same([batch for batch, _ in run(resumed, 3)], batches[done:])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 17, 20])
def test_another_batch_size_continues_the_same_samples(batch_size):
    whole = run(loader(), 2)
    samples = singles([batch for batch, _ in whole])
    done = 0
    for (_, targets), state in whole:
        done += len(targets)
        resumed = loader(batch_size=batch_size)
        resumed.load_state_dict(json.loads(state))
        assert same(singles([batch for batch, _ in run(resumed, 2)]), samples[done:])


def test_a_state_is_small_and_plain():
    recipe = gr.OnePFrac(classes=10**7, instances=2**31 - 1, points=1)
    big = gr.DataLoader(recipe, seed=2**64 - 1, shuffle=True)
    state = {**big.state_dict(), "epoch": 400, "position": len(recipe) - 1}
    big.load_state_dict(state)
    text = json.dumps(big.state_dict())
    assert json.loads(text) == state
    assert len(text.encode()) < 1000
    assert {type(value) for value in state.values()} <= {int, str}
    assert sum(isinstance(value, str) for value in state.values()) == 1
    assert state["recipe"] == recipe.fingerprint


def test_seeking_costs_the_same_anywhere():
    """Two billion samples in: skipping over them one by one would not end."""
    far = loader(tiny(instances=2**31 - 1))
    far.load_state_dict({**far.state_dict(), "epoch": 2**30, "position": 2**31 - 5})
    sizes = [len(targets) for _, targets in far]
    assert sizes == [3, 1]
    assert (far.state_dict()["epoch"], far.state_dict()["position"]) == (2**30 + 1, 0)


def test_the_state_counts_what_was_handed_out():
    counted = loader()
    places = []
    for _ in range(2):
        for _ in counted:
            places.append((counted.state_dict()["epoch"], counted.state_dict()["position"]))
    assert places == [(e + (p == 18), p % 18) for e in range(2) for p in range(3, 19, 3)]


def at(epoch, position):
    placed = loader()
    placed.load_state_dict({**placed.state_dict(), "epoch": epoch, "position": position})
    return placed


def test_a_loaded_place_is_kept_by_iter_and_by_set_epoch_of_its_epoch():
    batches = [batch for batch, _ in run(loader(), 3)]
    resumed = at(1, 6)
    iter(resumed)
    resumed.sampler.set_epoch(1)
    assert len(resumed) == 6
    assert [list(resumed.batch_sampler), list(resumed.sampler)] == [
        list(at(1, 6).batch_sampler),
        [*chain(*at(1, 6).batch_sampler)],
    ]
    assert same(list(resumed), batches[8:12])
    resumed.set_epoch(2)
    assert same(list(resumed), batches[12:])


def test_another_epoch_starts_at_its_beginning():
    batches = [batch for batch, _ in run(loader(), 3)]
    for epoch in (0, 2):
        moved = at(1, 6)
        moved.set_epoch(epoch)
        assert same(list(moved), batches[epoch * 6 : epoch * 6 + 6])


def test_a_resumed_epoch_left_again_starts_from_its_beginning():
    batches = [batch for batch, _ in run(loader(), 3)]
    resumed = at(1, 6)
    assert same([next(iter(resumed))], batches[8:9])
    assert same(list(resumed), batches[6:12])


def test_loading_after_iter_counts_if_no_batch_was_drawn():
    batches = [batch for batch, _ in run(loader(), 3)]
    waiting = loader()
    early, running = iter(waiting), iter(waiting)
    assert same([next(running)], batches[:1])
    waiting.load_state_dict({**waiting.state_dict(), "epoch": 2, "position": 9})
    assert same(list(early), batches[15:])
    waiting.load_state_dict({**waiting.state_dict(), "epoch": 2, "position": 9})
    assert same([next(running)], batches[1:2])  # one that has begun goes on


def test_loading_outlives_a_pass_that_was_under_way():
    """A pass that began before a state was loaded goes on by itself and does not move the loaded place."""
    source = loader()
    before = iter(source)
    first = next(before)
    state = source.state_dict()
    next(before)
    source.load_state_dict(state)
    next(before)
    assert source.state_dict() == state
    expected = list(loader())
    assert same([first], expected[:1])
    assert same([next(iter(source))], expected[1:2])


def test_loading_goes_back_too():
    back = loader()
    start = back.state_dict()
    first = [batch for batch, _ in run(back, 2)]
    back.load_state_dict(start)
    assert same([batch for batch, _ in run(back, 2)], first)


def test_less_than_a_step_left_is_dropped_and_the_next_epoch_follows():
    shorter = loader(batch_size=4, drop_last=True)
    shorter.load_state_dict({**shorter.state_dict(), "epoch": 0, "position": 15})
    assert list(shorter) == []
    assert (shorter.state_dict()["epoch"], shorter.state_dict()["position"]) == (1, 0)
    expected = loader(batch_size=4, drop_last=True)
    expected.set_epoch(1)
    assert same(list(shorter), list(expected))


PROCESS = """
import hashlib, json, sys
import gpurender as gr
recipe = gr.Recipe.from_json(sys.argv[1])
loader = gr.DataLoader(recipe, batch_size=3, image_size=24, augment=gr.augment.Crop(), shuffle=True, seed=5)
loader.load_state_dict(json.loads(sys.argv[2]))
images, targets = next(iter(loader))
print(hashlib.sha256(images.numpy().tobytes() + targets.numpy().tobytes()).hexdigest())
"""


def test_another_process_draws_the_batch_that_would_have_come():
    whole = run(loader(), 2)
    images, targets = whole[9][0]
    command = [sys.executable, "-c", PROCESS, tiny().to_json(), whole[8][1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == hashlib.sha256(images.numpy().tobytes() + targets.numpy().tobytes()).hexdigest()


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("key", "other", "ours", "theirs"),
    [
        ("recipe", {"recipe": tiny(seed=1)}, tiny().fingerprint, tiny(seed=1).fingerprint),
        ("seed", {"seed": 6}, "5", "6"),
        ("shuffle", {"shuffle": False}, "1", "0"),
        ("fresh", {"fresh": True}, "0", "1"),
    ],
)
def test_the_state_of_another_stream_is_refused_with_both_values(key, other, ours, theirs):
    mine = loader()
    with pytest.raises(ValueError, match=rf"its {key} is '?{theirs}'?, this loader's is '?{ours}'?"):
        mine.load_state_dict(loader(**other).state_dict())


def test_image_size_augmentation_and_precision_may_change():
    state = loader().state_dict()
    loader(image_size=16, augment=None, dtype=torch.bfloat16, drop_last=True, batch_size=1).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"version": 3}, ValueError, "version is 3, this loader's is 2"),
        ({"version": True}, ValueError, "version is True"),
        ({"version": None}, ValueError, "version"),
        ({"length": 18}, ValueError, "length is 18, this loader's is 17"),
        ({"recipe": "0" * 64}, ValueError, "recipe"),
        ({"recipe": 5}, ValueError, "recipe"),
        ({"seed": 5.0}, ValueError, "seed"),
        ({"position": LENGTH}, ValueError, r"position.*\[0, 16\].*17"),
        ({"position": -1}, ValueError, "position"),
        ({"position": 1.0}, TypeError, "position"),
        ({"position": "3"}, TypeError, "position"),
        ({"position": False}, TypeError, "position"),
        ({"epoch": -1}, ValueError, "epoch"),
        ({"epoch": 2**64}, ValueError, "epoch"),
        ({"epoch": None}, TypeError, "epoch"),
        ({"_iterator": 1}, ValueError, "_iterator"),
    ],
)
def test_a_wrong_value_is_named_and_changes_nothing(change, error, says):
    placed = at(1, 6)
    before = placed.state_dict()
    with pytest.raises(error, match=says):
        placed.load_state_dict({**before, **change})
    assert placed.state_dict() == before


def test_a_state_of_version_1_is_one_without_repeats():
    """From before samples could be repeated; into a loader that repeats, it is refused."""
    state = at(1, 6).state_dict()
    old = {name: value for name, value in state.items() if name != "repeats"} | {"version": 1}
    resumed = loader()
    resumed.load_state_dict(old)
    assert resumed.state_dict() == state
    repeating = loader(augment=gr.augment.DeiT(num_aug_repeats=3))
    with pytest.raises(ValueError, match="its repeats is 1, this loader's is 3"):
        repeating.load_state_dict(old)


@pytest.mark.parametrize(
    "key", ["version", "recipe", "length", "seed", "shuffle", "fresh", "repeats", "epoch", "position"]
)
def test_a_missing_key_is_named(key):
    state = loader().state_dict()
    del state[key]
    with pytest.raises(ValueError, match=f"'{key}' is missing"):
        loader().load_state_dict(state)


@pytest.mark.parametrize("state", [{}, [], None, "state", 3, b"", [("epoch", 1)]])
def test_what_is_no_state_is_refused(state):
    with pytest.raises((TypeError, ValueError), match="state"):
        loader().load_state_dict(state)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted(loader().state_dict())


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(KEYS) | st.text(), JSON, min_size=1), whole=st.booleans())
def test_garbage_is_refused_or_means_what_it_says(changes, whole):
    fuzzed = loader()
    before = fuzzed.state_dict()
    state = {**before, **changes} if whole else changes
    try:
        fuzzed.load_state_dict(state)
    except (TypeError, ValueError):
        assert fuzzed.state_dict() == before
    else:
        assert fuzzed.state_dict() == state
        assert next(iter(fuzzed))[0].shape[0] in range(1, 4)
