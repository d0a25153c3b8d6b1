"""torch's keywords: each works, or is accepted with a line in the log, or is refused."""

import copy
import json
import logging
import multiprocessing
import pickle
import threading
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler, default_collate

import gpurender as gr
from gpurender.loading import sampler_plan
from gpurender.loading.cursor import Place
from gpurender.loading.ranks import Ranks

RECIPE = gr.VisualAtom(
    classes=5, instances=5, image_size=48, orbits=(8, 15), quantization=(30, 60), nucleus=(-0.2, 0.2), radius=(2, 10)
)


def loader(recipe=RECIPE, **keywords):
    return gr.DataLoader(recipe, **{"image_size": 24, **keywords})


def same(found, wanted):
    found, wanted = list(found), list(wanted)
    return len(found) == len(wanted) and all(
        torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(found, wanted, strict=True)
    )


def drawn(samples):
    """The loader's batch of these samples, without augmentation."""
    feed = loader(batch_sampler=[samples])
    return next(iter(feed))


# ---------------------------------------------------------------------------------------------- sampler, batch_sampler


def test_positional_arguments_stand_in_torchs_order():
    sampler = SequentialSampler(range(25))
    feed = gr.DataLoader(RECIPE, 4, None, sampler, None, 0, None, False, True, 0, None, None, None)
    assert (feed.batch_size, feed.sampler, feed.drop_last, len(feed)) == (4, sampler, True, 6)


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_sampler_decides_order_and_length(drop_last):
    order = [3, 24, 0, 7, 7, 1, 20]
    feed = loader(sampler=order, batch_size=3, drop_last=drop_last)
    wanted = [[3, 24, 0], [7, 7, 1], [20]][: 2 if drop_last else 3]
    assert len(feed) == len(wanted)
    for _ in range(2):  # asked anew for every epoch
        assert same(feed, [drawn(samples) for samples in wanted])
    assert feed.sampler is order


def test_a_batch_sampler_decides_the_batches():
    batches = [[3], np.array([24, 0, 7]), torch.tensor([7, 1])]
    feed = loader(batch_sampler=batches)
    next(half := iter(feed)), next(half)
    state = feed.state_dict()
    feed = loader(batch_sampler=batches)
    feed.load_state_dict(state)
    assert [targets.tolist() for _, targets in feed] == [[1, 0]]
    feed = loader(batch_sampler=batches)
    assert len(feed) == 3
    assert feed.batch_size is None
    assert feed.batch_sampler is batches
    assert [targets.tolist() for _, targets in feed] == [[0], [4, 0, 1], [1, 0]]
    wrapped = BatchSampler(SequentialSampler(range(25)), 10, False)
    assert [len(targets) for _, targets in loader(batch_sampler=wrapped)] == [10, 10, 5]
    assert loader(batch_sampler=wrapped).sampler is wrapped.sampler


def test_a_sampler_without_length_works_until_it_is_asked():
    feed = loader(sampler=(n for n in [1, 2, 3]), batch_size=2)
    with pytest.raises(TypeError, match="len"):
        len(feed)
    assert [targets.tolist() for _, targets in feed] == [[0, 0], [0]]


def test_what_a_sampler_repeats_is_augmented_and_drawn_anew():
    """On every place and rank, in every epoch."""
    for fresh in (False, True):
        seen = []
        for rank in range(2):
            feed = loader(
                sampler=[7] * 6, batch_size=4, augment=gr.augment.Crop(), fresh=fresh, rank=rank, world_size=2
            )
            seen += [image for _ in range(2) for images, _ in feed for image in images]
        assert len({image.numpy().tobytes() for image in seen}) == 24
    plain = [image for images, _ in loader(sampler=[7] * 6) for image in images]
    assert len({image.numpy().tobytes() for image in plain}) == 1


