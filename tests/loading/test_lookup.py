"""One batch by its number: the bytes that a pass gives, without disturbing it; and the parameters that made them."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpurender as gr
from gpurender.loading.cursor import Cursor, Place

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]
POINTS = gr.OnePFrac(classes=3, instances=4, image_size=32, points=300, fill_rate=0.0, base=TRIANGLE)
ATOMS = gr.VisualAtom(classes=2, instances=5, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4))
RECIPES = {
    "1p-frac": POINTS,
    "visual atom": ATOMS,
    "noise": gr.Noise(classes=3, instances=3, image_size=16),
    "long tail": gr.VisualAtom(
        classes=3, instances=5, image_size=32, orbits=(1, 3), quantization=(5, 9), radius=(2, 4), class_prior=3.0
    ),
    "wrong labels": gr.Noise(classes=3, instances=4, image_size=16, label_noise=0.5),
    "mixture": gr.Mixture({POINTS: 1, ATOMS: 2}),
    "schedule": gr.Schedule(POINTS, points=((0, 300), (7, 100))),
}
POLICIES = {
    "none": None,
    "crop": gr.augment.Crop(vflip=0.5),
    "deit": gr.augment.DeiT(re_prob=1.0),
    "elements": gr.augment.DeiT(mixup_mode="elem", mixup_off_epoch=1, num_aug_repeats=2),
    "views": gr.augment.TwoViews("crop"),
}


def loader(recipe=POINTS, **keywords):
    keywords = {"batch_size": 4, "image_size": 16, "augment": "crop", "shuffle": True, "seed": 5, **keywords}
    return gr.DataLoader(recipe, device="cpu", **keywords)


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(list(RECIPES)), st.sampled_from(list(POLICIES)), st.integers(1, 3), st.booleans(), st.booleans(),
    st.booleans(), st.sampled_from([None, 2, 5]), st.integers(0, 2**31), st.data(),
)  # fmt: skip
def test_a_batch_has_the_bytes_that_the_pass_gave(recipe, policy, world, drop, shuffle, fresh, steps, seed, data):
    keywords = {
        "augment": POLICIES[policy], "rank": data.draw(st.integers(0, world - 1)), "world_size": world, "batch_size": 3,
        "drop_last": drop and 3 * world <= len(RECIPES[recipe]), "shuffle": shuffle, "fresh": fresh, "seed": seed,
        "steps_per_epoch": steps,
    }  # fmt: skip
    whole, there = loader(RECIPES[recipe], **keywords), loader(RECIPES[recipe], **keywords)
    passes = [list(whole) for _ in range(2)]
    epoch = data.draw(st.integers(0, 1))
    step = data.draw(st.integers(0, len(passes[epoch]) - 1))
    there.set_epoch(epoch)
    assert equal(there.batch_at(step), passes[epoch][step])
    assert there.step == 0


@pytest.mark.parametrize("prefetch_factor", [None, 2])
def test_a_pass_under_way_is_not_disturbed(prefetch_factor):
    feed = loader(prefetch_factor=prefetch_factor)
    expected = list(loader())
    for number, batch in enumerate(feed):
        assert equal(batch, expected[number])
        state = feed.state_dict()
        if number < 2:
            assert feed.step == number + 1
            for step in (2, 0, 1, number + 1):
                assert equal(feed.batch_at(step), expected[step])
        assert feed.state_dict() == state
    assert (number, feed.epoch, feed.step) == (2, 1, 0)
    other = loader()
    other.set_epoch(1)
    assert equal(feed.batch_at(0), next(iter(other)))


@pytest.mark.parametrize("steps", [None, 7])
@pytest.mark.parametrize(("batch_size", "world"), [(2, 1), (5, 1), (1, 3), (3, 1)])
def test_after_a_state_of_other_steps_the_batches_that_come_have_numbers(batch_size, world, steps):
    """The state lies at sample 3 or 6 of 12 samples; steps of another size do not fall there."""
    feed = loader(batch_size=3, steps_per_epoch=steps)
    for _ in itertools.islice(feed, 1 + (batch_size == 3)):
        pass
    keywords = {"batch_size": batch_size, "rank": world - 1, "world_size": world, "steps_per_epoch": steps}
    found, rest = loader(**keywords), loader(**keywords)
    found.load_state_dict(feed.state_dict())
    rest.load_state_dict(feed.state_dict())
    done = found.step
    assert done == (6 if batch_size == 3 else 3) // (batch_size * world) if steps is None else 1 + (batch_size == 3)
    for number, batch in enumerate(rest):
        assert equal(found.batch_at(done + number), batch)
    with pytest.raises(
        ValueError, match=rf"^step must be an integer in \[0, {done + number}\], got {done + number + 1}"
    ):
        found.batch_at(done + number + 1)


def test_the_batches_before_a_state_of_other_steps_are_not_known():
    feed = loader(batch_size=5)
    next(iter(feed))
    other = loader(batch_size=2)
    other.load_state_dict(feed.state_dict())
    with pytest.raises(
        ValueError,
        match=r"^step must be at least 2: the batches before the place that was loaded had another size, got 1$",
    ):
        other.batch_at(1)
    same = loader(batch_size=5)
    same.load_state_dict(feed.state_dict())
    assert equal(same.batch_at(0), next(iter(loader(batch_size=5))))


def test_where_drop_last_leaves_nothing_there_is_no_batch():
    with pytest.raises(
        ValueError, match=r"^step must be that of a batch, and drop_last leaves no batch in this epoch$"
    ):
        loader(batch_size=13, drop_last=True).batch_at(0)
    feed = loader(batch_size=4, drop_last=True)
    next(iter(feed))
    large = loader(batch_size=9, drop_last=True)
    large.load_state_dict(feed.state_dict())
    with pytest.raises(ValueError, match=r"^step must be that of a batch"):
        large.parameters_at(0)


@pytest.mark.parametrize("step", [-1, 3, 2.0, True, None, "0"])
def test_a_wrong_step_is_refused(step):
    with pytest.raises((TypeError, ValueError), match=r"^step must be an integer in \[0, 2\], got "):
        loader().batch_at(step)


@pytest.mark.parametrize(
    "follows", [{"sampler": range(12)}, {"batch_sampler": [[0]], "batch_size": 1}], ids=["sampler", "batch_sampler"]
)
@pytest.mark.parametrize("method", ["batch_at", "parameters_at", "step"])
def test_a_user_s_sampler_is_not_iterated(follows, method):
    feed = loader(**follows, shuffle=None)
    message = f"^{next(iter(follows))} must be left out: only batches of the loader's own order have numbers$"
    with pytest.raises(ValueError, match=message):
        feed.step if method == "step" else getattr(feed, method)(0)


def test_what_is_handed_out_is_collated():
    feed = loader(collate_fn=len)
    assert [feed.batch_at(step) for step in range(3)] == [4, 4, 4]
    assert loader(collate_fn=len, batch_size=5).batch_at(2) == 2


def test_mixing_that_is_switched_off_is_off():
    feed, plain = loader(augment="deit"), loader(augment=gr.augment.DeiT().unmixed())
    mixed = feed.batch_at(1)
    feed.mixup_enabled = False
    assert equal(feed.batch_at(1), plain.batch_at(1))
    assert not equal(mixed, plain.batch_at(1))
    assert feed.parameters_at(1).policy == gr.augment.DeiT().unmixed()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("policy", POLICIES)
def test_parameters_make_the_batch(recipe, policy):
    """What is said of a batch, rendered and applied by hand, gives the batch."""
    chosen, fresh = RECIPES[recipe], policy in ("crop", "elements")
    feed = loader(chosen, augment=POLICIES[policy], fresh=fresh, batch_size=3, rank=1, world_size=2)
    feed.set_epoch(1)
    step = len(feed) - 1
    found, (images, targets) = feed.parameters_at(step), feed.batch_at(step)
    assert (found.epoch, found.first) == (1, 6 * step + 3 if len(chosen) % 6 == 0 else found.first)
    indices, ids = torch.from_numpy(found.indices), torch.from_numpy(found.draw_ids)
    canvases = gr.Renderer(chosen).render(indices, ids if fresh else indices, fresh)
    made = found.policy.apply(canvases, found.parameters, image_size=16)
    assert equal(made, images)
    assert equal(found.policy.targets(found.labels, found.parameters, chosen.classes), targets)
    if recipe not in ("mixture", "schedule"):  # whose orders follow rules of their own
        assert np.array_equal(found.draw_ids, found.indices + len(chosen))
    drawn = found.policy.draw(found.augment_ids, seed=5, canvas_size=chosen.image_size, image_size=16)
    assert all(torch.equal(drawn[name], found.parameters[name]) for name in drawn)


def test_the_place_before_a_batch_is_kept():
    feed = loader(steps_per_epoch=2)
    assert feed.last_state_dict() is None
    given = []
    for _ in range(3):
        for batch in feed:
            given.append((batch, json.dumps(feed.last_state_dict())))
    assert [json.loads(state)["position"] for _, state in given] == [0, 4, 8, 0, 4, 8]
    for batch, state in given:
        again = loader(steps_per_epoch=2)
        again.load_state_dict(json.loads(state))
        assert equal(again.batch_at(again.step), batch)
        assert equal(next(iter(again)), batch)


def test_a_pass_that_is_left_does_not_move_the_place_before_the_last_batch():
    cursor = Cursor(Place())
    cursor.advance(Place(0, 4), 0, Place())
    cursor.advance(Place(1), 0)
    assert (cursor.place, cursor.given) == (Place(1), Place())
    cursor.seek(Place(3), resumes=False)
    cursor.advance(Place(0, 8), 0, Place(0, 4))
    assert (cursor.place, cursor.given) == (Place(3), Place())
