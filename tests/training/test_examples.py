"""Examples at addresses: which one comes when, with which randomness, on which process."""

import contextlib
import random

import numpy as np
import pytest
import torch
from PIL import Image

from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.tasks import Samples
from gpurender.tasks.sources import Set
from gpurender.training import examples
from gpurender.training.examples import Examples

timm = pytest.importorskip("timm", reason="needs timm, of the extra 'train'")


CPU = torch.device("cpu")
SEVEN = Samples(Set(list("abcdefg"), np.arange(7), tuple("abcdefg"), lambda i: Image.new("L", (1, 1), i)), np.arange(7))
DEIT = {
    "is_training": True, "color_jitter": 0.4, "auto_augment": "rand-m9-mstd0.5-inc1", "interpolation": "bicubic",
    "re_prob": 0.25, "re_mode": "pixel", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7),
}  # fmt: skip


def test_transforms_are_timms_of_deit(monkeypatch):
    made, create = [], timm.data.create_transform

    def noted(*given, **options):
        made.append((given, options))
        return create(*given, **options)

    monkeypatch.setattr(timm.data, "create_transform", noted)
    whole = examples.train_transform(24, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    examples.test_transform(24, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    assert made == [
        ((24,), DEIT),
        ((24,), {"is_training": False, "interpolation": "bicubic", "crop_pct": 0.875, "mean": (0.1, 0.2, 0.3),
                 "std": (0.5, 0.6, 0.7)}),
    ]  # fmt: skip
    [augment] = [part for part in whole.transforms if isinstance(part, timm.data.auto_augment.RandAugment)]
    assert {operation.magnitude_max for operation in augment.ops} == {9.999}


def test_an_order_is_that_of_random_words():
    """Sorted by 64 bits at the addresses 2^63 + epoch x 2^32 + number."""
    for epoch in (0, 3):
        drawn = words(11, Stream.EXAMPLE, np.array([2**63 + epoch * 2**32 + i for i in range(9)], np.uint64))
        keys = [int(row[0]) * 2**32 + int(row[1]) for row in drawn]
        assert examples.order(9, 11, epoch).tolist() == sorted(range(9), key=keys.__getitem__)


def test_generators_are_seeded_at_an_address_and_restored():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    drawn = [int(word) for word in words(11, Stream.EXAMPLE, np.array([2**62 + 5], np.uint64))[0]]
    generator, found = torch.Generator().manual_seed(drawn[2] * 2**32 + drawn[3]), []
    with contextlib.suppress(KeyError), examples._seeded(11, 2**62 + 5):
        found += [random.random(), np.random.random(), torch.rand(3).tolist()]
        raise KeyError
    wanted = [random.Random(drawn[0]).random(), np.random.RandomState(drawn[1]).random()]
    assert found == [*wanted, torch.rand(3, generator=generator).tolist()]
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def feed(monkeypatch=None, rank=0, processes=1, mixing=None, transform=None, size=2, workers=0, device=CPU):
    return Examples(
        SEVEN, transform or (lambda image: torch.zeros(1)), mixing, size, rank, processes, 11, workers, device
    )


def labels(stream, count):
    batches = stream.batches()
    return [next(batches)[1].tolist() for _ in range(count)]


def test_batches_are_the_orders_of_epochs_shared_among_processes():
    stream = [
        *examples.order(7, 11, 0).tolist(),
        *examples.order(7, 11, 1).tolist(),
        *examples.order(7, 11, 2).tolist(),
    ]
    assert labels(feed(), 10) == [stream[2 * i : 2 * i + 2] for i in range(10)]
    for rank in range(3):
        assert labels(feed(rank=rank, processes=3), 3) == [stream[6 * i + 2 * rank :][:2] for i in range(3)]
    again = feed(rank=1, processes=3)
    again.load_state_dict({"position": 6})
    assert labels(again, 2) == [stream[8:10], stream[14:16]]
    assert again.state_dict() == {"position": 18}


def test_an_example_s_randomness_is_that_of_its_position():
    shown = feed(transform=lambda image: torch.rand(1), size=3)
    images = [image for _ in range(1) for image in next(shown.batches())[0]]
    for position, image in enumerate(images):
        with examples._seeded(11, position):
            assert torch.equal(image, torch.rand(1))


def test_a_batch_is_mixed_with_randomness_of_its_first_position():
    def mixing(images, targets):
        return images + torch.rand(1), targets + 100

    batches = feed(rank=1, processes=2, mixing=mixing).batches()
    for begin in (2, 6, 10):
        images, targets = next(batches)
        with examples._seeded(11, 2**62 + begin):
            assert torch.equal(images, torch.zeros(2, 1) + torch.rand(1))
        assert targets.min() >= 100


def test_batches_for_a_gpu_come_from_pinned_memory(monkeypatch):
    made, moved = [], []

    class Batch:
        def to(self, device, **options):
            moved.append((device, options))
            return self

    def loader(dataset, **options):
        made.append(options)
        return [(Batch(), Batch())]

    monkeypatch.setattr(examples, "DataLoader", loader)
    for device in (CPU, torch.device("cuda", 0)):
        next(feed(workers=3, device=device).batches())
    assert [(each["num_workers"], each["pin_memory"]) for each in made] == [(3, False), (3, True)]
    wanted = [(CPU, {"non_blocking": False})] * 2 + [(torch.device("cuda", 0), {"non_blocking": True})] * 2
    assert moved == wanted
