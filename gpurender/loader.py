"""DataLoader: draws the batches of a recipe where torch's would load them."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from gpurender import checks, devices
from gpurender import world as worlds
from gpurender.ahead import Ahead, Ready
from gpurender.augment import Policy, Resize
from gpurender.batches import Batch, Batches
from gpurender.dataset import Dataset
from gpurender.kernels.augment import MAX_SIDE
from gpurender.order import last_epoch, permuted, share, steps
from gpurender.recipes import Recipe
from gpurender.recipes import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.world import World

__all__ = ["DataLoader"]

STATE_VERSION = 2
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MAX_BATCH_SIZE = 2**31 - 1


class DataLoader:
    """Iterates over batches ``(images, targets)`` of a recipe, drawn and augmented as they are asked for.

    It stands where a ``torch.utils.data.DataLoader`` stood and has its attributes, but is not a subclass:
    Accelerate replaces a subclass by a plain loader over ``.dataset``, Lightning rebuilds one.

    >>> loader = gr.DataLoader("onepfrac-1k", batch_size=256, shuffle=True, drop_last=True, augment=gr.augment.DeiT())
    >>> for epoch in range(100):
    ...     for images, targets in loader:  # float32 [256, 3, 224, 224] normalised, float32 [256, 1000] soft
    ...         ...

    **Targets** are labels, int64 ``[B]``; soft ones, float32 ``[B, classes]``, of a policy that mixes or smooths.

    **Epochs.** Epoch e is a pure function of (recipe, seed, e); a pass over the loader is one epoch and the next
    pass is the next one, with or without ``set_epoch``. An epoch that was left midway starts again, in the same
    order, unless ``set_epoch`` names another. Every batch is made of new tensors, which are the consumer's to keep
    and to change. A policy with ``num_aug_repeats`` shows each sample so many times in a row, as the first positions
    of the epoch; those of its samples that would come after its length do not come.

    **Ranks.** A step takes the next ``world_size * batch_size`` samples of one global order and gives each rank
    ``batch_size`` of them, so all ranks together see what one process with the big batch would. ``len`` is the same
    on all ranks; a ragged tail is split evenly (:func:`gpurender.order.share`). Rank and world size are the
    arguments if given, else those of torch.distributed once it is initialised, else RANK and WORLD_SIZE of the
    environment (torchrun), looked up when an iteration begins.

    **State.** ``state_dict()`` is the place after the last batch handed out, less than 1 kB, JSON; on every rank
    the same. After ``load_state_dict`` the next iteration continues there in O(1), also with another number of
    ranks or another batch size. ``len`` does not change by it, although the first epoch then has fewer batches left
    (none, if ``drop_last`` and what is left is less than a step).

    **On a GPU** batches are drawn on a stream of the loader's own, one ahead of the one handed out, and are ready for
    the stream that torch works on when they are asked for (:mod:`gpurender.ahead`). The host never waits.

    Args:
        recipe: a recipe, a preset's name or the path of a recipe's JSON file.
        batch_size: samples of a batch, on each rank.
        image_size: side of the images in pixels.
        augment: a policy of ``gpurender.augment``; ``None`` resizes the canvas and normalises with mean = std = 0.5.
        shuffle: draw the samples of an epoch in an order keyed by seed and epoch, else in that of their numbers.
        drop_last: leave out what is left of an epoch when it no longer fills a step.
        device: where to draw and where the batches are: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …; ``None``: torch's
            current GPU (``torch.cuda.set_device``), or the CPU where there is none.
        dtype: of the images: ``torch.float32``, ``float16``, ``bfloat16`` or ``float64``.
        memory_format: of the images: ``torch.contiguous_format`` or ``torch.channels_last``.
        seed: unsigned 64-bit key of order and augmentation (the images themselves have the recipe's).
        fresh: draw new instances of the classes in every epoch, so that no image is ever seen twice (but for the
            samples that fill up a tail of fewer samples than ranks; ``drop_last`` leaves that out).
        rank, world_size: this process and the number of processes, given together or not at all.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
        RuntimeError: the device is a GPU and the packages that compile its kernels are missing.
    """

    # What code that introspects torch's DataLoader looks for: no workers, no pinned copies, nothing to collate.
    num_workers = 0
    pin_memory = False
    pin_memory_device = ""
    persistent_workers = False
    prefetch_factor = None
    multiprocessing_context = None
    collate_fn = None
    generator = None
    worker_init_fn = None
    timeout = 0
    in_order = True

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str],
        batch_size: int = 1,
        *,
        image_size: int = 224,
        augment: Policy | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        seed: int = 0,
        fresh: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self._recipe = as_recipe(recipe)
        self._batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH_SIZE)
        self._image_size = checks.integer("image_size", image_size, 1, MAX_SIDE)
        self._policy = _policy(augment)
        self._shuffle = checks.boolean("shuffle", shuffle)
        self._drop_last = checks.boolean("drop_last", drop_last)
        self._dtype = _dtype(dtype)
        self._seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
        self._fresh = checks.boolean("fresh", fresh)
        self._fixed_world = worlds.checked(rank, world_size)
        self._memory_format = _memory_format(memory_format)
        self._repeats = max(1, getattr(self._policy, "num_aug_repeats", 1))
        self._mixes = True  # unless the training loop switches it off
        self._renderer = Renderer(self._recipe, devices.resolve(device))
        self._dataset = Dataset(self._recipe)
        self._batches: Batches | None = None  # both made when the first batch is asked for
        self._ahead: Ahead | None = None

        self._epoch = 0  # the place: (epoch, position) of the sample after the last one handed out, over all ranks
        self._position = 0
        self._resumes = False  # the place was loaded and no batch has been handed out since
        self._moves = 0  # how often the place was set by a call, not by an iteration

    # ------------------------------------------------------------------------------------------------------- reading

    @property
    def dataset(self) -> Dataset:
        """The same samples one by one, without augmentation."""
        return self._dataset

    @property
    def batch_size(self) -> int:
        """Samples of a batch on each rank."""
        return self._batch_size

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last step is left out."""
        return self._drop_last

    @property
    def sampler(self) -> "Sampler":
        """This rank's sample numbers of the coming pass, as an object that forwards ``set_epoch`` to the loader."""
        return Sampler(self)

    @property
    def batch_sampler(self) -> "BatchSampler":
        """The same numbers in the lists that make the batches."""
        return BatchSampler(self)

    @property
    def mixup_enabled(self) -> bool:
        """Whether the policy may mix samples; timm's training loop sets it to False from some epoch on."""
        return self._mixes

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self._mixes = checks.boolean("mixup_enabled", enabled)

    def __len__(self) -> int:
        """Batches of a whole epoch, equal on all ranks."""
        return steps(len(self._recipe), self._batch_size, self._world().world_size, self._drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return _Pass(self)

    # --------------------------------------------------------------------------------------------------------- state

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch, from its beginning; of the current epoch a loaded position is kept."""
        epoch = checks.integer("epoch", epoch, 0, last_epoch(len(self._recipe)))
        if epoch != self._epoch:
            self._move(epoch, 0, resumes=False)

    def state_dict(self) -> dict[str, int | str]:
        """The place after the last batch handed out and what the order depends on.

        ``epoch``, and ``position``: how many samples of it all ranks together have been given. The last batch of an
        epoch already makes it position 0 of the next.
        """
        return {**self._identity(), "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at a place: the next pass begins with the batch that would have come.

        Raises:
            TypeError, ValueError: this is not a state of a loader with the same recipe, seed, shuffle and fresh. The
                loader then stays as it was.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state must be what state_dict() returned, got {type(state_dict).__name__}")
        state_dict = _migrated(state_dict)
        expected = self.state_dict()
        for name in expected:
            if name not in state_dict:
                raise ValueError(f"state must have the keys {sorted(expected)}, {name!r} is missing")
        if unknown := [name for name in state_dict if name not in expected]:
            raise ValueError(f"state must have the keys {sorted(expected)}, got also {unknown[0]!r:.80}")
        for name, ours in self._identity().items():
            theirs = state_dict[name]
            if type(theirs) is not type(ours) or theirs != ours:
                raise ValueError(f"state is of another stream: its {name} is {theirs!r:.80}, this loader's is {ours!r}")
        length = len(self._recipe)
        epoch = checks.integer("state['epoch']", state_dict["epoch"], 0, last_epoch(length))
        position = checks.integer("state['position']", state_dict["position"], 0, length - 1)
        self._move(epoch, position, resumes=True)

    def _identity(self) -> dict[str, int | str]:
        """What decides which samples come when and what they show, apart from the augmentation, which may change."""
        return {
            "version": STATE_VERSION,
            "recipe": self._recipe.fingerprint,
            "length": len(self._recipe),
            "seed": self._seed,
            "shuffle": int(self._shuffle),
            "fresh": int(self._fresh),
            "repeats": self._repeats,
        }

    def _move(self, epoch: int, position: int, *, resumes: bool) -> None:
        self._epoch, self._position, self._resumes = epoch, position, resumes
        self._moves += 1

    def _handed_out(self, epoch: int, position: int, moves: int) -> None:
        """Move on after a batch, unless the place was set while the pass that drew it was already under way."""
        if moves == self._moves:
            self._epoch, self._position, self._resumes = epoch, position, False

    def _start(self) -> tuple[int, int]:
        """Epoch and position at which a pass begins."""
        return self._epoch, self._position if self._resumes else 0

    # ------------------------------------------------------------------------------------------------------- drawing

    def _world(self) -> World:
        return self._fixed_world or worlds.current()

    def _share(self, position: int, world: World) -> np.ndarray:
        return share(position, len(self._recipe), self._batch_size, world, self._drop_last)

    def _samples(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Sample numbers at positions of an epoch; int64 ``[b]``."""
        places = positions // self._repeats
        return permuted(places, len(self._recipe), self._seed, epoch) if self._shuffle else places

    def _draw(self, epoch: int, positions: np.ndarray, world: World) -> Batch:
        """The batch of consecutive positions of an epoch."""
        if self._batches is None:
            self._batches = Batches(
                self._renderer, self._policy, image_size=self._image_size, dtype=self._dtype,
                memory_format=self._memory_format, seed=self._seed, shuffle=self._shuffle, fresh=self._fresh,
                repeats=self._repeats,
            )  # fmt: skip
        step = self._batch_size * world.world_size
        return self._batches.draw(epoch, int(positions[0]), len(positions), step, self._mixes)

    def _producer(self) -> Ahead | None:
        """What draws ahead, on a GPU."""
        if self._ahead is None and devices.on_gpu(self._renderer.device):
            self._ahead = Ahead(self._renderer.device)
        return self._ahead

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own stream and cursor."""
        return self.__dict__ | {"_batches": None, "_ahead": None}


class _Pass(Iterator[Batch]):
    """One pass over a loader: the rest of one epoch.

    It holds a place and nothing else, so leaving it midway costs nothing. The loader's state moves on when a batch is
    handed out, the last one included: Lightning never asks for one more.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self._moves = loader._moves
        self._epoch, self._position = loader._start()
        self._world: World | None = None  # looked up at the first batch; the process group may not exist before
        self._over = False
        self._prepared: Ready | None = None  # on a GPU: the batch at the place, under way

    def __next__(self) -> Batch:
        if self._over:
            raise StopIteration
        loader, world = self._loader, self._begun()
        positions = loader._share(self._position, world)
        if not len(positions):  # dropped: less than a step
            self._finish()
            raise StopIteration
        following = loader._share(self._position + loader.batch_size * world.world_size, world)
        batch = self._batch(
            positions, following, world
        )  # if this raises, nothing has moved: ask again for the same one
        self._position += loader.batch_size * world.world_size
        if len(following):
            loader._handed_out(self._epoch, self._position, self._moves)
        else:
            self._finish()
        return batch

    def _batch(self, positions: np.ndarray, following: np.ndarray, world: World) -> Batch:
        """The batch at these positions; on a GPU the one that follows is under way when this returns."""
        loader, epoch = self._loader, self._epoch
        producer = loader._producer()
        if producer is None:
            return loader._draw(epoch, positions, world)
        ready = self._prepared or producer.start(lambda: loader._draw(epoch, positions, world))
        self._prepared = None
        if len(following):
            with contextlib.suppress(Exception):  # then it is drawn, and raises, when its turn has come
                self._prepared = producer.start(lambda: loader._draw(epoch, following, world))
        return producer.hand_over(ready)

    def _begun(self) -> World:
        if self._world is None:
            self._world = self._loader._world()
            if self._moves != self._loader._moves:  # a state was loaded, or an epoch set, after iter()
                self._epoch, self._position = self._loader._start()
                self._moves = self._loader._moves
        return self._world

    def _finish(self) -> None:
        self._over = True
        self._loader._handed_out(self._epoch + 1, 0, self._moves)


class BatchSampler:
    """The lists of sample numbers that make this rank's batches of the coming pass."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    @property
    def sampler(self) -> "Sampler":
        """The numbers themselves."""
        return Sampler(self._loader)

    @property
    def batch_size(self) -> int:
        """Samples of a batch on this rank."""
        return self._loader.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last step is left out."""
        return self._loader.drop_last

    def set_epoch(self, epoch: int) -> None:
        """The loader's ``set_epoch``."""
        self._loader.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[int]]:
        loader, world = self._loader, self._loader._world()
        epoch, position = loader._start()
        while len(positions := loader._share(position, world)):
            yield loader._samples(epoch, positions).tolist()
            position += loader.batch_size * world.world_size


class Sampler:
    """This rank's sample numbers of the coming pass, in the order they are drawn."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def set_epoch(self, epoch: int) -> None:
        """The loader's ``set_epoch``."""
        self._loader.set_epoch(epoch)

    def __len__(self) -> int:
        """Samples that this rank draws in a whole epoch."""
        loader, world = self._loader, self._loader._world()
        before = len(loader) - 1  # full batches before the last one, which may be smaller
        if before < 0:
            return 0
        last = loader._share(before * loader.batch_size * world.world_size, world)
        return before * loader.batch_size + len(last)

    def __iter__(self) -> Iterator[int]:
        for samples in BatchSampler(self._loader):
            yield from samples


def _migrated(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state of version 1, from before samples could be repeated, as one of version 2."""
    if type(state.get("version")) is int and state["version"] == 1 and "repeats" not in state:
        return {**state, "version": STATE_VERSION, "repeats": 1}
    return state


def _policy(augment: Any) -> Policy:
    if augment is None:
        return Resize()
    if isinstance(augment, type) or not isinstance(augment, Policy):  # a class has the methods, too
        raise TypeError(f"augment must be None or a policy such as gr.augment.Crop(), got {augment!r}")
    return augment


def _dtype(dtype: Any) -> torch.dtype:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    return dtype


def _memory_format(memory_format: Any) -> torch.memory_format:
    allowed = (torch.contiguous_format, torch.channels_last)
    if not isinstance(memory_format, torch.memory_format):
        raise TypeError(f"memory_format must be one of {allowed}, got {memory_format!r}")
    if memory_format not in allowed:
        raise ValueError(f"memory_format must be one of {allowed}, got {memory_format!r}")
    return memory_format
