"""Real images as batches: timm's transforms and mixing, each at an address, so that any batch can be made again.

The stream of examples is endless: position p is example ``p mod n`` of the order of epoch ``p // n``. The order, the
augmentation of an example and the mixing of a batch are functions of the seed and the position alone, so a feed goes on
anywhere, on any number of processes.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.tasks import Samples
from gpurender.training.loop import Batch

MIXING = 1 << 62  # bit of the addresses of mixing; those of examples are positions
HIGHEST = 9.999  # of a magnitude: at 10 timm posterizes to 0 bits, which Pillow 13 refuses


def train_transform(image_size: int, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Return timm's transforms of DeiT's fine-tuning: random crop, flip, RandAugment, random erasing."""
    from timm.data import create_transform
    from timm.data.auto_augment import RandAugment

    made = create_transform(
        image_size, is_training=True, color_jitter=0.4, auto_augment="rand-m9-mstd0.5-inc1", interpolation="bicubic",
        re_prob=0.25, re_mode="pixel", mean=tuple(mean), std=tuple(std),
    )  # fmt: skip
    for part in made.transforms:
        if isinstance(part, RandAugment):
            for operation in part.ops:
                operation.magnitude_max = HIGHEST
    return made


def test_transform(image_size: int, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Return timm's transforms of an evaluation: the shorter side to 8/7 of the size, and the centre of it."""
    from timm.data import create_transform

    return create_transform(
        image_size, is_training=False, interpolation="bicubic", crop_pct=0.875, mean=tuple(mean), std=tuple(std)
    )


class Examples:
    """The feed of a fine-tuning.

    Args:
        samples: labelled images.
        transform: of a PIL image; its randomness may be Python's, NumPy's and torch's.
        mixing: ``timm.data.Mixup``, or ``None``.
        batch_size: images of one batch of one process.
        rank, processes: of this process, and of how many.
        seed: unsigned 64-bit key.
        workers: processes that read and transform; 0: none.
        device: of the batches.
    """

    def __init__(
        self, samples: Samples, transform: Any, mixing: Any, batch_size: int, rank: int, processes: int, seed: int,
        workers: int, device: torch.device,
    ) -> None:  # fmt: skip
        self._set = _Addressed(samples, transform, seed)
        self._mixing, self._seed, self._device = mixing, seed, device
        self._size, self._rank, self._step = batch_size, rank, batch_size * processes
        self._workers = workers
        self._position = 0  # of the whole stream: the first of the next step

    def batches(self) -> Iterator[Batch]:
        """Yield images, float32 ``[B, 3, S, S]``, and targets, int64 ``[B]`` or float32 ``[B, classes]``."""
        begins = _Begins(self._position + self._rank * self._size, self._step, self._size)
        pinned = self._device.type == "cuda"
        loader = DataLoader(self._set, batch_sampler=begins, num_workers=self._workers, pin_memory=pinned)
        for images, labels in loader:
            begin = self._position + self._rank * self._size
            self._position += self._step
            images = images.to(self._device, non_blocking=pinned)
            targets = labels.to(self._device, non_blocking=pinned)
            if self._mixing is not None:
                with _seeded(self._seed, MIXING + begin):
                    images, targets = self._mixing(images, targets)
            yield images, targets

    def state_dict(self) -> dict[str, Any]:
        """Return the place."""
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the place."""
        self._position = state["position"]


class _Begins(Sampler[list[int]]):
    """The positions of each batch of a process, without end."""

    def __init__(self, first: int, step: int, size: int) -> None:
        self._first, self._step, self._size = first, step, size

    def __iter__(self) -> Iterator[list[int]]:
        begin = self._first
        while True:
            yield list(range(begin, begin + self._size))
            begin += self._step


class _Addressed(Dataset):
    """Examples by position: transformed with generators that are seeded at the position."""

    def __init__(self, samples: Samples, transform: Any, seed: int) -> None:
        self._samples, self._transform, self._seed = samples, transform, seed
        self._orders: dict[int, np.ndarray] = {}  # that of the present epoch

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        epoch, place = divmod(position, len(self._samples))
        if epoch not in self._orders:
            self._orders = {epoch: order(len(self._samples), self._seed, epoch)}
        image, label = self._samples[int(self._orders[epoch][place])]
        with _seeded(self._seed, position):
            return self._transform(image), label


def order(length: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch: a permutation of ``length`` numbers, int64, keyed by seed and epoch."""
    ids = np.arange(length, dtype=np.uint64) + np.uint64((epoch << 32) + (1 << 63))
    drawn = words(seed, Stream.EXAMPLE, ids)
    keys = (drawn[:, 0].astype(np.uint64) << np.uint64(32)) + drawn[:, 1].astype(np.uint64)
    return np.argsort(keys, kind="stable")


@contextlib.contextmanager
def _seeded(seed: int, address: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's generators at an address while the block lasts; they are restored."""
    drawn = words(seed, Stream.EXAMPLE, np.array([address], np.uint64))[0].tolist()
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(drawn[0])
    np.random.seed(drawn[1])
    torch.manual_seed((drawn[2] << 32) + drawn[3])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
