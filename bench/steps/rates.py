"""Images a second: the presets against their goals, operations, and rasters of every size."""

from collections.abc import Iterator
from typing import Any

import torch

import gpurender as gr
from bench import augmentation
from bench.steps import goals
from bench.steps.seen import Seen
from gpurender.benchmark import measure
from gpurender.benchmark.timing import spread, time_batches
from gpurender.runtime import devices

PRESETS = ("onepfrac-1k", "visualatom-1k", "fractaldb-1k")
LARGE = ("onepfrac-21k", "visualatom-21k")


def table(seen: Seen) -> None:
    """``gpurender bench`` of the presets with crop and with DeiT, and FractalDB drawn as the goal names it; each row
    beside its goal and beside what the chip could do.
    """
    seconds, batch_sizes = seen.pick(0.0, 0.5, 3.0), seen.pick((4,), (1024, 256), (1024, 256))
    names = PRESETS + seen.pick((), (), LARGE)
    for batch_size in batch_sizes:
        # The augmentation alone is launched kernel by kernel, which binds it to the host at small batches.
        stages = ("augment", "loader") if batch_size == batch_sizes[0] else ("loader",)
        for name in names:
            recipe = gr.recipe(name)
            measured(seen, name, recipe, "crop", ("raster", *stages), batch_size, seconds)
            measured(seen, name, recipe, "deit", stages, batch_size, seconds)
        recipe = gr.FractalDB(points=goals.POINTS, image_size=goals.CANVAS)
        measured(seen, "fractaldb-100k-512", recipe, "crop", ("raster",), batch_size, seconds)


def measured(
    seen: Seen, name: str, recipe: gr.Recipe, augment: str, stages: tuple[str, ...], batch_size: int, seconds: float
) -> None:
    """The rows of one ``gpurender bench``, each handed on when it is there."""
    if not seen.enough(3.0 + 2.0 * seconds * len(stages), f"{name} {augment} {batch_size}"):
        return
    gpu = torch.cuda.get_device_name()

    def add(result: dict[str, Any]) -> None:
        row = result["rows"][-1] | {"recipe": name}
        if row["stage"] == "raster":
            row["points"] = getattr(recipe, "points", None)
        seen.row(goals.judged(row, gpu))

    measure.measure(
        recipe, device=seen.device, batch_size=batch_size, seconds=seconds, augment=augment, stages=stages, on_row=add
    )


def augment(seen: Seen) -> None:
    """The table of each operation's cost, and the papers' policies on canvases that stay."""
    device = devices.resolve(seen.device)
    seconds, batch_size = seen.pick(0.0, 0.1, 0.5), seen.pick(2, 256, 256)
    for row in augmentation.policy_rows(device, batch_size, 4 * seconds):
        seen.row(row)
    for row in augmentation.operation_rows(device, batch_size, seconds):
        seen.row(row)


def sweep(seen: Seen) -> None:
    """Rasters by batch size, canvas and points; without kept bitmaps, so that everything is drawn."""
    seconds = seen.pick(0.0, 0.1, 0.7)
    for name, value, recipe, batch_size in cases(seen):
        if not seen.enough(2.0 + seconds, f"{recipe.family} {name} {value}"):
            return
        renderer = gr.Renderer(recipe, seen.device, cache_bytes=0)
        samples = measure.index_batches(recipe, renderer.device, batch_size)

        def step(renderer: gr.Renderer = renderer, samples: Iterator[torch.Tensor] = samples) -> torch.Tensor:
            numbers = next(samples)
            return renderer.render(numbers, numbers, False)

        timing = time_batches(step, seconds, renderer.device, f"{recipe.family} {name} {value}")
        seen.row(
            {
                "family": recipe.family, "what": name, "value": value, "batch_size": batch_size,
                "images_per_second": spread(timing.rates, 1), "host_ms": round(timing.host_ms, 4),
                "device_ms": round(timing.device_ms or 0.0, 4), "peak_mib": timing.peak_mib,
            }
        )  # fmt: skip


def cases(seen: Seen) -> list[tuple[str, int, gr.Recipe, int]]:
    """What varies, its value, the recipe and the batch size."""
    sizes = seen.pick((1, 2), (1, 16, 256, 2048), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048))
    sides = seen.pick((33,), (224, 512, 1024), (224, 362, 512, 768, 1024))
    points = seen.pick((1000,), (10_000, 100_000, 1_000_000), (10_000, 30_000, 100_000, 300_000, 1_000_000))
    batch = seen.pick(2, 256, 256)
    found = [("batch_size", n, recipe, n) for recipe in (gr.OnePFrac(), gr.VisualAtom()) for n in sizes]
    found += [("image_size", s, gr.OnePFrac(image_size=s, fill_rate=0.0), batch) for s in sides]
    found += [("image_size", s, gr.VisualAtom(image_size=s), batch) for s in sides]
    return found + [("points", p, gr.OnePFrac(points=p, fill_rate=0.0), batch) for p in points]
