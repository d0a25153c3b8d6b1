"""gr.DataLoader: batches, epochs, the attributes of torch's DataLoader, memory."""

import copy
import gc
import inspect
import pickle
import subprocess
import sys
import weakref
from itertools import chain, islice

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.kernels.shuffle import permute

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]


def tiny(classes=5, instances=4, **parameters):
    return gr.OnePFrac(
        classes=classes, instances=instances, image_size=32, points=500, fill_rate=0.0, base=TRIANGLE, **parameters
    )


def loader(recipe=None, **keywords):
    keywords = {"batch_size": 3, "image_size": 24, "augment": gr.augment.Crop(), **keywords}
    return gr.DataLoader(recipe or tiny(), **keywords)


def same(a, b):
    """Whether two sequences of batches are equal byte for byte."""
    return len(a) == len(b) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


def samples_of(batches, recipe):
    """Sample numbers of unaugmented batches, recognised by their pixels."""
    canvases = gr.Renderer(recipe)(range_of(recipe))
    known = {canvas.numpy().tobytes(): n for n, canvas in enumerate(canvases)}
    assert len(known) == len(recipe), "images of this recipe must differ for the test to tell them apart"
    back = [((images[:, :1] * 0.5 + 0.5) * 255).round().to(torch.uint8) for images, _ in batches]
    return [[known[image.numpy().tobytes()] for image in images] for images in back]


def range_of(recipe):
    return np.arange(len(recipe))


# --------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_batch_is_images_and_targets(dtype):
    images, targets = next(iter(loader(dtype=dtype, shuffle=True)))
    assert images.shape == (3, 3, 24, 24)
    assert images.dtype == dtype
    assert images.is_contiguous()
    assert images.device.type == "cpu"
    assert targets.dtype == torch.int64
    assert targets.shape == (3,)
    assert torch.isfinite(images).all()


