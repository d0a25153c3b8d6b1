"""Batches: order, canvases and augmentation of one batch after another, wholly on the device.

A batch is a pure function of its place (epoch, position). On a GPU nothing in it waits for the host, and the host reads
nothing back: the place stands in a cell of device memory, the *cursor*, which every batch moves on by itself. So the
launches of one batch are those of the next, and they can be captured in a CUDA graph (:mod:`gpurender.graphs`).
"""

from typing import Any

import torch

from gpurender import graphs
from gpurender.augment import Policy
from gpurender.kernels.order import addresses
from gpurender.renderer import Renderer

Batch = tuple[torch.Tensor, torch.Tensor]

UNKNOWN = (-1, -1)


class Batches:
    """Draws batches of a recipe on the renderer's device.

    Args:
        renderer: of the recipe.
        policy: the augmentation.
        image_size, dtype, memory_format: of the images.
        seed: key of order and augmentation.
        shuffle: samples in an order keyed by seed and epoch, else in that of their numbers.
        fresh: new instances in every epoch.
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
    ) -> None:
        self._renderer, self._policy = renderer, policy
        self._seed, self._shuffle, self._fresh = seed, shuffle, fresh
        self._finish: dict[str, Any] = {"image_size": image_size, "dtype": dtype}
        if memory_format != torch.contiguous_format:
            self._finish["memory_format"] = memory_format
        self._cursor: torch.Tensor | None = None  # int64 [2] on the device: epoch, position
        self._place = UNKNOWN  # of the cursor
        self._recorder = graphs.Recorder(renderer.device)

    def draw(self, epoch: int, first: int, count: int, step: int) -> Batch:
        """The samples at positions ``first`` to ``first + count - 1`` of an epoch.

        Args:
            step: where the next batch will begin, from ``first`` on.

        Returns:
            images, floating ``[count, 3, S, S]``, and labels, int64 ``[count]``: new tensors on the device.

        Raises:
            torch.OutOfMemoryError: naming batch and canvas.
        """
        self._move(epoch, first)
        self._place = UNKNOWN  # until all has been launched
        canvases, labels, parameters = self._recorder.run(
            (count, step), lambda: self._front(count, step), lambda: self._set(epoch, first)
        )
        self._place = (epoch, first + step)
        try:
            return self._policy.apply(canvases, parameters, **self._finish), labels.clone()
        except torch.cuda.OutOfMemoryError as error:
            size = self._finish["image_size"]
            raise torch.cuda.OutOfMemoryError(
                f"{self._renderer.device} has no memory for a batch of {count} images of 3 x {size} x {size} "
                f"{self._finish['dtype']}; take a smaller batch_size ({str(error).splitlines()[0]})"
            ) from None

    def _front(self, count: int, step: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Everything of the batch at the cursor that is the same sequence of launches for every batch, but for the
        images, which are new tensors: canvases, labels, parameters.
        """
        recipe, cursor = self._renderer.recipe, self._cursor
        assert cursor is not None
        samples, numbers, labels = addresses(
            cursor, count, length=len(recipe), seed=self._seed, instances=recipe.instances, shuffle=self._shuffle
        )  # int64 [B] each
        canvases = self._renderer.draw(samples, numbers if self._fresh else samples, self._fresh)  # [B, C, S, S] uint8
        parameters = self._policy.draw(numbers, seed=self._seed, canvas_size=recipe.image_size)
        cursor[1:].add_(step)
        return canvases, labels, parameters

    def _move(self, epoch: int, first: int) -> None:
        """Set the cursor, unless the batch before has moved it there."""
        if self._cursor is None:
            self._cursor = torch.zeros(2, dtype=torch.int64, device=self._renderer.device)
        if self._place != (epoch, first):
            self._set(epoch, first)

    def _set(self, epoch: int, first: int) -> None:
        assert self._cursor is not None
        self._cursor[0].fill_(epoch)
        self._cursor[1].fill_(first)