def test_a_distributed_sampler_shares_the_samples_out():
    dataset = gr.Dataset(RECIPE)
    feeds = [loader(dataset, sampler=DistributedSampler(dataset, 2, r, seed=3), batch_size=4) for r in range(2)]
    for epoch in range(2):
        for feed in feeds:
            feed.set_epoch(epoch)
            assert feed.sampler.epoch == epoch  # told by the loader
        labels = torch.cat([targets for feed in feeds for _, targets in feed])
        assert len(labels) == 26
        assert set(labels.tolist()) == set(range(5))


@pytest.mark.parametrize(
    ("sampler", "error"),
    [([25], ValueError), ([-1], ValueError), ([1.5], TypeError), ([True], TypeError), (["1"], TypeError),
     ([None], TypeError)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
def test_numbers_that_are_no_samples_are_named_in_their_turn(kind, sampler, error):
    numbers = [1, 2, *sampler] if kind == "sampler" else [[1], [2], sampler]
    feed = loader(**{kind: numbers})
    batches = iter(feed)
    assert [next(batches)[1].tolist() for _ in range(2)] == [[0], [0]]
    for _ in range(2):  # asked again, it is the same
        with pytest.raises(error, match=rf"{kind}'s indices"):
            next(batches)
    assert feed.state_dict()["position"] == 2


def test_empty_lists_and_no_lists_are_refused():
    with pytest.raises(ValueError, match=r"batch_sampler.*empty"):
        next(iter(loader(batch_sampler=[[]])))
    with pytest.raises(TypeError, match="batch_sampler"):
        next(iter(loader(batch_sampler=[5])))
    assert list(loader(sampler=[])) == []


# ------------------------------------------------------------------------------------------------ state with a sampler


def shuffled(**more):
    dataset = gr.Dataset(RECIPE)
    sampler = DistributedSampler(dataset, 2, more.get("rank", 0), seed=3)
    return loader(sampler=sampler, batch_size=3, augment=gr.augment.Crop(), **{"rank": 0, "world_size": 2, **more})


def shuffled_numbers(state):
    """What torch's sampler gives behind a place."""
    sampler = DistributedSampler(range(25), 2, 0, seed=3)
    sampler.set_epoch(state["epoch"])
    return islice(sampler, state["position"], None)


def random_sampler(seed=1):
    return RandomSampler(range(25), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_seeded_random_sampler_is_resumed_in_every_epoch(kind, drop_last):
    """Its generator moves on with every epoch; a new one is brought there, without drawing an image."""

    def made(seed=1):
        if kind == "sampler":
            return loader(sampler=random_sampler(seed), batch_size=4, drop_last=drop_last)
        return loader(batch_sampler=BatchSampler(random_sampler(seed), 4, drop_last))

    feed, whole, states = made(), [], []
    for _ in range(3):
        for batch in feed:
            whole.append(batch)
            states.append(feed.state_dict())
    for done, state in enumerate(states[:-1], start=1):
        resumed = made()
        resumed.load_state_dict(state)
        rest = []
        while resumed.state_dict()["epoch"] < 3:
            rest += list(resumed)
        assert same(rest, whole[done:])
        other = made(seed=2)
        other.load_state_dict(state)
        with pytest.raises(RuntimeError, match=f"{kind} gives other indices"):
            next(iter(other))


def test_a_distributed_sampler_that_is_never_told_its_epoch_stays_as_it_is():
    feed = shuffled()
    whole = [batch for _ in range(2) for batch in feed]
    one = shuffled()
    [next(batches) for batches in [iter(one)] for _ in range(5)]
    again = shuffled()
    again.load_state_dict(one.state_dict())
    assert (again.state_dict()["epoch"], again.state_dict()["position"]) == (1, 0)
    assert same(again, whole[5:])


@pytest.mark.parametrize("ahead", [None, 2])
def test_a_sampler_is_resumed_at_every_batch(ahead):
    feed, whole, states = shuffled(prefetch_factor=ahead), [], []
    for epoch in range(2):
        feed.set_epoch(epoch)
        for batch in feed:
            whole.append(batch)
            states.append(json.dumps(feed.state_dict()))
    for done, state in enumerate(states[:-1], start=1):
        resumed = shuffled(prefetch_factor=ahead)
        resumed.load_state_dict(json.loads(state))
        assert json.dumps(resumed.state_dict()) == state
        resumed.set_epoch(json.loads(state)["epoch"])  # as at the head of a training loop
        assert next(iter(resumed.batch_sampler)) == list(shuffled_numbers(json.loads(state)))[:3]
        assert same([next(iter(resumed))], whole[done : done + 1])
        assert len(state) < 1000


def test_a_sampler_that_gives_other_numbers_is_not_followed():
    feed = loader(sampler=random_sampler(), batch_size=4)
    next(iter(feed))
    state = feed.state_dict()
    again = loader(sampler=random_sampler(), batch_size=4)
    again.load_state_dict(state)
    assert len(list(again)) == 6
    for seed in range(2, 10):  # digests above and below
        other = loader(sampler=random_sampler(seed), batch_size=4)
        other.load_state_dict(state)
        with pytest.raises(RuntimeError, match=rf"sampler gives other indices.*{state['mark']}"):
            next(iter(other))
    short = loader(sampler=[1, 2], batch_size=4)
    short.load_state_dict(state)
    with pytest.raises(RuntimeError, match="sampler gives other batches"):
        next(iter(short))


@pytest.mark.parametrize("ahead", [None, 2])
@pytest.mark.parametrize("at", [0, 3, 7, 9])
def test_ctrl_c_in_a_sampler_loses_no_batch(ahead, at):
    """It comes at once, wherever the sampler is; asked again, the pass goes on at its place."""

    class Interrupted:
        def __init__(self):
            self.armed = True

        def __len__(self):
            return 10

        def __iter__(self):
            for number in range(10):
                if number == at and self.armed:
                    self.armed = False
                    raise KeyboardInterrupt
                yield number

    feed = loader(sampler=Interrupted(), batch_size=2, prefetch_factor=ahead)
    batches, found, interrupts = iter(feed), [], 0
    while True:
        try:
            found.append(next(batches))
        except KeyboardInterrupt:
            interrupts += 1
        except StopIteration:
            break
    assert interrupts == 1
    assert same(found, loader(batch_size=2, sampler=range(10)))
    assert (feed.state_dict()["epoch"], feed.state_dict()["position"]) == (1, 0)


def test_more_places_than_an_epoch_has_are_refused(monkeypatch):
    """An index too many would have the address of one of the next epoch."""
    monkeypatch.setattr(sampler_plan, "MAX_POSITIONS", 8)
    plan = sampler_plan.SamplerPlan(range(5), None, 2, False, 5)
    batches = plan.batches(Place(), Ranks(0, 2))
    assert [next(batches).host.draw_ids.tolist() for _ in range(2)] == [[0, 2], [4, 6]]
    with pytest.raises(ValueError, match="sampler must give fewer than 8 indices per epoch"):
        next(batches)


def test_the_last_place_of_a_sampler_s_epoch_is_taken():
    feed = loader(sampler=[1])
    state = feed.state_dict() | {"epoch": 2**23 - 1, "position": 2**40 - 1}
    feed.load_state_dict(state)
    assert feed.state_dict() == state
    for changes in ({"epoch": 2**23}, {"position": 2**40}):
        with pytest.raises(ValueError, match=rf"^state\['{next(iter(changes))}'\] must be "):
            feed.load_state_dict(state | changes)


def test_addresses_of_a_sampler_s_samples_are_apart_in_every_epoch():
    """By 2^40, the most indices that an epoch may have."""
    plan = sampler_plan.SamplerPlan([3, 3, 4], None, 2, False, 5)
    found = [batch.host for batch in plan.batches(Place(2), Ranks(1, 3))]
    assert [host.indices.tolist() for host in found] == [[3, 3], [4]]
    assert [host.draw_ids.tolist() for host in found] == [[2**41 + 1, 2**41 + 4], [2**41 + 7]]
    assert all(host.augment_ids is host.draw_ids for host in found)


def test_states_of_samplers_and_of_the_own_order_are_told_apart():
    ours, theirs = loader(), shuffled()
    with pytest.raises(ValueError, match="sampler"):
        ours.load_state_dict(theirs.state_dict())
    with pytest.raises(ValueError, match="sampler"):
        theirs.load_state_dict(ours.state_dict())


def test_another_number_of_ranks_is_refused_with_a_sampler_and_another_rank_taken():
    feed = shuffled()
    next(iter(feed))
    state = feed.state_dict()
    with pytest.raises(ValueError, match="world_size is 2, this loader's is 3"):
        shuffled(world_size=3).load_state_dict(state)
    neighbour, whole = shuffled(rank=1), shuffled(rank=1)
    neighbour.load_state_dict(state)
    assert same(neighbour, list(whole)[1:])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"mark": 5}, ValueError, "mark"),
        ({"mark": "0" * 8}, ValueError, "mark"),
        ({"rank": 2}, ValueError, "rank"),
        ({"rank": "0"}, ValueError, "rank"),
        ({"position": 2**40}, ValueError, "position"),
        ({"epoch": 2**23}, ValueError, "epoch"),
    ],
)
def test_a_wrong_state_of_a_sampler_is_refused(change, error, says):
    feed = shuffled()
    next(iter(feed))
    state = feed.state_dict()
    with pytest.raises(error, match=says):
        feed.load_state_dict({**state, **change})
    assert feed.state_dict() == state


