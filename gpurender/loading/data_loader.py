"""DataLoader: renders the batches of a recipe instead of loading them."""

import copy
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, overload

import torch

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.augment.policy import ImagesT_co, in_short
from gpurender.dataset import Dataset
from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.loading import arguments, ranks
from gpurender.loading.batch_types import BatchT_co, TensorPair
from gpurender.loading.cursor import EMPTY_DIGEST, Cursor, Place
from gpurender.loading.dlpack import DLPackBatches
from gpurender.loading.iterator import EpochIterator, Pass
from gpurender.loading.lookup import StepParameters, batch_of
from gpurender.loading.pipeline import Batch, BatchPipeline
from gpurender.loading.plan import IndexBatch, OrderedPlan
from gpurender.loading.prefetch import Prefetcher, Prefetching, StreamPrefetcher, ThreadPrefetcher
from gpurender.loading.ranks import Ranks
from gpurender.loading.sampler_plan import MAX_POSITIONS, SamplerPlan
from gpurender.loading.samplers import BatchSampler, InOrder, Sampler, Shuffled
from gpurender.loading.state import SEGMENT, VERSION, checked_digest, checked_segment, checked_state
from gpurender.loading.steps_plan import StepsPlan
from gpurender.loading.watch import Watch
from gpurender.recipes.base import Recipe, RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.runtime import devices
from gpurender.runtime.image_formats import check_dtype, check_memory_format
from gpurender.util import checks, keywords

__all__ = ["DataLoader"]

MAX_BATCH_SIZE = 2**31 - 1
MAX_STEPS = 2**40  # of a pass

log = logging.getLogger("gpurender")