def test_without_a_policy_the_canvas_is_normalised():
    recipe = tiny()
    images, targets = next(iter(gr.DataLoader(recipe, batch_size=20, image_size=32)))
    canvases = gr.Renderer(recipe)(range_of(recipe)).float()  # [20, 1, 32, 32]
    expected = ((canvases / 255 - 0.5) / 0.5).expand(-1, 3, -1, -1)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-6)
    assert targets.tolist() == [n // 4 for n in range(20)]


def test_without_shuffle_samples_come_in_the_order_of_their_numbers():
    recipe = tiny()
    batches = list(gr.DataLoader(recipe, batch_size=6, image_size=32))
    assert samples_of(batches, recipe) == [[*range(6)], [*range(6, 12)], [*range(12, 18)], [18, 19]]


def test_shuffle_follows_the_order_of_seed_and_epoch():
    recipe = tiny()
    shuffled = gr.DataLoader(recipe, batch_size=6, image_size=32, shuffle=True, seed=9)
    for epoch in range(3):
        numbers = [*chain(*samples_of(list(shuffled), recipe))]
        assert sorted(numbers) == list(range(20))
        assert numbers == permute(np.arange(20), 20, 9, epoch).tolist()


def test_the_batch_size_changes_no_image():
    one = [(x[0], y[0]) for x, y in loader(batch_size=1, shuffle=True)]
    for batch_size in (2, 7, 20):
        many = [pair for x, y in loader(batch_size=batch_size, shuffle=True) for pair in zip(x, y, strict=True)]
        assert same(one, many)


def test_seeds_differ_in_order_and_augmentation():
    base = list(loader(shuffle=True))
    assert same(base, list(loader(shuffle=True, seed=0)))
    assert not same(base, list(loader(shuffle=True, seed=1)))
    assert not same(list(loader()), list(loader(seed=1)))


def test_epochs_are_augmented_anew():
    plain = loader()
    first, second = list(plain), list(plain)
    assert all(torch.equal(y, v) for (_, y), (_, v) in zip(first, second, strict=True))
    assert not any(torch.equal(x, u) for (x, _), (u, _) in zip(first, second, strict=True))


def test_augmentation_is_drawn_at_the_address_epoch_times_len_plus_sample():
    recipe, policy = tiny(), gr.augment.Crop()
    drawn = gr.DataLoader(recipe, batch_size=20, image_size=24, augment=policy, shuffle=True, seed=3)
    for epoch in range(3):
        images, targets = next(iter(drawn))
        samples = permute(np.arange(20), 20, 3, epoch)
        parameters = policy.draw(epoch * 20 + samples, seed=3, canvas_size=32)
        assert torch.equal(images, policy.apply(gr.Renderer(recipe)(samples), parameters, image_size=24))
        assert targets.tolist() == (samples // 4).tolist()


def test_fresh_never_shows_an_image_twice():
    recipe = tiny()
    for fresh, distinct in ((False, 20), (True, 60)):
        drawn = gr.DataLoader(recipe, batch_size=20, image_size=32, fresh=fresh)
        images = [image.numpy().tobytes() for _ in range(3) for batch, _ in drawn for image in batch]
        assert len(set(images)) == distinct
    assert [y.tolist() for _, y in drawn] == [[n // 4 for n in range(20)]]


@pytest.mark.parametrize("kind", [{}, {"sampler": range(6)}, {"prefetch_factor": 1}])
def test_validation_in_inference_mode_leaves_a_loader_as_it_was(kind):
    feed = loader(**kind)
    with torch.inference_mode():
        inside = next(iter(feed))
    images, _ = next(iter(feed))
    assert not images.is_inference()
    assert torch.equal(images, inside[0])
    images.mul_(torch.ones(1, requires_grad=True)).sum().backward()


def test_sizes_that_do_not_fit_are_refused_when_the_loader_is_made():
    with pytest.raises(ValueError, match="cutmix_minmax"):
        loader(augment=gr.augment.DeiT(cutmix_minmax=(0.5, 0.51)), image_size=32)


def test_batches_belong_to_the_consumer():
    """Kept, overwritten, normalised in place: no batch disturbs another (a ring of buffers would)."""
    expected = list(loader(shuffle=True))
    kept = []
    for images, targets in loader(shuffle=True):
        kept.append((images.clone(), targets.clone()))
        images.zero_()
        targets.fill_(-1)
    assert same(kept, expected)
    held = list(loader(shuffle=True))
    assert same(held, expected)
    assert len({x.data_ptr() for x, _ in held}) == len(held)
    assert len({x.untyped_storage().data_ptr() for x, _ in held} | {y.data_ptr() for _, y in held}) == 2 * len(held)


def test_timms_prefetcher_looks_ahead_without_harm():
    """It is one batch ahead and normalises in place (by the identity here)."""
    timm_loader = pytest.importorskip("timm.data.loader", exc_type=(ImportError, RuntimeError))
    unit = (1 / 255,) * 3
    expected = list(loader(shuffle=True))
    ahead = timm_loader.PrefetchLoader(loader(shuffle=True), mean=(0.0, 0.0, 0.0), std=unit, device=torch.device("cpu"))
    got = [(x.clone(), y.clone()) for x, y in ahead]
    assert len(ahead) == len(expected)
    for (x, y), (u, v) in zip(got, expected, strict=True):
        torch.testing.assert_close(x, u, rtol=1e-6, atol=1e-6)
        assert torch.equal(y, v)
    assert isinstance(ahead.sampler, type(loader(shuffle=True).sampler))
    assert ahead.dataset.classes == ["00000", "00001", "00002", "00003", "00004"]


# ---------------------------------------------------------------------------------------------------------- epochs


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("instances", "batch_size"), [(1, 1), (1, 5), (1, 6), (4, 3), (4, 4), (4, 7), (4, 21)])
def test_len_and_sizes_are_those_of_torchs_loader(instances, batch_size, drop_last):
    recipe = tiny(instances=instances)
    ours = loader(recipe, batch_size=batch_size, drop_last=drop_last)
    theirs = torch.utils.data.DataLoader(range(len(recipe)), batch_size=batch_size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    assert [len(y) for _, y in ours] == [len(y) for y in theirs]
    assert len(ours) == len(theirs)
    assert len(ours.sampler) == sum(len(y) for y in theirs)


def test_each_pass_is_the_next_epoch():
    running = loader(shuffle=True)
    passes = [list(running) for _ in range(3)]
    for epoch, batches in enumerate(passes):
        told = loader(shuffle=True)
        told.set_epoch(epoch)
        assert same(batches, list(told))
    assert not same(passes[0], passes[1])


def test_set_epoch_before_each_pass_changes_nothing():
    running, told = loader(shuffle=True), loader(shuffle=True)
    for epoch in range(3):
        told.set_epoch(epoch)
        assert same(list(running), list(told))


def test_set_epoch_goes_anywhere_and_comes_back():
    there = loader(shuffle=True)
    epochs = [list(there) for _ in range(3)]
    for epoch in (2, 0, 1, 1):
        there.set_epoch(epoch)
        assert same(list(there), epochs[epoch])


@pytest.mark.parametrize("attribute", ["sampler", "batch_sampler"])
def test_set_epoch_is_forwarded(attribute):
    plain, through = loader(shuffle=True), loader(shuffle=True)
    plain.set_epoch(5)
    getattr(through, attribute).set_epoch(5)
    assert same(list(plain), list(through))
    through.batch_sampler.sampler.set_epoch(5)  # Lightning's way
    assert same(list(through), list_of_epoch(5))


def list_of_epoch(epoch):
    other = loader(shuffle=True)
    other.set_epoch(epoch)
    return list(other)


def test_an_epoch_left_midway_starts_again():
    left = loader(shuffle=True)
    whole = list_of_epoch(0)
    for batches in (1, 3, 6):
        assert same(list(islice(left, batches)), whole[:batches])
    assert same(list(left), whole)
    assert same(list(left), list_of_epoch(1))


def test_a_fit_as_lightning_does_it_sees_every_epoch():
    """iter() twice before the first batch, set_epoch on the sampler, and never next() past the end."""
    fitted = loader(shuffle=True)
    iter(fitted)  # the validity check
    seen = []
    for epoch in range(4):
        fitted.sampler.set_epoch(epoch)
        batches = iter(fitted)
        seen.append([next(batches) for _ in range(len(fitted))])
    for epoch, batches in enumerate(seen):
        assert same(batches, list_of_epoch(epoch))
    untold = loader(shuffle=True)
    assert same([b for _ in range(4) for b in take(iter(untold), len(untold))], [*chain(*seen)])


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_iter_has_no_effect_until_the_first_batch():
    untouched = loader(shuffle=True)
    before = untouched.state_dict()
    abandoned = [iter(untouched) for _ in range(100)]
    assert untouched.state_dict() == before
    del abandoned
    assert same(list(untouched), list_of_epoch(0))


def test_two_iterators_are_independent():
    both = loader(shuffle=True)
    expected = list_of_epoch(0)
    assert same(
        [x for pair in zip(both, both, strict=True) for x in pair], [x for batch in expected for x in (batch, batch)]
    )
    single = loader(batch_size=20)  # one batch an epoch: the first iterator ends before the second begins
    one, other = next(zip(single, single, strict=True))
    assert same([one], [other])


def test_a_finished_iterator_stays_finished():
    finished = iter(loader())
    list(finished)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(finished)
    assert iter(finished) is finished


def test_samplers_name_the_samples_of_the_coming_pass():
    recipe = tiny()
    named = gr.DataLoader(recipe, batch_size=6, image_size=32, shuffle=True)
    for _ in range(2):
        lists, flat = list(named.batch_sampler), list(named.sampler)
        assert [*chain(*lists)] == flat
        assert len(named.batch_sampler) == len(lists)
        assert len(named.sampler) == len(flat)
        assert samples_of(list(named), recipe) == lists
    assert (named.batch_sampler.batch_size, named.batch_sampler.drop_last) == (6, False)


def test_an_epoch_smaller_than_a_step_is_dropped_as_torch_does():
    empty = loader(batch_size=21, drop_last=True)
    assert len(empty) == 0
    assert list(empty) == []
    assert list(empty.sampler) == []
    assert len(empty.sampler) == 0


# ------------------------------------------------------------------------------------------------------ attributes


def test_the_attributes_of_torchs_loader():
    ours = gr.DataLoader(tiny(), batch_size=4)
    theirs = torch.utils.data.DataLoader(range(20), batch_size=4)
    names = {
        *("batch_size", "drop_last", "num_workers", "pin_memory", "pin_memory_device", "persistent_workers"),
        *("prefetch_factor", "timeout", "multiprocessing_context", "worker_init_fn", "generator"),
    }
    if "in_order" in inspect.signature(type(theirs)).parameters:  # since torch 2.6
        names.add("in_order")
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert torch.equal(ours.collate_fn([torch.zeros(2)] * 3), theirs.collate_fn([torch.zeros(2)] * 3))
    assert len(ours.dataset) == 20
    assert ours.dataset is ours.dataset
    assert not isinstance(ours, torch.utils.data.DataLoader)
    assert not hasattr(ours, "_iterator")  # Lightning would set it to None


def test_defaults_are_torchs_where_torch_has_them():
    ours = inspect.signature(gr.DataLoader).parameters
    theirs = inspect.signature(torch.utils.data.DataLoader).parameters
    assert {name: ours[name].default for name in ("batch_size", "drop_last")} == {
        name: theirs[name].default for name in ("batch_size", "drop_last")
    }
    assert not ours["shuffle"].default
    assert not theirs["shuffle"].default  # None there


@pytest.mark.parametrize("name", ["batch_size", "drop_last", "dataset", "sampler", "batch_sampler"])
def test_attributes_are_not_reassigned(name):
    with pytest.raises(AttributeError, match=name):
        setattr(loader(), name, None)


def test_a_loader_is_copied_and_pickled():
    original = loader(shuffle=True)
    take(iter(original), 2)
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert twin.state_dict() == original.state_dict()
        assert same(list(twin), list_of_epoch(0))
    assert original.state_dict()["position"] == 6


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": -1}, ValueError, "batch_size"),
        ({"batch_size": 2.0}, TypeError, "batch_size"),
        ({"batch_size": None}, TypeError, "batch_size"),
        ({"batch_size": True}, TypeError, "batch_size"),
        ({"image_size": 0}, ValueError, "image_size"),
        ({"image_size": 10**6}, ValueError, "image_size"),
        ({"image_size": (32, 32)}, TypeError, "image_size"),
        ({"augment": "dite"}, ValueError, "augment must be .*did you mean 'deit'"),
        ({"augment": 3}, TypeError, "augment"),
        ({"augment": gr.augment.Crop}, TypeError, "augment"),
        ({"shuffle": 1}, TypeError, "shuffle"),
        ({"drop_last": "yes"}, TypeError, "drop_last"),
        ({"dtype": torch.uint8}, ValueError, "dtype"),
        ({"dtype": torch.complex64}, ValueError, "dtype"),
        ({"dtype": "float32"}, TypeError, "dtype"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"fresh": 0}, TypeError, "fresh"),
        ({"device": "gpu"}, ValueError, "device"),
        ({"rank": 0}, ValueError, "world_size"),
        ({"world_size": 2}, ValueError, "rank"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank"),
        ({"rank": -1, "world_size": 2}, ValueError, "rank"),
        ({"rank": 0, "world_size": 0}, ValueError, "world_size"),
        ({"rank": 0.0, "world_size": 1}, TypeError, "rank"),
        ({"recipe": 5}, TypeError, "recipe"),
        ({"recipe": "no-such-preset"}, ValueError, "no-such-preset"),
        ({"transform": None}, TypeError, "transform"),
    ],
)
def test_wrong_arguments_are_named_at_once(keywords, error, says):
    with pytest.raises(error, match=says):
        gr.DataLoader(**{"recipe": tiny(), **keywords})


@pytest.mark.parametrize(
    ("epoch", "error"), [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), (None, TypeError)]
)
def test_a_wrong_epoch_is_refused(epoch, error):
    with pytest.raises(error, match="epoch"):
        loader().set_epoch(epoch)


def test_a_huge_epoch_is_drawn():
    far = loader(shuffle=True)
    far.set_epoch(2**58)
    assert len(list(far)) == 7
    assert far.state_dict()["epoch"] == 2**58 + 1


class Fails:
    """A policy that fails once, at the third batch."""

    def __init__(self):
        self.calls, self.real = 0, gr.augment.Crop()

    def draw(self, numbers, **keywords):
        self.calls += 1
        if self.calls == 3:
            raise OSError("no space left in this test")
        return self.real.draw(numbers, **keywords)

    def apply(self, *arguments, **keywords):
        return self.real.apply(*arguments, **keywords)


def test_an_error_reaches_the_consumer_and_loses_no_batch():
    failing = loader(shuffle=True, augment=Fails())
    batches = iter(failing)
    got = take(batches, 2)
    with pytest.raises(OSError, match="no space left in this test"):
        next(batches)
    assert failing.state_dict()["position"] == 6
    got += list(batches)
    assert same(got, list_of_epoch(0))


# ----------------------------------------------------------------------------------------------------------- memory


def test_abandoned_iterators_leave_nothing():
    abandoned = loader()
    probe = iter(abandoned)
    next(probe)
    reference = weakref.ref(probe)
    del probe
    assert reference() is None  # by reference count: no cycle keeps it
    alive = weakref.ref(abandoned)
    list(abandoned.batch_sampler)
    del abandoned
    assert alive() is None


def test_nothing_grows_over_a_thousand_batches():
    process = pytest.importorskip("psutil").Process()
    running = loader(shuffle=True, batch_size=4)

    def batches(count):
        done = 0
        while done < count:
            for _ in running:
                done += 1

    batches(300)
    gc.collect()
    before = process.memory_info().rss
    batches(1000)
    gc.collect()
    assert process.memory_info().rss - before < 5 * 2**20


HELD = """
import psutil, torch
rss = lambda: psutil.Process().memory_info().rss / 2**20
torch.randn(8, 3, 224, 224).mul_(2).sum()
before = rss()
import gpurender as gr
loader = gr.DataLoader(gr.recipe("visualatom-21k"), batch_size=8, shuffle=True, augment=gr.augment.Crop())
loader.set_epoch(3)
batches = iter(loader)
images, targets = next(batches)
images, targets = next(batches)
assert images.shape == (8, 3, 224, 224) and 0 <= targets.min() and targets.max() < 21_000
assert len(loader) == len(loader.dataset) // 8
print(rss() - before)
"""


def test_a_loader_over_21_million_samples_is_light():
    pytest.importorskip("psutil")
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 300


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_sampler_is_one_that_libraries_know(shuffle):
    """They ask isinstance, before they replace it, warn, or leave it alone."""
    feed = loader(batch_size=6, shuffle=shuffle)
    sampler, kinds = feed.sampler, (torch.utils.data.SequentialSampler, torch.utils.data.RandomSampler)
    assert [isinstance(sampler, kind) for kind in kinds] == [not shuffle, shuffle]
    assert not isinstance(sampler, torch.utils.data.DistributedSampler)
    assert isinstance(feed.batch_sampler.sampler, kinds[shuffle])
    assert (len(sampler), sampler.data_source) == (20, feed.dataset)
    if shuffle:
        assert (sampler.num_samples, sampler.replacement, sampler.generator) == (20, False, None)
    mixed = gr.DataLoader(gr.Mixture({tiny(): 2, tiny(seed=1): 1}), shuffle=shuffle, device="cpu")
    assert not isinstance(mixed.sampler, kinds)  # in order, but not in the same one every epoch


def test_a_copy_has_a_place_of_its_own():
    feed = loader()
    copied = copy.copy(feed)
    next(iter(copied))
    assert feed.state_dict()["position"] == 0 != copied.state_dict()["position"]


def test_the_length_of_a_user_s_sampler_needs_no_ranks(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    feed = loader(sampler=[0, 1, 2], batch_size=2)
    assert len(feed) == len(feed.batch_sampler) == 2
    with pytest.raises(ValueError, match="RANK"):
        len(loader())


class Full(gr.augment.Policy):
    """A policy for which the device has no memory."""

    def draw(self, numbers, **where):
        return {}

    def apply(self, canvases, parameters, **finish):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.\nmore")


class FullAtLast(Full):
    """A policy whose last launch finds no memory."""

    def _begin(self, canvases, parameters, image):
        return lambda: self.apply(canvases, parameters)


@pytest.mark.parametrize("policy", [Full(), FullAtLast()], ids=["apply", "last launch"])
def test_memory_that_is_missing_is_said_of_the_batch(policy):
    said = (
        r"^cpu has no memory for a batch of 3 images of 3 x 24 x 24 torch\.float32 and what makes them; "
        r"take a smaller batch_size \(CUDA out of memory\. Tried to allocate 8\.00 GiB\.\)$"
    )
    with pytest.raises(torch.cuda.OutOfMemoryError, match=said):
        next(iter(loader(augment=policy)))