# --------------------------------------------------------------------------------------------------------- generator


def test_a_generator_is_a_seed():
    by_seed = list(loader(shuffle=True, seed=42, batch_size=5))
    assert same(loader(shuffle=True, generator=torch.Generator().manual_seed(42), batch_size=5), by_seed)
    other = loader(shuffle=True, generator=torch.Generator().manual_seed(43), batch_size=5)
    assert not same(other, by_seed)
    assert loader(generator=torch.Generator().manual_seed(-1)).state_dict()["seed"] == 2**64 - 1
    generator = torch.Generator().manual_seed(42)
    before = generator.get_state()
    list(loader(shuffle=True, generator=generator, batch_size=5))
    assert torch.equal(generator.get_state(), before)
    for copied in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        copied.set_epoch(0), other.set_epoch(0)
        assert same(copied, list(other))


# -------------------------------------------------------------------------------------------- prefetch_factor, timeout


@pytest.mark.parametrize("ahead", [0, 1, 3, 64])
def test_batches_drawn_ahead_are_the_same(ahead):
    keywords = {"batch_size": 4, "shuffle": True, "augment": gr.augment.DeiT.onepfrac(), "fresh": True}
    plain, feed = loader(**keywords), loader(**keywords, prefetch_factor=ahead)
    for _ in range(3):
        assert same(feed, plain)
        assert feed.state_dict() == plain.state_dict()


