"""Rotation: the task of experts that needs no labels: by which quarter turns was an image rotated?

(Gidaris, Singh, Komodakis, ICLR 2018; Neural Data Server, equations 4 and 5.)
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gpurender.tasks import Samples
from gpurender.training.evaluation import batches
from gpurender.training.loop import Batch, Feed

TURNS = 4


def turned(images: torch.Tensor) -> Batch:
    """Return images in each of the four rotations, and by how many quarter turns each one was rotated.

    Args:
        images: ``[B, C, S, S]``.

    Returns:
        ``[4 B, C, S, S]``, all images for each rotation, and int64 ``[4 B]``.
    """
    found = torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(TURNS)])
    turns = torch.arange(TURNS, dtype=torch.int64, device=images.device).repeat_interleave(len(images))
    return found, turns


class Turned:
    """The feed of a training on rotations, made of another one.

    Args:
        feed: whose images are rotated; each of its batches becomes one of four times the size.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def batches(self) -> Iterator[Batch]:
        """Yield rotated images, float32 ``[4 B, 3, S, S]``, and their quarter turns, int64 ``[4 B]``."""
        for images, _ in self._feed.batches():
            yield turned(images)

    def state_dict(self) -> dict[str, Any]:
        """Return the place."""
        return self._feed.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the place."""
        self._feed.load_state_dict(state)


@torch.inference_mode()
def rotation_accuracy(
    model: nn.Module, samples: Samples, transform: Any, batch_size: int, device: torch.device
) -> float:
    """Return the share of right answers over all images in all four rotations, 0 to 1 (equation 5).

    Args:
        model: of four outputs; it is left in eval mode.
        samples: their labels are not used.
        transform: of a PIL image, to a square.
        batch_size: images of a forward pass, after rotation; a multiple of 4.
        device: of the model.
    """
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    for images in batches(samples, transform, batch_size // TURNS, 0, device):
        rotated, turns = turned(images)
        right += (model(rotated).argmax(1) == turns).sum()
    return int(right) / (TURNS * len(samples))
