"""Passes of N steps: the same batches as epoch after epoch, cut elsewhere, whatever is stopped, resumed or set."""

import copy
import json
import logging
from itertools import chain, islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpurender as gr
from gpurender.augment import Policy
from gpurender.loading.ranks import Ranks

RECIPE = gr.OnePFrac(classes=10, points=300, image_size=32, fill_rate=0.0)
MIXTURE = gr.Mixture({RECIPE: 1, gr.VisualAtom(classes=3, image_size=32, orbits=(1, 2), quantization=(5, 9)): 2})


def loader(recipe=RECIPE, **keywords):
    keywords = {"batch_size": 4, "shuffle": True, "image_size": 16, "device": "cpu", "seed": 3} | keywords
    return gr.DataLoader(recipe, **keywords)


def stream(count, recipe=RECIPE, **keywords):
    """Return the labels of the first batches of an endless run without ``steps_per_epoch``."""
    feed = loader(recipe, **keywords)
    return list(islice((targets.tolist() for _ in range(count) for _, targets in feed), count))


def labels(feed, passes=1):
    return [[targets.tolist() for _, targets in feed] for _ in range(passes)]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 9), batch_size=st.integers(1, 12), drop_last=st.booleans(), shuffle=st.booleans(),
    stopped=st.integers(0, 12), mixture=st.booleans(), prefetch=st.sampled_from([None, 2]),
)  # fmt: skip
def test_passes_are_the_stream_cut_every_n_steps(count, batch_size, drop_last, shuffle, stopped, mixture, prefetch):
    """And a run that is stopped anywhere and resumed elsewhere gives the rest of it."""
    recipe = MIXTURE if mixture else RECIPE
    keywords = {"batch_size": batch_size, "drop_last": drop_last and batch_size <= 10, "shuffle": shuffle}
    expected = stream(4 * count, recipe, **keywords)
    feed = loader(recipe, steps_per_epoch=count, prefetch_factor=prefetch, **keywords)
    assert len(feed) == len(feed.batch_sampler) == count
    assert labels(feed, 4) == [expected[i : i + count] for i in range(0, 4 * count, count)]

    feed, stopped = loader(recipe, steps_per_epoch=count, **keywords), min(stopped, 4 * count - 1)
    for _ in range(stopped // count):
        assert len(list(feed)) == count
    assert len(list(islice(feed, stopped % count))) == stopped % count
    resumed = loader(recipe, steps_per_epoch=count, **keywords)
    resumed.load_state_dict(json.loads(json.dumps(feed.state_dict())))
    assert len(resumed) == count
    rest = labels(resumed, 4 - stopped // count)
    assert [len(some) for some in rest] == [count - stopped % count] + [count] * (3 - stopped // count)
    assert list(chain(*rest)) == expected[stopped:]


def test_images_and_parameters_are_those_of_the_stream():
    plain, steps = (loader(augment=gr.augment.DeiT(), fresh=True, **more) for more in ({}, {"steps_per_epoch": 2}))
    expected = [batch for _ in range(2) for batch in plain]
    found = [batch for _ in range(3) for batch in steps]
    for (images, targets), (others, same) in zip(expected, found, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, same)


def test_a_policy_s_schedule_counts_passes():
    asked = []

    class Scheduled(Policy):
        def draw(self, numbers, **keywords):
            return gr.augment.Resize().draw(numbers, **keywords)

        def apply(self, canvases, parameters, **keywords):
            return gr.augment.Resize().apply(canvases, parameters, **keywords)

        def at_epoch(self, epoch):
            asked.append(epoch)
            return self

    feed = loader(augment=Scheduled(), steps_per_epoch=2)
    for _ in range(3):
        list(feed)
    assert asked == [0, 0, 1, 1, 2, 2]


def test_set_epoch_counts_passes_and_goes_on_where_the_stream_is():
    expected = stream(20)
    feed = loader(steps_per_epoch=4)
    for epoch in (0, 1, 3, 2):
        feed.set_epoch(epoch)
        assert [labels(feed)[0] for _ in range(1)] == [expected[4 * epoch : 4 * epoch + 4]]
    feed.set_epoch(2**40)  # anywhere in O(1)
    assert len(labels(feed)[0]) == 4
    with pytest.raises(ValueError, match="epoch must be an integer in"):
        feed.set_epoch(2**62)


@pytest.mark.parametrize("keywords", [{"steps_per_epoch": 3}, {}, {"sampler": range(10), "shuffle": None}])
def test_a_loop_over_the_epochs_that_are_left_is_that_of_a_resumed_run(keywords):
    def rest(feed):
        return [(epoch, targets.tolist()) for epoch in range(feed.epoch, 3) for _, targets in feed]

    whole, feed = rest(loader(**keywords)), loader(**keywords)
    assert {epoch for epoch, _ in whole} == {0, 1, 2}
    list(feed)
    assert feed.epoch == 1
    next(iter(feed))
    resumed = loader(**keywords)
    resumed.load_state_dict(feed.state_dict())
    assert resumed.epoch == 1
    assert rest(resumed) == whole[len(feed) + 1 :]
    assert resumed.epoch == 3


def test_no_step_of_a_pass_is_its_begin_where_nothing_of_an_epoch_is_left():
    """Eight of ten samples are given, and a step takes four: the state of that place can be loaded."""
    feed = loader(steps_per_epoch=2, drop_last=True)
    list(feed)
    plan, place = feed._plan, feed._cursor.place
    assert (place.epoch, place.position) == (0, 8)
    assert plan.at_step(place, 0, Ranks(0, 1)) == place
    feed._cursor.seek(plan.at_step(place, 0, Ranks(0, 1)), resumes=True)
    again = loader(steps_per_epoch=2, drop_last=True)
    again.load_state_dict(feed.state_dict())
    assert labels(again) == labels(feed) == [stream(4, drop_last=True)[2:]]


def test_a_loader_without_a_batch_says_so(caplog):
    caplog.set_level(logging.WARNING, "gpurender")
    feed = loader(batch_size=11, drop_last=True)
    assert [list(feed) for _ in range(3)] == [[], [], []]  # and says so once
    assert [record.getMessage() for record in caplog.records] == [
        "the loader has no batch: drop_last leaves out all 10 samples of an epoch, because a step takes 11"
    ]


def test_a_pass_left_midway_starts_again_also_after_resuming():
    expected = stream(12)
    feed = loader(steps_per_epoch=5)
    list(feed)
    list(islice(feed, 2))
    resumed = loader(steps_per_epoch=5)
    resumed.load_state_dict(feed.state_dict())
    assert labels(feed) == [expected[5:10]]
    assert next(iter(resumed))[1].tolist() == expected[7]
    assert copy.deepcopy(resumed).state_dict() == resumed.state_dict()
    assert labels(resumed, 2)[0] == expected[5:10]


@pytest.mark.parametrize("ranks", [(1, 2), (2, 1), (2, 3)])
def test_the_stream_goes_on_at_the_same_sample_with_other_ranks(ranks):
    """No sample of an epoch is lost or repeated; the pass has its remaining steps, and the next ones are whole."""
    before, after = ranks
    recipe = gr.OnePFrac(classes=48, points=300, image_size=32, fill_rate=0.0)

    def feeds(world):
        return [loader(recipe, batch_size=2, steps_per_epoch=5, rank=r, world_size=world) for r in range(world)]

    old, new, seen = feeds(before), feeds(after), []
    steps = [iter(feed) for feed in old]
    for _ in range(3):
        seen += [label for step in steps for label in next(step)[1].tolist()]
    for feed in new:
        feed.load_state_dict(old[0].state_dict())
    for count in (2, 5, 5, 5, 5):
        passed = [labels(feed)[0] for feed in new]
        assert [len(batches) for batches in passed] == [count] * after
        seen += [label for batches in zip(*passed, strict=True) for batch in batches for label in batch]
    whole = [label for batch in stream(120, recipe, batch_size=2) for label in batch]
    assert seen == whole[: len(seen)]
    assert len(seen) > 48  # beyond the end of an epoch, whose last step may be incomplete
    assert len({json.dumps(feed.state_dict()) for feed in new}) == 1


def test_views_of_the_next_pass():
    feed = loader(steps_per_epoch=4)
    list(feed)
    expected = [list(indices) for indices in feed.batch_sampler]
    assert [index for batch in expected for index in batch] == list(feed.sampler)
    assert expected == labels(feed)[0]  # a class has one image
    for keywords in ({}, {"drop_last": True}, {"recipe": MIXTURE}):
        for count in range(1, 9):
            expected = sum(map(len, stream(count, **keywords)))
            assert len(loader(steps_per_epoch=count, **keywords).sampler) == expected, (keywords, count)
    assert isinstance(feed.sampler, torch.utils.data.RandomSampler)


@pytest.mark.parametrize(
    ("keywords", "world_size", "ragged"),
    [
        ({}, 1, 2),  # 10 samples: 4, 4, 2
        ({"batch_size": 5}, 1, 0),
        ({"batch_size": 2}, 2, 2),
        ({"drop_last": True}, 1, 0),
        ({"steps_per_epoch": 2}, 1, 0),
        ({"steps_per_epoch": 3}, 1, 2),
        ({"steps_per_epoch": 4}, 1, 0),
        ({"steps_per_epoch": 6}, 1, 2),
        ({"steps_per_epoch": 6, "batch_size": 5}, 1, 0),
        ({"steps_per_epoch": 3, "drop_last": True}, 1, 0),
    ],
)
def test_the_samples_of_an_incomplete_last_step(keywords, world_size, ragged):
    plan = loader(**keywords)._plan
    assert plan.ragged(plan.first, Ranks(0, world_size)) == ragged


def test_that_an_epoch_starts_again_is_said_once(caplog):
    caplog.set_level(logging.WARNING, "gpurender")
    remedy = "steps_per_epoch=N gives passes of N batches, "
    for keywords, more in (({}, remedy), ({"steps_per_epoch": 3}, "")):
        feed = loader(**keywords)
        list(feed)
        next(iter(feed))
        feed.load_state_dict(feed.state_dict())
        list(feed)
        assert not caplog.records
        for _ in range(3):
            next(iter(feed))
        assert [record.getMessage() for record in caplog.records] == [
            f"epoch 2 was left midway and starts again with the same batches; {more}set_epoch(e) goes to another epoch"
        ]
        caplog.clear()


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be an integer in"),
        ({"steps_per_epoch": 1.5}, TypeError, "steps_per_epoch must be an integer"),
        ({"steps_per_epoch": True}, TypeError, "steps_per_epoch must be an integer"),
        (
            {"steps_per_epoch": 3, "sampler": [1, 2], "shuffle": None},
            ValueError,
            "steps_per_epoch must be left out when a sampler",
        ),
        (
            {"steps_per_epoch": 3, "batch_sampler": [[1]], "shuffle": None, "batch_size": 1},
            ValueError,
            "steps_per_epoch must be left out when a batch_sampler",
        ),
    ],
)
def test_what_is_wrong_is_named(keywords, error, message):
    with pytest.raises(error, match=message):
        loader(**keywords)


def test_an_epoch_without_a_whole_step_is_refused():
    """At once where the number of ranks is known or one rank asks for too much already."""
    steps = {"drop_last": True, "steps_per_epoch": 3}
    for batch_size, more, most in ((11, {}, 10), (4, {"rank": 2, "world_size": 3}, 3)):
        wrong = rf"^drop_last must be False, or batch_size at most {most}, with steps_per_epoch: a step takes 1[12] "
        with pytest.raises(ValueError, match=wrong):
            loader(batch_size=batch_size, **more, **steps)
    assert len(loader(batch_size=10, **steps)) == len(loader(batch_size=3, rank=2, world_size=3, **steps)) == 3


def test_states_of_other_loaders_are_refused():
    plain, steps = loader(), loader(steps_per_epoch=3)
    with pytest.raises(ValueError, match="state is of a loader without steps_per_epoch, this loader is with it"):
        steps.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="state is of a loader with steps_per_epoch, this loader is without it"):
        plain.load_state_dict(steps.state_dict())
    with pytest.raises(ValueError, match="its steps_per_epoch is 3, this loader's is 4"):
        loader(steps_per_epoch=4).load_state_dict(steps.state_dict())
    next(iter(steps))
    begun = steps.state_dict()
    for changed in ({"pass_step": 0}, {"pass_epoch": 5}, {"pass_position": 4}, {"epoch": 0, "position": 0}):
        with pytest.raises(ValueError, match=r"^state\['pass_step'\] must be 0 where a pass begins and above 0 behind"):
            steps.load_state_dict(begun | changed)
        assert steps.state_dict() == begun
    for key, wrong in (("pass", -1), ("pass_step", 3), ("pass_epoch", -1), ("pass_position", 10), ("pass", True)):
        with pytest.raises((TypeError, ValueError), match=rf"state\['{key}'\] must be"):
            steps.load_state_dict(steps.state_dict() | {key: wrong})