@keywords.checked
class DataLoader(Generic[BatchT_co]):
    """Iterable over batches ``(images, targets)`` of a recipe, rendered and augmented on the device on demand.

    The class replaces ``torch.utils.data.DataLoader`` and has the same attributes, but is not a subclass: Accelerate
    replaces a subclass by a plain loader over ``.dataset``, and Lightning rebuilds a subclass.

    >>> loader = gr.DataLoader("onepfrac-1k", batch_size=256, shuffle=True, drop_last=True, augment=gr.augment.DeiT())
    >>> for epoch in range(100):
    ...     for images, targets in loader:  # float32 [256, 3, 224, 224] normalised, float32 [256, 1000] soft
    ...         ...

    **Targets** are labels, int64 ``[B]`` (``[B, 2]`` for a mixture with separate labels), or soft targets, float32
    ``[B, classes]``, if the policy mixes samples or smooths labels.

    **Epochs.** Epoch e is a pure function of (recipe, seed, e). One pass over the loader is one epoch, and the next
    pass is the next epoch, with or without ``set_epoch``. An epoch that was left midway starts again, in the same
    order, unless ``set_epoch`` names another one. Every batch consists of new tensors, which the caller may keep and
    change. With ``num_aug_repeats=r`` in the policy, each sample appears r times in a row. The epoch keeps its length
    of n positions, so it shows only the first ``ceil(n / r)`` samples of its order.

    With ``steps_per_epoch=N`` a pass is the next N steps of the endless stream of epochs, and ``len`` is N. A pass may
    end in the middle of an epoch, where the next pass continues; ``set_epoch`` and the policy's ``at_epoch`` count
    passes.

    **Ranks.** A step takes the next ``world_size * batch_size`` samples of one global order and gives each rank
    ``batch_size`` of them, so all ranks together get the samples that a single process with the large batch would get.
    ``len`` is the same on all ranks; an incomplete last step is split evenly (:mod:`gpurender.loading.ranks`). Rank and
    world size are the arguments if given, else those of torch.distributed once it is initialised, else RANK and
    WORLD_SIZE of the environment (set by torchrun). They are read when the first batch of a pass is requested.

    **State.** ``state_dict()`` is the place after the last batch handed out: JSON, less than 1 kB, the same on every
    rank. After ``load_state_dict`` the next pass continues there in O(1), also with another number of ranks or another
    batch size. ``len`` remains that of a whole epoch, although the first pass then has fewer batches left (none, if
    ``drop_last`` is set and less than a step is left).

    **On a GPU** batches are rendered on a separate CUDA stream. By default one batch is prefetched after the one handed
    out, and each batch is ready for the CUDA stream that is torch's current one when the batch is requested
    (:mod:`gpurender.loading.prefetch`). Apart from setup, the loader never makes the host wait for the GPU, unless
    ``timeout`` is set.

    **A user's sampler** decides which samples this rank renders, and in which order, as in torch: the loader neither
    shuffles indices nor divides them among ranks. An index that repeats is augmented differently each time. The state
    is then per rank and holds a digest of the indices given so far. Resuming reads the indices up to the saved place
    from the sampler again without rendering them, and raises an error if they differ.

    Args:
        recipe: any argument of ``gr.recipe``: a recipe, a preset's name, JSON, the path of a JSON file; or a
            :class:`gpurender.Dataset` without transform.
        batch_size: samples per batch on each rank.
        sampler: an iterable of indices, iterated again in every epoch.
        batch_sampler: an iterable of lists of indices, instead of batch_size, shuffle, sampler and drop_last.
        collate_fn: called with the list of a batch's samples, each ``(image, target)``, tensors on the device (with
            several views the image is a tuple of tensors). Its result is handed out instead of the batch. It runs in
            the consumer's thread.
        timeout: maximum seconds to wait for a prefetched batch; 0: no limit.
        generator: its ``initial_seed()`` is the seed; it is not advanced. It excludes ``seed``.
        prefetch_factor: number of batches to prefetch, 0 to 64. The default is 1 on a GPU. On a CPU, where a thread
            renders them, the default is 0, or 1 with a ``timeout``.
        num_workers, pin_memory, worker_init_fn, multiprocessing_context: without effect, because there are no
            workers; accepted, and named in the log of ``gpurender`` if set.
        persistent_workers, pin_memory_device, in_order: likewise.
        image_size: side of the images in pixels.
        steps_per_epoch: number of steps of a pass over the stream of epochs; ``None``: a pass is one epoch.
        augment: a policy of ``gpurender.augment`` or its name, such as ``"deit"``; ``None`` resizes the canvas and
            normalises with mean = std = 0.5.
        shuffle: give the samples of an epoch in an order keyed by seed and epoch, else in the order of their indices.
        drop_last: leave out the incomplete last step of an epoch.
        device: the device that renders and holds the batches: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …; ``None``: torch's
            current GPU (``torch.cuda.set_device``), or the CPU if there is no GPU.
        dtype: of the images: ``torch.float32``, ``float16``, ``bfloat16`` or ``float64``.
        memory_format: of the images: ``torch.contiguous_format`` or ``torch.channels_last``.
        seed: unsigned 64-bit key of order and augmentation (the images themselves are keyed by the recipe's seed).
        fresh: render new instances of the classes in every epoch, so that no image is ever seen twice, except the
            repeats of ``num_aug_repeats`` and the samples that fill up a last step of fewer samples than ranks
            (``drop_last`` leaves that step out).
        rank, world_size: rank of this process and number of processes, given together or not at all.
        cache_bytes: bytes of the device's memory for what repeats without ``fresh``, as for
            :class:`gpurender.Renderer`; ``None``: a quarter of what is free at the first batch, at most 1 GiB.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
        RuntimeError: the device is a GPU and the packages that compile its kernels are missing; during iteration: a
            batch was not ready within ``timeout``, or a sampler gives other indices than before the state was saved.
    """

    # Attributes for code that inspects torch's DataLoader: no workers, no pinned copies.
    num_workers = 0
    pin_memory = False
    pin_memory_device = ""
    persistent_workers = False
    multiprocessing_context = None
    worker_init_fn = None
    in_order = True

    # The type of the batches, by augment and collate_fn. A policy says by the type of ``apply`` what images are.
    @overload
    def __init__(
        self: "DataLoader[TensorPair]",
        recipe: RecipeLike | Dataset, batch_size: int = 1, shuffle: bool | None = None,
        sampler: Any = None, batch_sampler: Any = None, num_workers: int = 0, collate_fn: None = None,
        pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
        generator: torch.Generator | None = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True, image_size: int = 224,
        augment: str | None = None, steps_per_epoch: int | None = None,
        device: str | torch.device | None = None, dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format, seed: int | None = None, fresh: bool = False,
        rank: int | None = None, world_size: int | None = None, cache_bytes: int | None = None,
    ) -> None: ...  # fmt: skip

    @overload
    def __init__(
        self: "DataLoader[tuple[ImagesT_co, torch.Tensor]]",
        recipe: RecipeLike | Dataset, batch_size: int = 1, shuffle: bool | None = None,
        sampler: Any = None, batch_sampler: Any = None, num_workers: int = 0, collate_fn: None = None,
        pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
        generator: torch.Generator | None = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True, image_size: int = 224,
        augment: PolicyLike[ImagesT_co], steps_per_epoch: int | None = None,
        device: str | torch.device | None = None, dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format, seed: int | None = None, fresh: bool = False,
        rank: int | None = None, world_size: int | None = None, cache_bytes: int | None = None,
    ) -> None: ...  # fmt: skip

    @overload
    def __init__(
        self,
        recipe: RecipeLike | Dataset, batch_size: int = 1, shuffle: bool | None = None,
        sampler: Any = None, batch_sampler: Any = None, num_workers: int = 0,
        collate_fn: Callable[[list[Any]], BatchT_co] = ..., pin_memory: bool = False, drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
        generator: torch.Generator | None = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True, image_size: int = 224,
        augment: PolicyLike[Any] | str | None = None, steps_per_epoch: int | None = None,
        device: str | torch.device | None = None, dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format, seed: int | None = None, fresh: bool = False,
        rank: int | None = None, world_size: int | None = None, cache_bytes: int | None = None,
    ) -> None: ...  # fmt: skip

    def __init__(
        self,
        recipe: RecipeLike | Dataset,
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
        augment: PolicyLike[Any] | str | None = None,
        steps_per_epoch: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        seed: int | None = None,
        fresh: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        cache_bytes: int | None = None,
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
        if self._recipe.label_width > 1 and not self._recipe.multi_hot and self._policy.soft:
            raise ValueError(
                "augment must not mix samples or smooth labels: the recipe is a mixture of separate labels"
            )
        self._plan = self._make_plan(sampler, batch_sampler, steps_per_epoch)
        self._cursor = Cursor(self._plan.first)
        self._watch: Watch | None = None  # measures batches, while that is wanted
        self._told = False  # that a pass starts again, or that there is none
        self._mixes = True  # unless the training loop switches it off
        self._renderer = Renderer(self._recipe, devices.resolve(device), cache_bytes=cache_bytes)
        self._dataset = Dataset(self._recipe, cache_bytes=cache_bytes)
        self._pipeline: BatchPipeline | None = None  # pipeline and prefetcher are made at the first batch
        self._prefetcher: Prefetcher | None = None
        self._process = os.getpid()  # the process that both belong to
        arguments.note_neutral(
            num_workers, pin_memory, worker_init_fn, multiprocessing_context, persistent_workers, pin_memory_device,
            in_order,
        )  # fmt: skip

    def _make_plan(
        self, sampler: Any, batch_sampler: Any, steps_per_epoch: int | None
    ) -> OrderedPlan | StepsPlan | SamplerPlan:
        if sampler is None and batch_sampler is None:
            epochs = OrderedPlan(
                self._recipe.order(), len(self._recipe), self._batch_size, self._seed, self._shuffle, self._drop_last,
                self._repeats,
            )  # fmt: skip
            if steps_per_epoch is None:
                return epochs
            plan = StepsPlan(epochs, checks.integer("steps_per_epoch", steps_per_epoch, 1, MAX_STEPS))
            plan.steps_of_epoch(self._fixed_ranks or Ranks(0, 1))  # refuses epochs without a step; more ranks may join
            return plan
        if steps_per_epoch is not None:
            name = "sampler" if batch_sampler is None else "batch_sampler"
            raise ValueError(f"steps_per_epoch must be left out when a {name} is given: it decides the length")
        follows = SamplerPlan(sampler, batch_sampler, self._batch_size, self._drop_last, len(self._recipe))
        if self._repeats > 1:
            raise ValueError(f"{follows.name} must be left out: augment repeats samples (num_aug_repeats)")
        return follows

    # ------------------------------------------------------------------------------------------------------- reading

    @property
    def dataset(self) -> Dataset:
        """The same samples one by one, without augmentation."""
        return self._dataset

    @property
    def batch_size(self) -> int | None:
        """Samples per batch on each rank; ``None`` if a ``batch_sampler`` decides."""
        return None if self._follows == "batch_sampler" else self._batch_size

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last step is left out."""
        return self._drop_last

    @property
    def epoch(self) -> int:
        """The number of the epoch of the next batch, or with ``steps_per_epoch`` of its pass.

        A loop over ``range(loader.epoch, epochs)`` is that of a new run and of a resumed one.
        """
        return self._plan.pass_number(self._cursor.place)

    @property
    def step(self) -> int:
        """The number of the next batch in its pass, from 0: ``batch_at(step)`` is the next batch."""
        return self._own_plan().steps_before(self._cursor.place, self._ranks())

    @property
    def sampler(self) -> Any:
        """The given sampler, or that of the given batch sampler; else this rank's indices of the next pass.

        The latter is an instance of torch's ``SequentialSampler`` or ``RandomSampler``, by ``shuffle`` (for a mixture
        of neither), and its ``set_epoch`` is the loader's.
        """
        if isinstance(self._plan, SamplerPlan):
            source = self._plan.source
            return source if self._follows == "sampler" else getattr(source, "sampler", None)
        view: type[Sampler] = Shuffled if self._shuffle else InOrder
        if not self._plan.on_device:  # a mixture's order differs between epochs, shuffled or not
            view = Sampler
        return view(self._plan, self._cursor, self._ranks, self.dataset, self.set_epoch)

    @property
    def batch_sampler(self) -> Any:
        """The given batch sampler; else this rank's indices of the next pass, one list per batch."""
        if isinstance(self._plan, SamplerPlan) and self._follows == "batch_sampler":
            return self._plan.source
        return BatchSampler(
            self._plan, self._cursor, self._ranks, sampler=self.sampler, batch_size=self._batch_size,
            drop_last=self._drop_last, set_epoch=self.set_epoch,
        )  # fmt: skip

    @property
    def kept_bytes(self) -> int:
        """Bytes of the bitmaps that repeat and have been kept on the device so far (``cache_bytes``)."""
        return self._renderer.kept_bytes

    @property
    def _follows(self) -> str | None:
        """``"sampler"`` or ``"batch_sampler"``, the one that was given, or ``None``."""
        return self._plan.name if isinstance(self._plan, SamplerPlan) else None

    @property
    def mixup_enabled(self) -> bool:
        """Whether the policy may mix samples, from the next pass on.

        timm's training loop sets this to False at its ``mixup_off_epoch``.
        """
        return self._mixes

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self._mixes = checks.boolean("mixup_enabled", enabled)

    @property
    def measured(self) -> bool:
        """Whether :meth:`stats` measures, from the next batch on; at first it does not, which costs nothing."""
        return self._watch is not None

    @measured.setter
    def measured(self, measured: bool) -> None:
        if checks.boolean("measured", measured) != self.measured:
            self._watch = Watch(self._renderer.device) if measured else None
            if self._pipeline is not None:
                self._pipeline.watch = self._watch

    def stats(self) -> dict[str, Any]:
        """Return what has been measured since the last call, or since ``measured`` was set; on a GPU the host waits.

        ``batches``, ``images``, ``seconds``, ``images_per_second``; ``wait_share``, the share of the time for which the
        consumer waited for batches, 0 to 1 (on a GPU its stream, on a CPU its thread); ``queue_depth``, the mean number
        of finished batches at a request; ``stage_ms``, the mean milliseconds per batch of each stage; ``clock``. The
        stage ``batch`` holds the others. In a CUDA graph all but the last launches are one stage, ``graph``.

        Raises:
            RuntimeError: nothing is measured.
        """
        if self._watch is None:
            raise RuntimeError("stats measures nothing unless loader.measured = True was set before")
        return self._watch.report()

    def __len__(self) -> int:
        """Return the number of batches of a whole pass, equal on all ranks.

        A pass is an epoch, or has ``steps_per_epoch`` batches. With a user's sampler its length decides.
        """
        return self._plan.steps(self._ranks)

    def __repr__(self) -> str:
        size = f"{self._follows}=…" if self._follows else f"batch_size={self._batch_size}, shuffle={self._shuffle}"
        size += ", drop_last=True" if self._drop_last else ""
        size += f", steps_per_epoch={self._plan.count}" if isinstance(self._plan, StepsPlan) else ""
        size += f", image_size={self._image_size}, seed={self._seed}" + (", fresh=True" if self._fresh else "")
        device, augment = str(self._renderer.device), in_short(self._policy)
        try:
            length = f", {len(self)} batches"
        except Exception:  # a user's sampler without a length
            length = ""
        return f"{type(self).__name__}({self._recipe.in_short}, {size}, augment={augment}, device={device!r}{length})"

    def _repr_png_(self) -> bytes | None:
        """Return a small contact sheet with the augmentation (if it is of one view), which notebooks show.

        It is rendered on the CPU, beside whatever the loader's device does.
        """
        return self._dataset.picture(None if self._policy.views else self._policy)

    def __iter__(self) -> Iterator[BatchT_co]:
        return self._epoch_iterator()

    def _epoch_iterator(self) -> EpochIterator:
        return EpochIterator(
            self._plan, self._cursor, self._begin, self._prefetching, self._collated, lambda: self._watch
        )

    def as_dlpack(self) -> "DLPackBatches":
        """Return this loader as batches for JAX and other consumers of DLPack.

        >>> for images, targets in loader.as_dlpack():
        ...     images, targets = jax.dlpack.from_dlpack(images), jax.dlpack.from_dlpack(targets)

        Raises:
            ValueError: the loader has a ``collate_fn``.
        """
        if self.collate_fn is not arguments.default_collate:
            raise ValueError(f"collate_fn must be left out with as_dlpack(), got {checks.shown(self.collate_fn)}")
        return DLPackBatches(self)

    # -------------------------------------------------------------------------------------------------------- lookup

    def batch_at(self, step: int) -> BatchT_co:
        """Return the batch of a step of the present pass, the one that :attr:`epoch` is the number of.

        It has the same bytes as the batch that a pass gives at this step. The place of the loader, and passes that are
        under way, stay as they are. After the last batch of a pass the present pass is already the next one.

        Args:
            step: number of the batch in its pass, from 0.

        Raises:
            TypeError, ValueError: there is no such step; or the loader follows a user's sampler, which would have to be
                iterated; or the step lies before a loaded place at which the size of the steps changed.
        """
        batch = batch_of(self._own_plan(), self._cursor.place, step, self._ranks())
        render, ahead = partial(self._render, batch, mixes=self._mixes), self._prefetching()
        if ahead.prefetcher is None:
            return self._collated(render())
        # on the stream, or in the thread, of all other batches: they share the memory that holds the place
        return self._collated(ahead.prefetcher.hand_over(ahead.prefetcher.start(render), ahead.timeout))

    def parameters_at(self, step: int) -> StepParameters:
        """Return samples, labels and drawn parameters of the batch that :meth:`batch_at` returns; nothing is rendered.

        Raises:
            TypeError, ValueError: as for :meth:`batch_at`.
        """
        plan = self._own_plan()
        batch = batch_of(plan, self._cursor.place, step, self._ranks())
        return self._made_pipeline().parameters(batch, plan.addresses(batch), self._mixes)

    def check_numbered(self) -> None:
        """Check that the batches have numbers, also in a process that does not know its rank yet.

        Raises:
            ValueError: the loader follows a user's sampler.
        """
        self._own_plan()

    def describe(self) -> dict[str, Any]:
        """Return what decides this loader's batches, as JSON values; with :meth:`state_dict` any batch can be replayed.

        Raises:
            ValueError: the loader follows a user's sampler.
        """
        plan = self._own_plan()
        steps = plan.count if isinstance(plan, StepsPlan) else None
        return {
            "recipe": json.loads(self._recipe.to_json()),
            "batch_size": self._batch_size,
            "image_size": self._image_size,
            "augment": repr(self._policy),
            "shuffle": self._shuffle,
            "drop_last": self._drop_last,
            "steps_per_epoch": steps,
            "seed": self._seed,
            "fresh": self._fresh,
            **self._ranks()._asdict(),
        }

    def _own_plan(self) -> OrderedPlan | StepsPlan:
        if isinstance(self._plan, SamplerPlan):
            raise ValueError(f"{self._follows} must be left out: only batches of the loader's own order have numbers")
        return self._plan

    # --------------------------------------------------------------------------------------------------------- state

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, which starts at its beginning; a loaded position in the same epoch is kept.

        ``set_epoch`` of a user's sampler is called as well. With ``steps_per_epoch`` the epoch is the number of the
        pass; if it is not that of the next pass, the pass begins where it would if all steps had the present size.
        """
        epoch = checks.integer("epoch", epoch, 0, self._plan.last_epoch())
        if isinstance(self._plan, SamplerPlan):
            self._plan.set_epoch(epoch)
        if epoch != self._plan.pass_number(self._cursor.place):
            self._cursor.seek(self._plan.seek(epoch, self._ranks), resumes=False)

    def state_dict(self) -> dict[str, int | str]:
        """Return the place after the last batch handed out, and the values that the order depends on.

        The place is ``epoch`` and ``position``, the number of samples of that epoch given to all ranks together. After
        the last batch of an epoch it is already position 0 of the next. With a user's sampler, ``position`` counts the
        samples of this rank, and the state also has ``rank``, ``world_size`` and ``mark``, a digest of the indices that
        the sampler gave. With ``steps_per_epoch`` the state also has the number of the pass, the number of its steps
        so far, and the place where the pass began: ``pass``, ``pass_step``, ``pass_epoch`` and ``pass_position``.
        """
        return self._state(self._cursor.place)

    def last_state_dict(self) -> dict[str, int | str] | None:
        """Return the place before the last batch handed out, as :meth:`state_dict` does; ``None`` before the first.

        After ``load_state_dict`` of it, the next batch is that batch.
        """
        return None if self._cursor.given is None else self._state(self._cursor.given)

    def _state(self, place: Place) -> dict[str, int | str]:
        state = {**self._identity(), "epoch": place.epoch, "position": place.position}
        if place.segment is not None:
            state |= dict(zip(SEGMENT, place.segment, strict=True))
        if isinstance(self._plan, SamplerPlan):
            state |= {**self._ranks()._asdict(), "mark": place.digest or EMPTY_DIGEST}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at the place of a state: the next pass begins with the batch that would have come next.

        Raises:
            TypeError, ValueError: this is not a state of a loader with the same recipe, seed, shuffle, fresh,
                num_aug_repeats and steps_per_epoch (and, with a user's sampler, number of ranks). The loader then stays
                as it was.
        """
        follows = isinstance(self._plan, SamplerPlan)
        state, ours = checked_state(state_dict, self.state_dict(), tuple(self._identity()))
        length = MAX_POSITIONS if follows else len(self._recipe)
        epoch = checks.integer("state['epoch']", state["epoch"], 0, self._plan.last_epoch())
        position = checks.integer("state['position']", state["position"], 0, length - 1)
        digest = checked_digest(state, ours) if follows else EMPTY_DIGEST
        segment = None
        if isinstance(self._plan, StepsPlan):
            segment = checked_segment(state, self._plan.count, self._plan.last_epoch(), length)
        self._cursor.seek(Place(epoch, position, digest, segment), resumes=True)

    def _identity(self) -> dict[str, int | str]:
        """Return the values that decide which samples come when and what they show; the augmentation may change."""
        steps = {"steps_per_epoch": self._plan.count} if isinstance(self._plan, StepsPlan) else {}
        return {
            "version": VERSION,
            "recipe": self._recipe.fingerprint,
            "length": len(self._recipe),
            "seed": self._seed,
            "shuffle": int(self._shuffle),
            "fresh": int(self._fresh),
            "repeats": self._repeats,
            **steps,
        }

    # ----------------------------------------------------------------------------------------------------- rendering

    def _ranks(self) -> Ranks:
        return self._fixed_ranks or ranks.current()

    def _begin(self) -> Pass:
        place, start = self._cursor.place, self._cursor.start(self._plan.restart)
        if start != place and not self._told:
            self._told = True
            log.warning(
                "epoch %d was left midway and starts again with the same batches; %sset_epoch(e) goes to another epoch",
                self._plan.pass_number(place),
                "" if isinstance(self._plan, StepsPlan) else "steps_per_epoch=N gives passes of N batches, ",
            )
        if isinstance(self._plan, OrderedPlan) and not self._told and not self._plan.steps(self._ranks):
            self._told = True
            log.warning(
                "the loader has no batch: drop_last leaves out all %d samples of an epoch, because a step takes %d",
                self._plan.length,
                self._plan.step(self._ranks()),
            )
        return Pass(self._ranks(), partial(self._render, mixes=self._mixes))

    def _render(self, step: IndexBatch, mixes: bool) -> Batch:
        """Render a batch."""
        return self._made_pipeline().render(step, mixes)

    def _made_pipeline(self) -> BatchPipeline:
        """Return the pipeline. The first batch makes it, and a forked process makes its own."""
        self._after_fork()
        if self._pipeline is None:
            self._pipeline = BatchPipeline(
                self._renderer, self._policy, image_size=self._image_size, dtype=self._dtype,
                memory_format=self._memory_format, seed=self._seed, shuffle=self._shuffle, fresh=self._fresh,
                repeats=self._repeats,
            )  # fmt: skip
            self._pipeline.watch = self._watch
        return self._pipeline

    def _prefetching(self) -> Prefetching:
        """Return how this process prefetches: on a CUDA stream on a GPU, in a thread on a CPU if that is requested."""
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
        """Drop the parent's threads, streams and locks in a forked process, which makes its own."""
        if self._process != os.getpid():
            self._process, self._pipeline, self._prefetcher = os.getpid(), None, None

    def _collated(self, batch: Batch) -> Any:
        """Return the batch, or the result of a user's ``collate_fn`` for its samples."""
        if self.collate_fn is arguments.default_collate:
            return batch
        images, targets = batch
        seen = list(zip(*images, strict=True)) if isinstance(images, list) else list(images)
        return self.collate_fn(list(zip(seen, targets, strict=True)))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without pipeline and prefetcher, with a copy of the cursor: a copied loader has its own."""
        return self.__dict__ | {
            "_pipeline": None,
            "_prefetcher": None,
            "_watch": None,
            "_cursor": copy.copy(self._cursor),
        }


def _recipe(recipe: Any) -> Recipe:
    """Return the recipe, or that of a dataset without transform, because a transform would not be applied."""
    if not isinstance(recipe, Dataset):
        return as_recipe(recipe)
    if recipe.transform is not None:
        got = checks.shown(recipe.transform)
        raise ValueError(f"recipe must be a dataset without transform (augment= says what is done), got {got}")
    return recipe.recipe