def test_a_thread_draws_so_many_batches_and_no_more(monkeypatch):
    names, gate = [], threading.Semaphore(0)
    draw = gr.DataLoader._render

    def counted(self, step, mixes):
        names.append((step.first, threading.current_thread().name))
        gate.release()
        return draw(self, step, mixes)

    monkeypatch.setattr(gr.DataLoader, "_render", counted)
    batches = iter(loader(batch_size=2, prefetch_factor=3))
    next(batches)
    for _ in range(4):
        assert gate.acquire(timeout=30)
    assert [first for first, _ in names] == [0, 2, 4, 6]
    assert all(name.startswith("gpurender-ahead") for _, name in names)
    next(batches)
    assert gate.acquire(timeout=30)
    assert [first for first, _ in names] == [0, 2, 4, 6, 8]


def test_a_batch_that_takes_too_long_is_a_timeout(monkeypatch):
    next(iter(loader(batch_size=2)))  # kernels are compiled without a time-out
    stuck, drawn_at = threading.Event(), []
    draw = gr.DataLoader._render

    def slow(self, step, mixes):
        drawn_at.append(step.first)
        if step.first == 2:
            stuck.wait(60)
        return draw(self, step, mixes)

    monkeypatch.setattr(gr.DataLoader, "_render", slow)
    feed = loader(batch_size=2, timeout=60)
    batches = iter(feed)
    first = next(batches)
    feed.timeout = 0.2
    with pytest.raises(RuntimeError, match=r"timed out.*timeout=0\.2"):
        next(batches)
    assert feed.state_dict()["position"] == 2
    with pytest.raises(RuntimeError, match="timed out"):  # it is waited for, not drawn once more behind itself
        next(batches)
    assert drawn_at.count(2) == 1
    stuck.set()
    feed.timeout = 30
    assert same([first, *batches], loader(batch_size=2))
    assert drawn_at.count(2) == 2  # and once by the loader beside it


