"""The pipeline of a batch: indices, canvases, images and targets, entirely on the device.

A batch is a pure function of its place (epoch, position). On a GPU no part of a batch waits for the host, and the host
reads nothing back: the place is stored in device memory, in the *device cursor*, which every batch advances on the
device. So all batches have the same launches, which can be captured in a CUDA graph
(:mod:`gpurender.loading.cuda_graphs`).

If the host chooses the samples (a user's sampler, a mixture), their indices are copied to device memory instead, from
pinned memory (:mod:`gpurender.runtime.cuda_streams`).
"""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
import torch

from gpurender.augment import Policy
from gpurender.augment.adapter import as_policy
from gpurender.augment.policy import begin, capturable, declares_bits, windows
from gpurender.kernels.resized_crop import takes_bits
from gpurender.kernels.shuffle import addresses
from gpurender.loading import cuda_graphs
from gpurender.loading.lookup import StepParameters
from gpurender.loading.plan import HostIndices, IndexBatch
from gpurender.loading.watch import Watch, stage
from gpurender.renderer import Renderer
from gpurender.runtime import cuda_streams
from gpurender.runtime.image_formats import ImageFormat

Images = torch.Tensor | list[torch.Tensor]  # with several views: one tensor per view
Batch = tuple[Images, torch.Tensor]


