"""The same assertions over torch's DataLoader and over ours, so that a difference is a finding.

Both are given the same samples: torch's by ``gr.Dataset`` and a transform that normalises as ``augment=None`` does.

Differences that are meant, and therefore not asserted: ours shuffles by seed and epoch, torch by a generator that moves
on; ours shares the samples out among ranks by itself; ours takes no ``batch_size=None``; the attributes that speak of
workers stay 0 and False on ours; on ours a sampler that fails does so in its turn, after the batches before it.
"""

import copy
import pickle
import warnings
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler, default_collate

import gpurender as gr

SIZE = 32
RECIPE = gr.VisualAtom(
    classes=3, instances=7, image_size=SIZE, orbits=(4, 9), quantization=(20, 40), nucleus=(-0.2, 0.2), radius=(1, 6)
)


def normalised(image):
    """float32 [3, S, S] in [-1, 1] of a PIL image."""
    levels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255.0
    return (levels - 0.5) / 0.5


def torchs(recipe=RECIPE, **keywords):
    return torch.utils.data.DataLoader(gr.Dataset(recipe, transform=normalised), **keywords)


def ours(recipe=RECIPE, **keywords):
    return gr.DataLoader(recipe, image_size=recipe.image_size, device="cpu", **keywords)


def with_workers(recipe=RECIPE, **keywords):
    return torchs(recipe, **{"num_workers": 2, "persistent_workers": True, **keywords})


def with_thread(recipe=RECIPE, **keywords):
    return ours(recipe, **{"prefetch_factor": 2, **keywords})


ALL = pytest.mark.parametrize("make", [torchs, with_workers, ours, with_thread])
SINGLE = pytest.mark.parametrize("make", [torchs, ours])


def levels(images):
    """uint8 of normalised images."""
    return ((images * 0.5 + 0.5) * 255.0).round().to(torch.uint8)


def whole(loader):
    """Batches as (uint8 images, labels)."""
    return [(levels(images), targets) for images, targets in loader]


def numbers(batches):
    """Which sample each image is, found by its bytes and label."""
    return [
        KNOWN[image.numpy().tobytes(), int(label)] for batch in batches for image, label in zip(*batch, strict=True)
    ]


CANVASES = gr.Renderer(RECIPE)(range(len(RECIPE))).expand(-1, 3, -1, -1)
KNOWN = {(image.numpy().tobytes(), n // RECIPE.instances): n for n, image in enumerate(CANVASES)}
assert len(KNOWN) == len(RECIPE)


# -------------------------------------------------------------------------------------------------- length and content


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.booleans())
def test_lengths_are_the_same(instances, batch_size, drop_last):
    recipe = gr.VisualAtom(classes=1, instances=instances, image_size=SIZE, orbits=(1, 2), quantization=(3, 5))
    keywords = {"batch_size": batch_size, "drop_last": drop_last}
    assert len(ours(recipe, **keywords)) == len(torchs(recipe, **keywords))


@ALL
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 21, 30])
def test_an_epoch_in_order(make, batch_size, drop_last):
    loader = make(batch_size=batch_size, drop_last=drop_last)
    batches = whole(loader)
    kept = len(RECIPE) // batch_size * batch_size if drop_last else len(RECIPE)
    assert numbers(batches) == list(range(kept))
    assert len(batches) == len(loader)
    assert [len(targets) for _, targets in batches[:-1]] == [batch_size] * (len(batches) - 1)


@ALL
def test_types(make):
    batch = next(iter(make(batch_size=4)))
    assert len(batch) == 2
    images, targets = batch
    assert (images.shape, images.dtype) == ((4, 3, SIZE, SIZE), torch.float32)
    assert (targets.shape, targets.dtype) == ((4,), torch.int64)
    assert images.is_contiguous()
    assert not images.requires_grad


@ALL
def test_shuffling_shows_every_sample_once_in_another_order_each_epoch(make):
    loader = make(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1))
    epochs = [numbers(whole(loader)) for _ in range(4)]
    assert all(sorted(epoch) == list(range(len(RECIPE))) for epoch in epochs)
    assert all(a != b for a, b in pairwise(epochs))
    again = make(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1))
    assert [numbers(whole(again)) for _ in range(4)] == epochs
    other = make(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(2))
    assert numbers(whole(other)) != epochs[0]


# ---------------------------------------------------------------------------------------------- samplers and collating


@ALL
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_sampler(make, drop_last):
    order = [5, 0, 0, 20, 13, 7, 2]
    loader = make(batch_size=3, sampler=order, drop_last=drop_last)
    assert len(loader) == (2 if drop_last else 3)
    for _ in range(2):
        assert numbers(whole(loader)) == (order[:6] if drop_last else order)
    assert loader.sampler is order


@ALL
def test_a_batch_sampler(make):
    lists = BatchSampler(SequentialSampler(range(10)), 4, False)
    loader = make(batch_sampler=lists)
    assert len(loader) == 3
    assert [len(targets) for _, targets in loader] == [4, 4, 2]
    assert loader.batch_sampler is lists
    assert loader.batch_size is None
    assert numbers(whole(make(batch_sampler=[[3], [9, 9, 1]]))) == [3, 9, 9, 1]


@ALL
def test_a_random_sampler_with_replacement(make):
    def sampler():
        return RandomSampler(range(21), True, 50, torch.Generator().manual_seed(3))

    assert numbers(whole(make(batch_size=8, sampler=sampler()))) == list(sampler())