# --------------------------------------------------------------------------------------------------------- collate_fn


def test_collate_is_applied_to_the_samples():
    keywords = {"batch_size": 4, "augment": gr.augment.Crop()}
    plain = list(loader(**keywords))
    assert same([tuple(batch) for batch in loader(**keywords, collate_fn=default_collate)], plain)

    def named(samples):
        images, labels = zip(*samples, strict=True)
        return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}

    for batch, (images, targets) in zip(loader(**keywords, collate_fn=named), plain, strict=True):
        assert torch.equal(batch["pixel_values"], images)
        assert torch.equal(batch["labels"], targets)
    soft = next(iter(loader(batch_size=4, augment=gr.augment.DeiT(), collate_fn=default_collate)))
    assert soft[1].shape == (4, 5)
    two = gr.augment.TwoViews(gr.augment.Crop())
    views, _ = next(iter(loader(batch_size=4, augment=two, collate_fn=default_collate)))
    assert all(torch.equal(a, b) for a, b in zip(views, next(iter(loader(batch_size=4, augment=two)))[0], strict=True))


@pytest.mark.parametrize("ahead", [None, 2])
def test_a_collate_that_raises_loses_no_batch(ahead):
    failing = [True]

    def moody(samples):
        if failing:
            failing.clear()
            raise KeyError("mood")
        return default_collate(samples)

    feed = loader(batch_size=4, collate_fn=moody, prefetch_factor=ahead)
    batches = iter(feed)
    with pytest.raises(KeyError, match="mood"):
        next(batches)
    assert feed.state_dict()["position"] == 0
    assert same([tuple(batch) for batch in batches], loader(batch_size=4))


# --------------------------------------------------------------------------------------- without meaning, and refusals


def test_keywords_without_meaning_are_named_in_one_line(caplog):
    with caplog.at_level(logging.INFO, "gpurender"):
        feed = loader(
            num_workers=8, pin_memory=True, persistent_workers=True, worker_init_fn=print, pin_memory_device="cuda",
            multiprocessing_context="spawn", in_order=False,
        )  # fmt: skip
    (record,) = caplog.records
    for name in ("num_workers=8", "pin_memory=True", "persistent_workers=True", "worker_init_fn", "pin_memory_device",
                 "multiprocessing_context='spawn'", "in_order=False"):  # fmt: skip
        assert name in record.getMessage()
    assert (feed.num_workers, feed.pin_memory, feed.persistent_workers) == (0, False, False)  # what is true
    caplog.clear()
    loader(num_workers=2**31 - 1, multiprocessing_context=multiprocessing.get_context("spawn"))
    assert caplog.records.pop().getMessage().startswith("num_workers=2147483647, multiprocessing_context=<")
    caplog.clear()
    loader(num_workers=0, pin_memory=False, sampler=[1], timeout=1, prefetch_factor=2)
    assert not caplog.records


