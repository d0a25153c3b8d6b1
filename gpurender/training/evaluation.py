"""A model on real images: its accuracy, and the features that its blocks make of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from gpurender.tasks import Samples
from gpurender.util import checks
from gpurender.util.progress import progress


class _Shown(Dataset):
    """Samples, transformed."""

    def __init__(self, samples: Samples, transform: Any) -> None:
        self._samples, self._transform = samples, transform

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._transform(self._samples[index][0])


def batches(samples: Samples, transform: Any, size: int, workers: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Yield the images in order, float32 ``[B, 3, S, S]``."""
    loader = DataLoader(_Shown(samples, transform), batch_size=size, num_workers=workers)
    with progress(total=len(samples), desc="evaluate", unit="image") as bar:
        for images in loader:
            yield images.to(device)
            bar.update(len(images))


@torch.inference_mode()
def accuracy(
    model: nn.Module, samples: Samples, transform: Any, batch_size: int, workers: int, device: torch.device
) -> float:
    """Return the share of images whose largest output is their label's, 0 to 1; the model is left in eval mode."""
    model.eval()
    shown = batches(samples, transform, batch_size, workers, device)
    found = torch.cat([model(images).argmax(1).cpu() for images in shown])  # outputs of 21,000 classes are gigabytes
    return float((found.numpy() == samples.labels).mean())


@torch.inference_mode()
def outputs(
    model: nn.Module, samples: Samples, transform: Any, batch_size: int, workers: int, device: torch.device
) -> np.ndarray:
    """Return what the model's own head makes of the images, float32 ``[N, classes]``; it is left in eval mode."""
    model.eval()
    found = [model(images).float().cpu() for images in batches(samples, transform, batch_size, workers, device)]
    return torch.cat(found).numpy()


@torch.inference_mode()
def features(
    model: nn.Module, samples: Samples, transform: Any, layers: Sequence[int], batch_size: int, workers: int,
    device: torch.device,
) -> dict[int, np.ndarray]:  # fmt: skip
    """Return the features of the images after some of the model's blocks, float32 ``[N, C]`` by the block's number.

    Features are means over positions (for a transformer over its patch tokens, as timm's
    ``forward_intermediates`` gives them).

    Args:
        layers: numbers of blocks, from 1; of :func:`depth`.
    """
    model.eval()
    parts: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for images in batches(samples, transform, batch_size, workers, device):
        maps = model.forward_intermediates(  # type: ignore[operator]
            images, indices=[layer - 1 for layer in layers], intermediates_only=True, output_fmt="NCHW"
        )
        for layer, found in zip(layers, maps, strict=True):
            parts[layer].append(found.float().mean((2, 3)).cpu())
    return {layer: torch.cat(found).numpy() for layer, found in parts.items()}


def depth(model: nn.Module, image_size: int) -> int:
    """Return from how many blocks a model gives features, for images of a side in pixels.

    Raises:
        ValueError: timm's model gives no intermediate features.
    """
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(f"model must have timm's forward_intermediates, and {type(model).__name__} has none")
    images = torch.zeros(1, 3, image_size, image_size, dtype=torch.float32, device="cpu")
    with torch.inference_mode():
        found = model.eval().forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
    return len(found)


def check_layers(layers: Any, most: int) -> list[int]:
    """Return the numbers of blocks that a sequence names, ascending; of ``None`` all.

    Raises:
        TypeError, ValueError: there is none, or one is not an integer from 1 to ``most``.
    """
    if layers is None:
        return list(range(1, most + 1))
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise ValueError(f"layers must be numbers of blocks, from 1 to {most}, got {checks.shown(layers)}")
    return sorted({checks.integer("layers", layer, 1, most) for layer in layers})