@ALL
def test_distributed_samplers(make):
    dataset, seen = gr.Dataset(RECIPE), []
    for rank in range(3):
        sampler = DistributedSampler(dataset, 3, rank, shuffle=True, seed=5)
        loader = make(batch_size=4, sampler=sampler)
        sampler.set_epoch(2)
        seen += numbers(whole(loader))
    assert sorted(seen) == list(range(21))


@ALL
def test_collate_fn_gets_the_list_of_samples(make):
    for samples in make(batch_size=6, collate_fn=list):
        assert isinstance(samples, list)
        assert all(isinstance(sample, tuple) and len(sample) == 2 for sample in samples)
        assert all(image.shape == (3, SIZE, SIZE) for image, _ in samples)
    collated = [default_collate(samples) for samples in make(batch_size=6, collate_fn=list)]
    assert numbers([(levels(images), targets) for images, targets in collated]) == list(range(21))


# ----------------------------------------------------------------------------------------------------------- iterators


@SINGLE
def test_iterators_are_independent(make):
    loader = make(batch_size=4)
    one, other = iter(loader), iter(loader)
    first = [next(one), next(one)]
    assert numbers(whole([next(other)])) == [0, 1, 2, 3]
    assert numbers(whole([*first, *one])) == list(range(21))
    assert numbers(whole(other)) == list(range(4, 21))


@ALL
def test_the_end_stays_the_end(make):
    batches = iter(make(batch_size=10))
    assert sum(1 for _ in batches) == 3
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(batches)
    assert iter(batches) is batches


@ALL
def test_a_pass_that_was_left_does_not_disturb_the_next(make):
    loader = make(batch_size=4)
    for _ in range(3):
        next(iter(loader))
        iter(loader)
    assert len(loader) == 6
    assert numbers(whole(loader)) == list(range(21))
    assert len(loader) == 6


@ALL
def test_batches_are_the_consumers(make):
    kept = []
    for images, targets in make(batch_size=4):
        kept.append((images.clone(), images, targets))
        images.zero_()
        images.add_(7)
        targets.add_(100)
    assert numbers([(levels(images), targets - 100) for images, _, targets in kept]) == list(range(21))
    assert all((images == 7).all() for _, images, _ in kept)
    assert len({images.untyped_storage().data_ptr() for _, images, _ in kept}) == len(kept)


@SINGLE
def test_a_sampler_that_raises_is_heard(make):
    def broken():
        yield from [1, 2, 3, 4]
        raise ZeroDivisionError("in the sampler")

    batches = iter(make(batch_size=4, sampler=broken()))
    assert numbers(whole([next(batches)])) == [1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError, match="in the sampler"):
        next(batches)


@ALL
def test_a_collate_that_raises_is_heard(make):
    def broken(samples):
        raise ZeroDivisionError("in collate")

    with pytest.raises(ZeroDivisionError, match="in collate"):
        next(iter(make(batch_size=4, collate_fn=broken)))


@SINGLE
def test_copies(make):
    loader = make(batch_size=4)
    if make is torchs:
        loader.dataset.transform = normalised  # a module's function, so that it can be pickled
    for copied in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert numbers(whole(copied)) == list(range(21))


# ------------------------------------------------------------------------------------------------ attributes, refusals


def test_ours_has_every_public_attribute_of_torchs():
    keywords = {"batch_size": 4, "shuffle": True, "drop_last": True}
    public = {name for name in dir(torchs(**keywords)) if not name.startswith("_")}
    meant = {"check_worker_number_rationality", "dataset_kind"}  # of the workers' own business
    missing = public - meant - set(dir(ours(**keywords)))
    assert not missing


@SINGLE
def test_attributes(make):
    generator = torch.Generator()
    loader = make(batch_size=4, drop_last=True, generator=generator, collate_fn=default_collate)
    assert (loader.batch_size, loader.drop_last, loader.num_workers, loader.timeout) == (4, True, 0, 0)
    assert (loader.pin_memory, loader.persistent_workers, loader.worker_init_fn) == (False, False, None)
    assert loader.generator is generator
    assert loader.collate_fn is default_collate
    assert len(loader.dataset) == 21
    assert list(loader.sampler)[:4] == next(iter(loader.batch_sampler)) == [0, 1, 2, 3]
    assert Counter(map(len, loader.batch_sampler)) == {4: 5}


@pytest.mark.parametrize(
    "keywords",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"batch_size": 2.5},
        {"batch_size": True},
        {"shuffle": True, "sampler": [1]},
        {"batch_size": 2, "batch_sampler": [[1]]},
        {"shuffle": True, "batch_sampler": [[1]]},
        {"sampler": [1], "batch_sampler": [[1]]},
        {"drop_last": True, "batch_sampler": [[1]]},
        {"timeout": -1},
        {"num_workers": -1},
        {"prefetch_factor": -1, "num_workers": 1},
        {"batch": 4},
    ],
)
def test_what_torch_refuses_ours_refuses(keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((TypeError, ValueError)) as theirs:
            torchs(**keywords)
        with pytest.raises((TypeError, ValueError)) as mine:
            ours(**keywords)
    wrong_type = isinstance(keywords.get("batch_size"), (float, bool))  # ours says TypeError, torch ValueError
    assert mine.type is (TypeError if wrong_type else theirs.type)
