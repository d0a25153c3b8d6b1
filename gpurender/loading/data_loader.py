"""DataLoader: draws the batches of a recipe where torch's would load them."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from gpurender.augment import Policy, Resize
from gpurender.dataset import Dataset
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.kernels.shuffle import last_epoch
from gpurender.loading import arguments, ranks
from gpurender.loading import state as states
from gpurender.loading.background import Background
from gpurender.loading.iterator import Pass, Step
from gpurender.loading.pipeline import Batch, Batches
from gpurender.loading.prefetch import Ahead, Producer
from gpurender.loading.ranks import Ranks, rank_slice, steps
from gpurender.loading.samplers import NOTHING, BatchSampler, Given, InOrder, Sampler, Shuffled
from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.runtime import devices
from gpurender.util import checks

__all__ = ["DataLoader"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MAX_BATCH_SIZE = 2**31 - 1
PLACES = 2**40  # of an epoch of a user's sampler: its draw numbers are epoch * PLACES + place


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
    on all ranks; a ragged tail is split evenly (:mod:`gpurender.loading.ranks`). Rank and world size are the
    arguments if given, else those of torch.distributed once it is initialised, else RANK and WORLD_SIZE of the
    environment (torchrun), looked up when an iteration begins.

    **State.** ``state_dict()`` is the place after the last batch handed out, less than 1 kB, JSON; on every rank
    the same. After ``load_state_dict`` the next iteration continues there in O(1), also with another number of
    ranks or another batch size. ``len`` does not change by it, although the first epoch then has fewer batches left
    (none, if ``drop_last`` and what is left is less than a step).

    **On a GPU** batches are drawn on a stream of the loader's own, one ahead of the one handed out, and are ready for
    the stream that torch works on when they are asked for (:mod:`gpurender.loading.prefetch`). The host never waits.

    **A user's sampler** decides which samples this rank draws, and in which order, as in torch: nothing is shuffled or
    shared out among ranks. What it repeats is augmented anew. Its state holds a digest of the numbers given; resuming
    runs through as many of them, draws none, and refuses to go on if they are others.

    Args:
        recipe: a recipe, a preset's name, the path of a recipe's JSON file, or a :class:`gpurender.Dataset` without
            transform.
        batch_size: samples of a batch, on each rank.
        sampler: an iterable of sample numbers, asked anew for every epoch.
        batch_sampler: an iterable of lists of sample numbers, instead of batch_size, shuffle, sampler and drop_last.
        collate_fn: called with the list of a batch's samples, ``(image, target)`` tensors on the device (an image of
            several views is a tuple), for what is handed out in the batch's place; it runs in the consumer's thread.
        timeout: seconds to wait for a batch that is drawn ahead; 0: as long as it takes.
        generator: its ``initial_seed()`` is the seed; it is not advanced.
        prefetch_factor: batches drawn ahead, 0 to 64; default 1 on a GPU. On a CPU a thread draws them; default 0.
        num_workers, pin_memory, worker_init_fn, multiprocessing_context, persistent_workers, pin_memory_device,
            in_order: without meaning, as no worker loads anything; accepted, with a line in the log of ``gpurender``.
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
        RuntimeError: the device is a GPU and the packages that compile its kernels are missing; from an iteration: a
            batch did not come within ``timeout``, or a sampler gives other numbers than before the state was saved.
    """

    # What code that introspects torch's DataLoader looks for: no workers, no pinned copies.
    num_workers = 0
    pin_memory = False
    pin_memory_device = ""
    persistent_workers = False
    multiprocessing_context = None
    worker_init_fn = None
    in_order = True

    def __init__(
        self,
        recipe: Recipe | Dataset | str | os.PathLike[str],
        batch_size: int = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        image_size: int = 224,
        augment: Policy | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        seed: int | None = None,
        fresh: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self._recipe = _recipe(recipe)
        self._order = self._recipe.order()
        self._shuffle = False if shuffle is None else checks.boolean("shuffle", shuffle)
        self._drop_last = checks.boolean("drop_last", drop_last)
        self._batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH_SIZE)
        arguments.check_sampling(self._batch_size, self._shuffle, sampler, batch_sampler, self._drop_last)
        self._image_size = checks.integer("image_size", image_size, 1, MAX_SIDE)
        self._policy = _policy(augment)
        if hasattr(self._policy, "check_sizes"):
            self._policy.check_sizes(self._recipe.image_size, self._image_size)
        self._dtype = _dtype(dtype)
        self.generator = generator
        self._seed = arguments.seed_of(seed, generator)
        self._fresh = checks.boolean("fresh", fresh)
        self._fixed_world = ranks.checked(rank, world_size)
        self._memory_format = _memory_format(memory_format)
        self.collate_fn = arguments.checked_collate(collate_fn)
        self.prefetch_factor, self.timeout = arguments.checked_ahead(prefetch_factor, timeout)
        self._repeats = max(1, getattr(self._policy, "num_aug_repeats", 1))
        self._given: Given | None = None  # a user's sampler, instead of the order of ours
        if sampler is not None or batch_sampler is not None:
            self._given = Given(sampler, batch_sampler, self._batch_size, self._drop_last, len(self._recipe))
            if self._repeats > 1:
                raise ValueError(f"{self._given.name} must be left out: augment repeats samples (num_aug_repeats)")
        if self._recipe.label_width > 1 and getattr(self._policy, "soft", False):
            raise ValueError(
                "augment must not mix samples or smooth labels: the recipe is a mixture of separate labels"
            )
        self._mixes = True  # unless the training loop switches it off
        self._renderer = Renderer(self._recipe, devices.resolve(device))
        self._dataset = Dataset(self._recipe)
        self._batches: Batches | None = None  # both made when the first batch is asked for
        self._ahead: Producer | None = None
        self._process = os.getpid()  # whose they are

        self._epoch = 0  # the place: (epoch, position) of the sample after the last one handed out, over all ranks
        self._position = 0
        self._mark: str | None = NOTHING  # of a user's sampler there
        self._resumes = False  # the place was loaded and no batch has been handed out since
        self._moves = 0  # how often the place was set by a call, not by an iteration
        arguments.note_neutral(
            num_workers, pin_memory, worker_init_fn, multiprocessing_context, persistent_workers, pin_memory_device,
            in_order,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------- reading

    @property
    def dataset(self) -> Dataset:
        """The same samples one by one, without augmentation."""
        return self._dataset

    @property
    def batch_size(self) -> int | None:
        """Samples of a batch on each rank; ``None`` where a ``batch_sampler`` decides."""
        return self._batch_size if self._given is None or self._given.name == "sampler" else None

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last step is left out."""
        return self._drop_last

    @property
    def sampler(self) -> Any:
        """The sampler that was given; else this rank's sample numbers of the coming pass, as one of torch's
        ``SequentialSampler`` or ``RandomSampler``, by ``shuffle`` (of a mixture neither), whose ``set_epoch`` is the
        loader's.
        """
        if self._given is None:
            if not self._order.on_device:  # its order is not the same in every epoch, shuffled or not
                return Sampler(self)
            return Shuffled(self) if self._shuffle else InOrder(self)
        return self._given.source if self._given.name == "sampler" else getattr(self._given.source, "sampler", None)

    @property
    def batch_sampler(self) -> Any:
        """The batch sampler that was given; else the numbers in the lists that make the batches."""
        if self._given is not None and self._given.name == "batch_sampler":
            return self._given.source
        return BatchSampler(self)

    @property
    def mixup_enabled(self) -> bool:
        """Whether the policy may mix samples, from the next pass on; timm's training loop sets it to False in time."""
        return self._mixes

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self._mixes = checks.boolean("mixup_enabled", enabled)

    def __len__(self) -> int:
        """Batches of a whole epoch, equal on all ranks; of a user's sampler, as many as its own length makes."""
        if self._given is not None:
            return len(self._given)
        return steps(len(self._recipe), self._batch_size, self._world().world_size, self._drop_last)

    def __iter__(self) -> Iterator[Any]:
        return Pass(self)

    # --------------------------------------------------------------------------------------------------------- state

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch, from its beginning; of the current epoch a loaded position is kept.

        A user's sampler is told as well.
        """
        epoch = checks.integer("epoch", epoch, 0, self._last_epoch())
        if self._given is not None:
            self._given.set_epoch(epoch)
        if epoch != self._epoch:
            self._move(epoch, 0, NOTHING, resumes=False)

    def state_dict(self) -> dict[str, int | str]:
        """The place after the last batch handed out and what the order depends on.

        ``epoch``, and ``position``: how many samples of it all ranks together have been given. The last batch of an
        epoch already makes it position 0 of the next. With a user's sampler, ``position`` is this rank's, and there
        are also its ``rank``, ``world_size`` and ``mark``, a digest of the numbers that the sampler gave.
        """
        place: dict[str, int | str] = {"epoch": self._epoch, "position": self._position}
        if self._given is not None:
            place |= {**self._world()._asdict(), "mark": self._mark or NOTHING}
        return {**self._identity(), **place}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at a place: the next pass begins with the batch that would have come.

        Raises:
            TypeError, ValueError: this is not a state of a loader with the same recipe, seed, shuffle and fresh (and,
                with a user's sampler, number of ranks). The loader then stays as it was.
        """
        state, ours = states.checked(state_dict, self.state_dict(), tuple(self._identity()))
        length = len(self._recipe) if self._given is None else PLACES
        epoch = checks.integer("state['epoch']", state["epoch"], 0, self._last_epoch())
        position = checks.integer("state['position']", state["position"], 0, length - 1)
        mark: str | None = NOTHING
        if self._given is not None:
            mark = states.checked_mark(state, ours)
        self._move(epoch, position, mark, resumes=True)

    def _identity(self) -> dict[str, int | str]:
        """What decides which samples come when and what they show, apart from the augmentation, which may change."""
        return {
            "version": states.VERSION,
            "recipe": self._recipe.fingerprint,
            "length": len(self._recipe),
            "seed": self._seed,
            "shuffle": int(self._shuffle),
            "fresh": int(self._fresh),
            "repeats": self._repeats,
        }

    def _last_epoch(self) -> int:
        return last_epoch(len(self._recipe) if self._given is None else PLACES)

    def _move(self, epoch: int, position: int, mark: str | None, *, resumes: bool) -> None:
        self._epoch, self._position, self._mark, self._resumes = epoch, position, mark, resumes
        self._moves += 1

    def _handed_out(self, epoch: int, position: int, mark: str | None, moves: int) -> None:
        """Move on after a batch, unless the place was set while the pass that drew it was already under way."""
        if moves == self._moves:
            self._epoch, self._position, self._mark, self._resumes = epoch, position, mark, False

    def _start(self) -> tuple[int, int, str | None]:
        """Epoch, position and mark at which a pass begins."""
        return (self._epoch, self._position, self._mark) if self._resumes else (self._epoch, 0, NOTHING)

    # ------------------------------------------------------------------------------------------------------- drawing

    def _world(self) -> Ranks:
        return self._fixed_world or ranks.current()

    def _share(self, position: int, world: Ranks) -> np.ndarray:
        return rank_slice(position, len(self._recipe), self._batch_size, world, self._drop_last)

    def _samples(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Sample numbers at positions of an epoch; int64 ``[b]``."""
        length = -(-len(self._recipe) // self._repeats)
        return self._order.indices(positions // self._repeats, length, epoch, self._seed, self._shuffle)

    def _steps(self, epoch: int, position: int, mark: str | None, world: Ranks) -> Iterator[Step]:
        """The batches that are left of an epoch."""
        mixes = self._mixes
        if self._given is not None:
            for samples, behind, after in self._given.batches(epoch, position, mark):
                first = behind - len(samples)
                yield Step(partial(self._draw_given, epoch, samples, first, world, mixes), behind, after)
            return
        step = self._batch_size * world.world_size
        while len(positions := self._share(position, world)):
            position += step
            yield Step(partial(self._draw, epoch, positions, world, mixes), position, NOTHING)

    def _draw(self, epoch: int, positions: np.ndarray, world: Ranks, mixes: bool) -> Batch:
        """The batch of consecutive positions of an epoch."""
        if not self._order.on_device:
            begin = epoch * len(self._recipe)
            samples, numbers = self._samples(epoch, positions), begin + positions // self._repeats
            return self._drawer().draw_samples(epoch, samples, numbers, begin + positions, mixes)
        step = self._batch_size * world.world_size
        return self._drawer().draw(epoch, int(positions[0]), len(positions), step, mixes)

    def _draw_given(self, epoch: int, samples: np.ndarray, first: int, world: Ranks, mixes: bool) -> Batch:
        """The batch of numbers that a user's sampler gave this rank at places ``first`` and behind.

        A sampler may give a number twice. So that no two images are augmented alike (nor, if fresh, drawn alike), their
        randomness is that of the place, among all ranks.
        """
        if (first + len(samples)) * world.world_size > PLACES:
            raise ValueError(f"{self._given.name} must give fewer than {PLACES} numbers an epoch")  # type: ignore[union-attr]
        places = np.arange(first, first + len(samples), dtype=np.int64) * world.world_size + world.rank
        numbers = epoch * PLACES + places
        return self._drawer().draw_samples(epoch, samples, numbers, numbers, mixes)

    def _drawer(self) -> Batches:
        """What draws, made at the first batch, and by a forked process for itself."""
        self._after_fork()
        if self._batches is None:
            self._batches = Batches(
                self._renderer, self._policy, image_size=self._image_size, dtype=self._dtype,
                memory_format=self._memory_format, seed=self._seed, shuffle=self._shuffle, fresh=self._fresh,
                repeats=self._repeats,
            )  # fmt: skip
        return self._batches

    def _depth(self) -> int:
        """How many batches are drawn ahead of the one handed out."""
        if self.prefetch_factor is not None:
            return self.prefetch_factor
        return 1 if self.timeout or devices.on_gpu(self._renderer.device) else 0

    def _producer(self) -> Producer | None:
        """What draws ahead: a stream on a GPU, a thread on a CPU where that is asked for."""
        self._after_fork()
        if self._ahead is None and devices.on_gpu(self._renderer.device):
            self._ahead = Ahead(self._renderer.device)
        if self._ahead is None and (self._depth() or self.timeout):
            self._ahead = Background()
        return self._ahead

    def _after_fork(self) -> None:
        """Threads, streams and locks are the parent's; a forked process makes its own."""
        if self._process != os.getpid():
            self._process, self._batches, self._ahead = os.getpid(), None, None

    def _collated(self, batch: Batch) -> Any:
        """The batch, or what a user's ``collate_fn`` makes of its samples."""
        if self.collate_fn is arguments.default_collate:
            return batch
        images, targets = batch
        seen = list(zip(*images, strict=True)) if isinstance(images, list) else list(images)
        return self.collate_fn(list(zip(seen, targets, strict=True)))

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own stream and cursor."""
        return self.__dict__ | {"_batches": None, "_ahead": None}


def _recipe(recipe: Any) -> Recipe:
    """A recipe, also that of a dataset; a dataset's transform would not be applied."""
    if not isinstance(recipe, Dataset):
        return as_recipe(recipe)
    if recipe.transform is not None:
        got = checks.shown(recipe.transform)
        raise ValueError(f"recipe must be a dataset without transform (augment= says what is done), got {got}")
    return recipe.recipe


def _policy(augment: Any) -> Policy:
    if augment is None:
        return Resize()
    if isinstance(augment, type) or not isinstance(augment, Policy):  # a class has the methods, too
        raise TypeError(f"augment must be None or a policy such as gr.augment.Crop(), got {checks.shown(augment)}")
    return augment


def _dtype(dtype: Any) -> torch.dtype:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be one of {DTYPES}, got {checks.shown(dtype)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {checks.shown(dtype)}")
    return dtype


def _memory_format(memory_format: Any) -> torch.memory_format:
    allowed = (torch.contiguous_format, torch.channels_last)
    if not isinstance(memory_format, torch.memory_format):
        raise TypeError(f"memory_format must be one of {allowed}, got {checks.shown(memory_format)}")
    if memory_format not in allowed:
        raise ValueError(f"memory_format must be one of {allowed}, got {checks.shown(memory_format)}")
    return memory_format