class BatchPipeline:
    """Renders and augments batches of a recipe on the renderer's device.

    Args:
        renderer: renderer of the recipe.
        policy: the augmentation.
        image_size, dtype, memory_format: of the images.
        seed: key of order and augmentation.
        shuffle: whether samples come in an order keyed by seed and epoch, else in the order of their indices.
        fresh: whether every epoch has new instances.
        repeats: number of consecutive positions that have the same sample.
    """

    def __init__(
        self,
        renderer: Renderer,
        policy: Policy,
        *,
        image_size: int,
        dtype: torch.dtype,
        memory_format: torch.memory_format,
        seed: int,
        shuffle: bool,
        fresh: bool,
        repeats: int,
    ) -> None:
        self._renderer, self._policy = renderer, policy
        self._on_device = renderer.recipe.order().on_device
        self._seed, self._shuffle, self._fresh, self._repeats = seed, shuffle, fresh, repeats
        self._image = ImageFormat(image_size, dtype, memory_format)
        self._cursor: torch.Tensor | None = None  # int64 [2] on the device: epoch, position
        self._place: tuple[int, int] | None = None  # epoch and position in that cursor, if known
        self._chosen_ids: torch.Tensor | None = None  # int64 [3 n] on the device: HostIndices of a batch
        self._graph_cache = cuda_graphs.GraphCache(renderer.device)
        self._lock = threading.Lock()  # cursor and graphs serve one batch at a time
        self.watch: Watch | None = None  # measures the stages

    def render(self, step: IndexBatch, mixes: bool) -> Batch:
        """Render a batch.

        Args:
            step: positions, or indices and draw ids, of the batch.
            mixes: whether the policy may mix samples.

        Returns:
            images, floating ``[count, 3, S, S]`` (with several views a list of such tensors), and targets: new tensors
            on the device.

        Raises:
            torch.OutOfMemoryError: naming the batch size and the size of the canvases or images.
        """
        policy = self._policy_of(step.pass_number, mixes)
        with stage(self.watch, "batch"):
            tensors = self._ordered(policy, step) if step.host is None else self._chosen(policy, step.host)
        return _batch(policy, tensors)

    def parameters(self, step: IndexBatch, chosen: HostIndices, mixes: bool) -> StepParameters:
        """Return what decides the images of a batch, without rendering them.

        Args:
            step, mixes: as for :meth:`render`.
            chosen: indices, draw ids and augment ids of the batch.
        """
        policy, recipe = self._policy_of(step.pass_number, mixes), self._renderer.recipe
        indices, draw_ids = (torch.from_numpy(ids).to(self._renderer.device) for ids in chosen[:2])
        drawn = policy.draw(
            chosen.augment_ids, seed=self._seed, canvas_size=recipe.image_size, image_size=self._image.size
        )
        labels = self._renderer.labels_of(indices, draw_ids, self._fresh)
        return StepParameters(step.epoch, step.first, *chosen, labels, policy, drawn)

    def _ordered(self, policy: Policy, step: IndexBatch) -> tuple[torch.Tensor, ...]:
        """Return views and targets of a batch whose indices the device computes."""
        with self._exclusive():
            self._move(step.epoch, step.first)
            self._place = None  # until all kernels have been launched
            tensors = self._graph_cache.run(
                self._key(policy, step.size, step.step),
                lambda: self._launch(policy, step.size, step.step),
                lambda: self._set(step.epoch, step.first),
                self.watch,
            )
            self._place = (step.epoch, step.first + step.step)
        return tensors

    def _chosen(self, policy: Policy, host: HostIndices) -> tuple[torch.Tensor, ...]:
        """Return views and targets of samples that the host has chosen."""
        count = len(host.indices)
        chosen = torch.from_numpy(np.stack(host))  # int64 [3, count]
        with self._exclusive():
            if self._chosen_ids is None or len(self._chosen_ids) < 3 * count:
                self._chosen_ids = torch.zeros(3 * count, dtype=torch.int64, device=self._renderer.device)
                self._graph_cache.clear()  # graphs read the previous memory
            on_device = self._chosen_ids[: 3 * count].view(3, count)
            on_device.copy_(cuda_streams.pinned(chosen, self._renderer.device), non_blocking=True)
            # A mixture's launches depend on its samples, so they are not captured.
            key = self._key(policy, "given", count) if self._on_device else None
            return self._graph_cache.run(
                key, lambda: self._launch_chosen(policy, on_device, chosen[0]), lambda: None, self.watch
            )

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Allow one batch at a time, outside inference mode, so that its tensors can be used outside as well."""
        with self._lock, torch.inference_mode(False):
            yield

    def _key(self, policy: Policy, *what: Hashable) -> Hashable:
        """Return the values that a batch's launches depend on, or ``None``, logged once, if no graph may hold them."""
        own = policy is self._policy
        if capturable(policy) and (own or _hashable(policy)):
            return (*what, None if own else policy)
        name = policy.class_name
        self._graph_cache.say(
            f"{name} lacks capturable = True, by which a policy lets a CUDA graph hold what it launches"
        )
        return None

    def _policy_of(self, epoch: int, mixes: bool) -> Policy:
        """Return the policy in force in an epoch."""
        policy = as_policy(self._policy.at_epoch(epoch), "what at_epoch() returns", required=True)
        return policy if mixes else as_policy(policy.unmixed(), "what unmixed() returns", required=True)

    def _launch(self, policy: Policy, count: int, step: int) -> cuda_graphs.Made:
        """Launch the batch at the cursor, by the same sequence of launches for every batch; return views, targets."""
        recipe, cursor = self._renderer.recipe, self._cursor
        assert cursor is not None
        indices, draw_ids, labels = addresses(
            cursor, count, length=len(recipe), seed=self._seed, instances=recipe.instances, shuffle=self._shuffle,
            repeats=self._repeats,
        )  # fmt: skip
        if not self._renderer.has_default_labels:
            labels = self._renderer.labels_of(indices, draw_ids, self._fresh)
        augment_ids = draw_ids
        if self._repeats > 1:  # each repeat has its own parameters, drawn by its position
            positions = (cursor[1] + torch.arange(count, device=cursor.device)) % len(recipe)
            augment_ids = positions + cursor[0] * len(recipe)
        made = self._augmented(policy, indices, draw_ids if self._fresh else indices, augment_ids, labels)
        cursor[1:].add_(step)
        return made

    def _launch_chosen(self, policy: Policy, chosen: torch.Tensor, host: torch.Tensor) -> cuda_graphs.Made:
        """Return views and targets of chosen indices, draw ids and augment ids, int64 ``[3, B]`` on the device.

        ``host``: the indices on the CPU, int64 ``[B]``.
        """
        indices, draw_ids, augment_ids = chosen
        labels = self._renderer.labels_of(indices, draw_ids, self._fresh)
        places = indices if self._on_device else host
        return self._augmented(policy, places, draw_ids if self._fresh else indices, augment_ids, labels)

    def _bits(self, policy: Policy) -> bool:
        """Return whether canvases of one bit per pixel need not become bytes before the policy crops them."""
        return declares_bits(policy) and takes_bits(self._renderer.device)

    def _augmented(
        self,
        policy: Policy,
        indices: torch.Tensor,
        ids: torch.Tensor,
        augment_ids: torch.Tensor,
        labels: torch.Tensor,
    ) -> cuda_graphs.Made:
        """Return views, or the last launches that make them, and targets of samples, rendered with the randomness of
        ``ids``.

        The parameters are drawn first, because a policy may read only a window of each canvas.
        """
        recipe, size = self._renderer.recipe, self._image.size
        with stage(self.watch, "parameters"):
            parameters = policy.draw(augment_ids, seed=self._seed, canvas_size=recipe.image_size, image_size=size)
        read = windows(policy, parameters)
        with stage(self.watch, "canvases"):
            canvases = self._renderer.render(indices, ids, self._fresh, self._bits(policy), read)  # uint8 [B, C, S, S]
        with stage(self.watch, "augmentation"), self._saying_what_needs_memory(len(labels)):
            begun = begin(policy, canvases, parameters, self._image)
        views = [self._last(view, len(labels)) for view in (begun if policy.views else [begun])]
        return (*views, policy.targets(labels, parameters, recipe.classes))

    def _last(self, view: torch.Tensor | Callable[[], torch.Tensor], count: int) -> Any:
        """Return a view, or its last launch with an error that names the batch."""
        if isinstance(view, torch.Tensor):
            return view

        def last() -> torch.Tensor:
            with self._saying_what_needs_memory(count):
                return view()

        return last

    @contextlib.contextmanager
    def _saying_what_needs_memory(self, count: int) -> Iterator[None]:
        """Raise an error that names the batch of ``count`` images if there is no memory for it."""
        size, dtype, _ = self._image
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise torch.cuda.OutOfMemoryError(
                f"{self._renderer.device} has no memory for a batch of {count} images of 3 x {size} x {size} "
                f"{dtype} and what makes them; take a smaller batch_size ({str(error).splitlines()[0]})"
            ) from None

    def _move(self, epoch: int, first: int) -> None:
        """Set the cursor, unless the previous batch has moved it to this place."""
        if self._cursor is None:
            self._cursor = torch.zeros(2, dtype=torch.int64, device=self._renderer.device)
        if self._place != (epoch, first):
            self._set(epoch, first)

    def _set(self, epoch: int, first: int) -> None:
        assert self._cursor is not None
        self._cursor[0].fill_(epoch)
        self._cursor[1].fill_(first)


def _batch(policy: Policy, tensors: tuple[torch.Tensor, ...]) -> Batch:
    *views, targets = tensors
    return (views if policy.views else views[0]), targets


def _hashable(policy: Policy) -> bool:
    try:
        hash(policy)
    except TypeError:
        return False
    return True
