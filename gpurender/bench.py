"""Images per second, stage by stage; the method is stated in ``bench/README.md``."""

import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from gpurender import checks
from gpurender.environment import environment
from gpurender.progress import progress
from gpurender.recipes import Recipe

IMAGE_SIZE = 224
WARM_UP = 2  # batches; the first compiles
LEAST = 5  # batches measured, however long one takes


def measure(
    recipe: Recipe | str, *, device: str = "cpu", batch_size: int = 256, seconds: float = 5.0
) -> dict[str, Any]:
    """Environment and rows of a benchmark: raster, raster + augmentation, loader.

    Args:
        recipe: whatever ``gr.recipe`` takes.
        device: where to draw.
        batch_size: images a batch, 1 to 65,536.
        seconds: measured for each stage, at least five batches.

    Returns:
        ``{"environment": …, "rows": […]}`` as DESIGN section 3 lays it out; times of batches as median, 5th and 95th
        percentile.
    """
    from gpurender import DataLoader, Renderer
    from gpurender.augment import Crop

    batch_size = checks.integer("batch_size", batch_size, 1, 65_536)
    seconds = checks.real("seconds", seconds, 0.0, 86_400.0)
    renderer = Renderer(recipe, device)
    loader = DataLoader(
        renderer.recipe, batch_size=batch_size, image_size=IMAGE_SIZE, augment=Crop(), shuffle=True, device=device
    )
    policy, canvas = Crop(), renderer.recipe.image_size

    def augmented(samples: np.ndarray) -> torch.Tensor:
        return policy.apply(renderer(samples), policy.draw(samples, canvas_size=canvas), image_size=IMAGE_SIZE)

    batches, images = _batches(renderer.recipe, batch_size), _endless(loader)
    stages: dict[str, tuple[Callable[[], torch.Tensor], int, str]] = {
        "raster": (lambda: renderer(next(batches)), canvas, "uint8"),
        "augment": (lambda: augmented(next(batches)), IMAGE_SIZE, "float32"),
        "loader": (lambda: next(images)[0], IMAGE_SIZE, "float32"),
    }
    rows = []
    for stage, (step, size, dtype) in stages.items():
        times, counts = _time(step, seconds, renderer.device, stage)
        rates = np.array(counts) / np.array(times)
        median, p5, p95 = np.percentile(rates, [50, 5, 95]).round(1).tolist()
        rows.append(
            {
                "recipe": renderer.recipe.family if isinstance(recipe, Recipe) else str(recipe),
                "stage": stage,
                "device": str(renderer.device),
                "batch_size": batch_size,
                "image_size": size,
                "dtype": dtype,
                "images_per_second": {"median": median, "p5": p5, "p95": p95},
                "host_ms": round(1e3 * float(np.median(times)), 3),
                "device_ms": None,  # on a CPU the host is the device
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
                "batches": len(times),
            }
        )
    return {"environment": environment(), "rows": rows}


def _batches(recipe: Recipe, batch_size: int) -> Iterator[np.ndarray]:
    """Endless batches of sample numbers in shuffled order, so that no two batches are alike."""
    from gpurender.order import permuted

    position = 0
    while True:
        places = (np.arange(batch_size) + position) % len(recipe)
        yield permuted(places, len(recipe), seed=0, epoch=0)
        position += batch_size


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def _time(
    step: Callable[[], torch.Tensor], seconds: float, device: torch.device, stage: str
) -> tuple[list[float], list[int]]:
    """Seconds and images of each batch, after the warm-up."""
    for _ in range(WARM_UP):
        step()
    times: list[float] = []
    counts: list[int] = []
    start = time.perf_counter()
    with progress(
        total=round(seconds, 1), desc=stage, unit="s", bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
    ) as bar:
        while len(times) < LEAST or time.perf_counter() - start < seconds:
            begin = time.perf_counter()
            images = step()
            times.append(time.perf_counter() - begin)
            counts.append(len(images))
            bar.n = min(bar.total, time.perf_counter() - start)
            bar.refresh()
    return times, counts


def table(result: dict[str, Any]) -> str:
    """The rows for people."""
    here = result["environment"]
    lines = [
        f"{here['gpu'] or here['cpu']}, {here['cores']} cores, {here['threads']} threads, "
        f"torch {here['torch']}, numba {here['numba']}",
        f"{'stage':<9}{'images/s':>10}{'p5':>10}{'p95':>10}{'ms/batch':>10}{'peak MiB':>10}",
    ]
    for row in result["rows"]:
        rate = row["images_per_second"]
        rates = "".join(f"{rate[name]:>10.0f}" for name in ("median", "p5", "p95"))
        lines.append(f"{row['stage']:<9}{rates}{row['host_ms']:>10.1f}{row['peak_mib']:>10}")
    return "\n".join(lines)
