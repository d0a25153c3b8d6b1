"""DataLoader: draws the batches of a recipe where torch's would load them."""

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.dataset import Dataset
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.loading import arguments, ranks
from gpurender.loading.cursor import EMPTY_DIGEST, Cursor, Place
from gpurender.loading.iterator import EpochIterator, Pass
from gpurender.loading.pipeline import Batch, BatchPipeline
from gpurender.loading.plan import IndexBatch, OrderedPlan
from gpurender.loading.prefetch import Prefetcher, Prefetching, StreamPrefetcher, ThreadPrefetcher
from gpurender.loading.ranks import Ranks
from gpurender.loading.sampler_plan import MAX_POSITIONS, SamplerPlan
from gpurender.loading.samplers import BatchSampler, InOrder, Sampler, Shuffled
from gpurender.loading.state import VERSION, checked_digest, checked_state
from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.runtime import devices
from gpurender.runtime.image_formats import check_dtype, check_memory_format
from gpurender.util import checks

__all__ = ["DataLoader"]

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
        augment: PolicyLike | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        seed: int | None = None,
        fresh: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self._recipe = _recipe(recipe)
        self._shuffle = False if shuffle is None else checks.boolean("shuffle", shuffle)
        self._drop_last = checks.boolean("drop_last", drop_last)
        self._batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH_SIZE)
        arguments.check_sampling(self._batch_size, self._shuffle, sampler, batch_sampler, self._drop_last)
        self._image_size = checks.integer("image_size", image_size, 1, MAX_SIDE)
        self._policy = as_policy(augment)
        self._policy.check_sizes(self._recipe.image_size, self._image_size)
        self._dtype = check_dtype(dtype)
        self.generator = generator
        self._seed = arguments.seed_of(seed, generator)
        self._fresh = checks.boolean("fresh", fresh)
        self._fixed_ranks = ranks.checked(rank, world_size)
        self._memory_format = check_memory_format(memory_format)
        self.collate_fn = arguments.checked_collate(collate_fn)
        self.prefetch_factor, self.timeout = arguments.checked_ahead(prefetch_factor, timeout)
        self._repeats = max(1, self._policy.num_aug_repeats)
        if self._recipe.label_width > 1 and self._policy.soft:
            raise ValueError(
                "augment must not mix samples or smooth labels: the recipe is a mixture of separate labels"
            )
        self._plan = self._make_plan(sampler, batch_sampler)
        self._cursor = Cursor()
        self._mixes = True  # unless the training loop switches it off
        self._renderer = Renderer(self._recipe, devices.resolve(device))
        self._dataset = Dataset(self._recipe)
        self._pipeline: BatchPipeline | None = None  # both made when the first batch is asked for
        self._prefetcher: Prefetcher | None = None
        self._process = os.getpid()  # whose they are
        arguments.note_neutral(
            num_workers, pin_memory, worker_init_fn, multiprocessing_context, persistent_workers, pin_memory_device,
            in_order,
        )  # fmt: skip

    def _make_plan(self, sampler: Any, batch_sampler: Any) -> OrderedPlan | SamplerPlan:
        if sampler is None and batch_sampler is None:
            return OrderedPlan(
                self._recipe.order(), len(self._recipe), self._batch_size, self._seed, self._shuffle, self._drop_last,
                self._repeats,
            )  # fmt: skip
        plan = SamplerPlan(sampler, batch_sampler, self._batch_size, self._drop_last, len(self._recipe))
        if self._repeats > 1:
            raise ValueError(f"{plan.name} must be left out: augment repeats samples (num_aug_repeats)")
        return plan

    # ------------------------------------------------------------------------------------------------------- reading

    @property
    def dataset(self) -> Dataset:
        """The same samples one by one, without augmentation."""
        return self._dataset

    @property
    def batch_size(self) -> int | None:
        """Samples per batch on each rank; ``None`` where a ``batch_sampler`` decides."""
        return None if self._follows == "batch_sampler" else self._batch_size

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last step is left out."""
        return self._drop_last

    @property
    def sampler(self) -> Any:
        """The sampler that was given; else this rank's indices of the coming pass, as one of torch's
        ``SequentialSampler`` or ``RandomSampler``, by ``shuffle`` (of a mixture neither), whose ``set_epoch`` is the
        loader's.
        """
        if isinstance(self._plan, SamplerPlan):
            source = self._plan.source
            return source if self._follows == "sampler" else getattr(source, "sampler", None)
        view: type[Sampler] = Shuffled if self._shuffle else InOrder
        if not self._plan.on_device:  # a mixture's order is not the same in every epoch, shuffled or not
            view = Sampler
        return view(self._plan, self._cursor, self._ranks, self.dataset, self.set_epoch)

    @property
    def batch_sampler(self) -> Any:
        """The batch sampler that was given; else the indices in the lists that make the batches."""
        if isinstance(self._plan, SamplerPlan) and self._follows == "batch_sampler":
            return self._plan.source
        return BatchSampler(
            self._plan, self._cursor, self._ranks, sampler=self.sampler, batch_size=self._batch_size,
            drop_last=self._drop_last, set_epoch=self.set_epoch,
        )  # fmt: skip

    @property
    def _follows(self) -> str | None:
        """``"sampler"`` or ``"batch_sampler"``, whichever was given."""
        return self._plan.name if isinstance(self._plan, SamplerPlan) else None

    @property
    def mixup_enabled(self) -> bool:
        """Whether the policy may mix samples, from the next pass on; timm's training loop sets it to False in time."""
        return self._mixes

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self._mixes = checks.boolean("mixup_enabled", enabled)

    def __len__(self) -> int:
        """Batches of a whole epoch, equal on all ranks; of a user's sampler, as many as its own length makes."""
        return self._plan.steps(self._ranks)

    def __iter__(self) -> Iterator[Any]:
        return self._epoch_iterator()

    def _epoch_iterator(self) -> EpochIterator:
        return EpochIterator(self._plan, self._cursor, self._begin, self._prefetching, self._collated)

    # --------------------------------------------------------------------------------------------------------- state

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch, from its beginning; of the current epoch a loaded position is kept.

        A user's sampler is told as well.
        """
        epoch = checks.integer("epoch", epoch, 0, self._plan.last_epoch())
        if isinstance(self._plan, SamplerPlan):
            self._plan.set_epoch(epoch)
        if epoch != self._cursor.place.epoch:
            self._cursor.seek(Place(epoch), resumes=False)

    def state_dict(self) -> dict[str, int | str]:
        """Return the place after the last batch handed out and what the order depends on.

        ``epoch``, and ``position``: how many samples of it all ranks together have been given. The last batch of an
        epoch already makes it position 0 of the next. With a user's sampler, ``position`` is this rank's, and there
        are also its ``rank``, ``world_size`` and ``mark``, a digest of the indices that the sampler gave.
        """
        place = self._cursor.place
        state = {**self._identity(), "epoch": place.epoch, "position": place.position}
        if isinstance(self._plan, SamplerPlan):
            state |= {**self._ranks()._asdict(), "mark": place.digest or EMPTY_DIGEST}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at a place: the next pass begins with the batch that would have come.

        Raises:
            TypeError, ValueError: this is not a state of a loader with the same recipe, seed, shuffle and fresh (and,
                with a user's sampler, number of ranks). The loader then stays as it was.
        """
        follows = isinstance(self._plan, SamplerPlan)
        state, ours = checked_state(state_dict, self.state_dict(), tuple(self._identity()))
        length = MAX_POSITIONS if follows else len(self._recipe)
        epoch = checks.integer("state['epoch']", state["epoch"], 0, self._plan.last_epoch())
        position = checks.integer("state['position']", state["position"], 0, length - 1)
        digest = checked_digest(state, ours) if follows else EMPTY_DIGEST
        self._cursor.seek(Place(epoch, position, digest), resumes=True)

    def _identity(self) -> dict[str, int | str]:
        """Return what decides which samples come when and what they show; the augmentation may change."""
        return {
            "version": VERSION,
            "recipe": self._recipe.fingerprint,
            "length": len(self._recipe),
            "seed": self._seed,
            "shuffle": int(self._shuffle),
            "fresh": int(self._fresh),
            "repeats": self._repeats,
        }

    # ----------------------------------------------------------------------------------------------------- rendering

    def _ranks(self) -> Ranks:
        return self._fixed_ranks or ranks.current()

    def _begin(self) -> Pass:
        return Pass(self._ranks(), partial(self._render, mixes=self._mixes))

    def _render(self, step: IndexBatch, mixes: bool) -> Batch:
        """Render a batch, with a pipeline that is made at the first one, and by a forked process for itself."""
        self._after_fork()
        if self._pipeline is None:
            self._pipeline = BatchPipeline(
                self._renderer, self._policy, image_size=self._image_size, dtype=self._dtype,
                memory_format=self._memory_format, seed=self._seed, shuffle=self._shuffle, fresh=self._fresh,
                repeats=self._repeats,
            )  # fmt: skip
        return self._pipeline.render(step, mixes)

    def _prefetching(self) -> Prefetching:
        """Return how this process renders ahead: in a stream on a GPU, in a thread on a CPU where that is asked for."""
        self._after_fork()
        gpu = devices.on_gpu(self._renderer.device)
        depth = self.prefetch_factor
        if depth is None:
            depth = 1 if gpu or self.timeout else 0
        if self._prefetcher is None and gpu:
            self._prefetcher = StreamPrefetcher(self._renderer.device)
        if self._prefetcher is None and (depth or self.timeout):
            self._prefetcher = ThreadPrefetcher()
        return Prefetching(self._prefetcher, depth, self.timeout)

    def _after_fork(self) -> None:
        """Let go of the parent's threads, streams and locks; a forked process makes its own."""
        if self._process != os.getpid():
            self._process, self._pipeline, self._prefetcher = os.getpid(), None, None

    def _collated(self, batch: Batch) -> Any:
        """The batch, or what a user's ``collate_fn`` makes of its samples."""
        if self.collate_fn is arguments.default_collate:
            return batch
        images, targets = batch
        seen = list(zip(*images, strict=True)) if isinstance(images, list) else list(images)
        return self.collate_fn(list(zip(seen, targets, strict=True)))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the pipeline and the prefetcher, and copy the cursor: a copy of the loader has its own."""
        return self.__dict__ | {"_pipeline": None, "_prefetcher": None, "_cursor": copy.copy(self._cursor)}


def _recipe(recipe: Any) -> Recipe:
    """A recipe, also that of a dataset; a dataset's transform would not be applied."""
    if not isinstance(recipe, Dataset):
        return as_recipe(recipe)
    if recipe.transform is not None:
        got = checks.shown(recipe.transform)
        raise ValueError(f"recipe must be a dataset without transform (augment= says what is done), got {got}")
    return recipe.recipe
