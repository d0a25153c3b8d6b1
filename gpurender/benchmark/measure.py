"""Images per second, stage by stage; the method is stated in ``bench/README.md``."""

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from gpurender.augment import Policy
from gpurender.augment.named import policy as named
from gpurender.benchmark import training
from gpurender.benchmark.timing import Timing, paired_percent, peak_mib, spread, time_batches
from gpurender.recipes.base import Recipe, RecipeLike, is_json
from gpurender.runtime import devices
from gpurender.training.loss import loss_of
from gpurender.util import checks
from gpurender.util.environment import environment

IMAGE_SIZE = 224  # pixels
STAGES = ("raster", "augment", "loader")
KEPT_MOST = 4096  # images of a loader that are kept before it is timed: a whole epoch of onepfrac-1k
KEPT_BATCHES = 4  # whose images are kept before the raster of kept bitmaps is timed: a CPU keeps what was rendered


def measure(
    recipe: RecipeLike,
    *,
    device: Any = None,
    batch_size: int = 256,
    seconds: float = 5.0,
    augment: str = "crop",
    stages: Sequence[str] = STAGES,
    model: str | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Measure the stages of a recipe; return the environment and the rows of the benchmark.

    Args:
        recipe: any argument of ``gr.recipe``.
        device: where to render; ``None``: torch's current GPU, or the CPU on a machine without one.
        batch_size: images per batch, 1 to 65,536.
        seconds: measuring time per row; at least five batches (on a GPU, five windows of batches) are measured.
        augment: name of the policy (:mod:`gpurender.augment.named`).
        stages: any of ``"raster"``, ``"augment"`` (raster, rendered anew, + augmentation) and ``"loader"``.
        model: timm's name of a model to train with the loader, a row of stage ``"train"``; ``None``: no such row.
        on_row: called with the result so far after each row that is added to it.

    Returns:
        ``{"environment": …, "rows": […]}``; ``bench/README.md`` explains the fields. A recipe whose bitmaps are kept
        (``Renderer``'s ``cache_bytes``) has two rows of raster and of loader, with ``"cached"`` true and false: the
        images of the dataset itself again and again (``fresh=False``), and new ones. The former have
        ``"kept_bytes"``, the bytes of the bitmaps that were kept when the clock started.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
        RuntimeError: a GPU without the packages that compile its kernels, or a model without timm.
    """
    from gpurender.renderer import Renderer

    where = devices.resolve(device)
    batch_size = checks.integer("batch_size", batch_size, 1, 65_536)
    seconds = checks.real("seconds", seconds, 0.0, 86_400.0)
    policy = named(augment)
    for stage in stages:
        checks.choice("stages", stage, STAGES)
    if model is not None:
        training.require_timm(model)
    renderer = Renderer(recipe, where)
    is_name = (isinstance(recipe, str) and not is_json(recipe)) or isinstance(recipe, os.PathLike)
    name = str(recipe) if is_name else renderer.recipe.family
    common = {"recipe": name, "device": str(where), "batch_size": batch_size}
    result: dict[str, Any] = {"environment": environment(where), "rows": []}

    def add(row: dict[str, Any]) -> None:
        result["rows"].append(row | ({} if row["stage"] == "raster" else {"augment": augment}))
        if on_row is not None:
            on_row(result)

    for stage, step, canvas, dtype, more in _steps(renderer, policy, stages, batch_size):
        add(_row(common, stage, canvas, dtype, time_batches(step, seconds, where, stage), more))
    if model is not None:
        add(train(renderer.recipe, model, policy, device=where, batch_size=batch_size, seconds=seconds, name=name))
    return result


Step = tuple[str, Callable[[], torch.Tensor], int, str, dict[str, Any]]


def _steps(renderer: Any, policy: Policy, stages: Sequence[str], batch_size: int) -> Iterator[Step]:
    """Yield what is timed: stage, function for one batch, side and dtype of its images, more fields of the row."""
    from gpurender.loading.data_loader import DataLoader
    from gpurender.renderer import Renderer

    recipe, device, dtype = renderer.recipe, renderer.device, _dtype(renderer.device)
    type_name = str(dtype).removeprefix("torch.")
    samples = index_batches(recipe, device, batch_size)

    def raster(renderer: Any, indices: torch.Tensor) -> torch.Tensor:
        return renderer.render(indices, indices, False)

    def augmented() -> torch.Tensor:
        indices = next(samples)
        drawn = policy.draw(indices, canvas_size=recipe.image_size, image_size=IMAGE_SIZE)
        return policy.apply(bare.render(indices, indices, False), drawn, image_size=IMAGE_SIZE, dtype=dtype)

    cached = keeps_bitmaps(renderer)
    bare = Renderer(recipe, device, cache_bytes=0) if cached else renderer
    drawn = {"cached": False} if cached or devices.on_gpu(device) else {}
    if "raster" in stages:
        if cached:
            some = list(itertools.islice(samples, KEPT_BATCHES))
            for indices in some:
                renderer.render(indices, indices, False)
            again = itertools.cycle(some)
            more = {"cached": True, "kept_bytes": renderer.kept_bytes}
            yield "raster", lambda: raster(renderer, next(again)), recipe.image_size, "uint8", more
        yield "raster", lambda: raster(bare, next(samples)), recipe.image_size, "uint8", drawn
    if "augment" in stages:
        yield "augment", augmented, IMAGE_SIZE, type_name, {}
    if "loader" in stages:
        for fresh in (False, True)[0 if cached else 1 :]:
            loader = DataLoader(
                recipe, batch_size=batch_size, image_size=IMAGE_SIZE, augment=policy, shuffle=True, device=device,
                dtype=dtype, fresh=fresh,
            )  # fmt: skip
            images, more = endless(loader), drawn
            if not fresh:
                for _ in range(-(-min(KEPT_MOST, len(recipe)) // batch_size)):
                    next(images)
                more = {"cached": True, "kept_bytes": loader.kept_bytes}
            yield "loader", functools.partial(_images, images), IMAGE_SIZE, type_name, more


def _images(batches: Iterator[Any]) -> torch.Tensor:
    """Return the images of the next batch."""
    images: torch.Tensor = next(batches)[0]
    return images


def _dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of images that training uses on a device."""
    return torch.float16 if devices.on_gpu(device) else torch.float32


def keeps_bitmaps(renderer: Any) -> bool:
    """Return whether a renderer uses kept bitmaps; one sample is rendered to find out."""
    indices = torch.zeros(1, dtype=torch.int64, device=renderer.device)
    renderer.render(indices, indices, False)
    return bool(renderer.kept_bytes)


def index_batches(recipe: Recipe, device: torch.device, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield endless batches of indices, int64 ``[B]`` on the device: shuffled epochs, so that no two are alike."""
    from gpurender.kernels.shuffle import addresses

    length = len(recipe)
    cursor = torch.zeros(2, dtype=torch.int64, device=device)  # epoch, position
    for epoch in itertools.count():
        cursor[0].fill_(epoch)
        cursor[1].fill_(0)
        for _ in range(0, length, batch_size):
            yield addresses(
                cursor, batch_size, length=length, seed=0, instances=recipe.instances, shuffle=True
            )[0]  # fmt: skip
            cursor[1:].add_(batch_size)


def endless(loader: Any) -> Iterator[Any]:
    """Yield the batches of one epoch after another, without end."""
    while True:
        yield from loader


def _row(
    common: dict[str, Any], stage: str, image_size: int, dtype: str, timing: Timing, more: dict[str, Any]
) -> dict[str, Any]:
    return {
        **common,
        "stage": stage,
        "image_size": image_size,
        "dtype": dtype,
        "images_per_second": spread(timing.rates, 1),
        "host_ms": round(timing.host_ms, 4),
        "device_ms": timing.device_ms if timing.device_ms is None else round(timing.device_ms, 4),
        "peak_mib": timing.peak_mib,
        "batches": timing.batches,
        **more,
    }


def train(
    recipe: Recipe, model: str, policy: Policy, *, device: torch.device, batch_size: int, seconds: float, name: str,
    prefetch_factor: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure a training step with the loader against the same step on one fixed batch; return the row ``train``.

    Args:
        recipe: rendered and augmented to 224 pixels, shuffled; an incomplete last batch is left out, because its step
            would be shorter than the step it is compared with.
        policy: the augmentation.
        model: timm's name of the model.
        device, batch_size, seconds: as for :func:`measure`; each of the two loops is measured for ``seconds``.
        name: name of the recipe in the row.
        prefetch_factor: the loader's ``prefetch_factor``.

    Returns:
        The row. ``overhead_percent`` compares the medians; ``overhead_interval_percent`` is the 95 % confidence
        interval of :func:`gpurender.benchmark.timing.paired_percent`, and ``within_noise`` says that zero lies in it.
    """
    from gpurender.loading.data_loader import DataLoader

    loader = DataLoader(
        recipe, batch_size=batch_size, image_size=IMAGE_SIZE, augment=policy, shuffle=True, device=device,
        dtype=torch.bfloat16, prefetch_factor=prefetch_factor, drop_last=len(recipe) >= batch_size,
    )  # fmt: skip
    feed = endless(loader)
    first = next(feed)
    trainer = training.Trainer(
        model, classes=recipe.classes, image_size=IMAGE_SIZE, device=device, loss=loss_of(recipe)
    )
    if devices.on_gpu(device):
        torch.cuda.reset_peak_memory_stats(device)
    times = training.step_times(trainer, {"cached": itertools.repeat(first), "loader": feed}, device, seconds)
    step, cached = float(np.median(times["loader"])), float(np.median(times["cached"]))
    low, high = paired_percent(times["loader"], times["cached"])
    return {
        "recipe": name,
        "device": str(device),
        "batch_size": batch_size,
        "stage": "train",
        "image_size": IMAGE_SIZE,
        "dtype": "bfloat16",
        "images_per_second": spread([1e3 * len(first[0]) / ms for ms in times["loader"]], 1),
        "host_ms": None,  # not distinguished from the model's
        "device_ms": None,
        "peak_mib": peak_mib(device),
        "model": model,
        "step_ms": spread(times["loader"], 3),
        "cached_step_ms": spread(times["cached"], 3),
        "overhead_percent": round(100 * (step / cached - 1), 2),
        "overhead_interval_percent": [round(low, 2), round(high, 2)],
        "within_noise": low <= 0 <= high,
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as a table in plain text."""
    return "\n".join([heading(result["environment"]), *(line(row) for row in result["rows"])])


def heading(here: dict[str, Any]) -> str:
    """Return the first two lines of a table: the machine, and the heads of the columns."""
    where = f"{here['cpu']}, {here['cores']} cores, {here['threads']} threads, numba {here['numba']}"
    if here["gpu"]:
        where = f"{here['gpu']}, driver {here['driver']}, triton {here['triton']}, cupy {here['cupy']}"
    columns = f"{'stage':<22}{'images/s':>11}{'p5':>11}{'p95':>11}{'host ms':>10}{'device ms':>11}{'peak MiB':>10}"
    return f"{where}, torch {here['torch']}\n{columns}"


def line(row: dict[str, Any]) -> str:
    """Return a row of the table; a training step has a second line."""
    rates = "".join(f"{row['images_per_second'][name]:>11.0f}" for name in ("median", "p5", "p95"))
    times = f"{_number(row['host_ms']):>10}{_number(row['device_ms']):>11}"
    said = f"{stage_name(row):<22}{rates}{times}{row['peak_mib']:>10}"
    if row["stage"] == "train":
        step, cached = row["step_ms"]["median"], row["cached_step_ms"]["median"]
        said += f"\n  {row['model']}: {step:.2f} ms a step, {cached:.2f} on one kept batch: {overhead(row)}"
    return said


def overhead(row: dict[str, Any]) -> str:
    """Return the loader's cost per training step as text, with whether the cost is within noise."""
    low, high = row["overhead_interval_percent"]
    noise = "within noise, " if row["within_noise"] else ""
    return f"{row['overhead_percent']:+.1f} % ({noise}{low:+.1f} to {high:+.1f} %)"


def stage_name(row: dict[str, Any]) -> str:
    """Return the stage of a row, with its policy unless it is crop, and whether bitmaps were kept."""
    of = f", {row['augment']}" if row.get("augment", "crop") != "crop" else ""
    return row["stage"] + of + (", kept" if row.get("cached") else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