def test_a_dataset_stands_for_its_recipe_unless_it_transforms():
    assert same(loader(gr.Dataset(RECIPE), batch_size=5), loader(batch_size=5))
    with pytest.raises(ValueError, match="transform"):
        loader(gr.Dataset(RECIPE, transform=str))


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"sampler": [1], "shuffle": True}, ValueError, "shuffle"),
        ({"batch_sampler": [[1]], "batch_size": 2}, ValueError, "batch_size"),
        ({"batch_sampler": [[1]], "shuffle": True}, ValueError, "shuffle"),
        ({"batch_sampler": [[1]], "sampler": [1]}, ValueError, "sampler"),
        ({"batch_sampler": [[1]], "drop_last": True}, ValueError, "drop_last"),
        ({"sampler": 5}, TypeError, "sampler"),
        ({"sampler": np.array(5)}, TypeError, "sampler must be an iterable of indices, got "),
        ({"batch_sampler": torch.tensor(5)}, TypeError, "batch_sampler must be an iterable of lists of indices, got "),
        ({"batch_sampler": 5}, TypeError, "batch_sampler"),
        ({"sampler": [1], "augment": gr.augment.DeiT(num_aug_repeats=3)}, ValueError, "sampler"),
        ({"generator": 5}, TypeError, "generator"),
        ({"generator": torch.Generator(), "seed": 1}, ValueError, "generator"),
        ({"prefetch_factor": -1}, ValueError, "prefetch_factor"),
        ({"prefetch_factor": 65}, ValueError, "prefetch_factor"),
        ({"prefetch_factor": 1.5}, TypeError, "prefetch_factor"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": float("inf")}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"collate_fn": 5}, TypeError, "collate_fn"),
        ({"num_workers": -1}, ValueError, "num_workers"),
        ({"num_workers": 2**31}, ValueError, r"^num_workers must be an integer in \[0, 2147483647\], got 2147483648$"),
        ({"multiprocessing_context": "threads"}, ValueError, "^multiprocessing_context must be one of .*'spawn'"),
        ({"multiprocessing_context": 5}, TypeError, "^multiprocessing_context must be None, one of .* got 5$"),
        ({"persistent_workers": 1}, TypeError, "^persistent_workers must be True or False, got 1$"),
        ({"in_order": 1}, TypeError, "^in_order must be True or False, got 1$"),
        ({"num_workers": 1.5}, TypeError, "num_workers"),
        ({"pin_memory": 1}, TypeError, "pin_memory"),
        ({"worker_init_fn": 5}, TypeError, "worker_init_fn"),
        ({"pin_memory_device": None}, TypeError, "pin_memory_device"),
    ],
)
def test_what_cannot_be_meant_is_refused(keywords, error, says):
    with pytest.raises(error, match=says):
        loader(**keywords)


def test_the_batch_sampler_of_a_sampler_gives_its_numbers():
    feed = loader(sampler=[23, 22, 21, 20, 19], batch_size=2)
    assert list(feed.batch_sampler) == [[23, 22], [21, 20], [19]]
    assert feed.batch_sampler.sampler is feed.sampler
    assert len(feed.batch_sampler) == 3


def test_mixing_is_switched_off_from_the_next_pass_on():
    for ahead in (0, 2):
        feed = loader(batch_size=4, augment=gr.augment.DeiT(), prefetch_factor=ahead)
        plain = list(loader(batch_size=4, augment=gr.augment.DeiT()))
        batches = iter(feed)
        first = next(batches)
        feed.mixup_enabled = False
        assert same([first, *batches], plain)
        feed.set_epoch(0)
        assert not same([next(iter(feed))], plain[:1])


def test_the_views_of_the_own_order_are_its_batches():
    feed = loader(batch_size=4, shuffle=True)
    numbers = list(feed.batch_sampler)
    assert [*chain(*numbers)] == list(feed.sampler)
    assert same(loader(batch_sampler=numbers), feed)
