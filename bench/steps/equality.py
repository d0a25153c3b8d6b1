"""Canvases and batches, byte for byte the CPU's."""

from collections.abc import Iterator
from typing import Any

import torch

import gpurender as gr
from bench.steps.seen import Seen
from gpurender.util.progress import progress


def small_recipes() -> dict[str, gr.Recipe]:
    """Recipes of mixed sizes whose canvases a CPU draws by the thousand."""
    return {
        "onepfrac": gr.OnePFrac(classes=2500, instances=4, points=8192, image_size=96, fill_rate=0.0),
        "onepfrac-paper": gr.OnePFrac(classes=500, instances=20, points=20_000, image_size=224, variant="paper"),
        "fractaldb": gr.FractalDB(classes=20, points=10_000, image_size=97),
        "fractaldb-color": gr.FractalDB(classes=10, points=5000, image_size=128, draw_type="patch_color"),
        "visualatom": gr.VisualAtom(classes=100, instances=100, image_size=224, orbits=(1, 40)),
        "visualatom-paper": gr.VisualAtom(classes=100, instances=100, image_size=97, orbits=(1, 40), variant="paper"),
        "visualatom-perturbed": gr.VisualAtom(classes=10_000, image_size=128, orbits=(20, 20), perturb=0.1),
        "rcdb": gr.RCDB(classes=100, instances=100, image_size=224),
        "rcdb-paper": gr.RCDB(classes=100, instances=100, image_size=97, variant="paper"),
        "rcdb-perturbed": gr.RCDB(classes=10_000, image_size=224, perturb=0.1, seed=61),
    }


def large_recipes() -> dict[str, gr.Recipe]:
    """As they are used, and canvases so large that they are drawn in bands."""
    return {
        "onepfrac-512": gr.OnePFrac(),
        "onepfrac-1400": gr.OnePFrac(image_size=1400, fill_rate=0.0),
        "fractaldb-512": gr.FractalDB(image_size=512),
        "fractaldb-color-512": gr.FractalDB(image_size=512, draw_type="patch_color"),
        "visualatom-512": gr.VisualAtom(),
        "visualatom-1024": gr.VisualAtom(image_size=1024),
        "rcdb-512": gr.RCDB(),
    }


def equality(seen: Seen) -> None:
    """Canvases: 10,000 of each small recipe (short: 500), 256 (32) of each large one; and augmented batches, the first
    plain ones and those of the captured graph. All recipes are tried; the differences are reported together.
    """
    cases = [(name, recipe, seen.pick(4, 500, 10_000), True) for name, recipe in small_recipes().items()]
    cases += [(name, recipe, seen.pick(2, 32, 256), False) for name, recipe in large_recipes().items()]
    differ = []
    for name, recipe, count, batches in cases:
        if not seen.enough(2.0, name):
            continue
        try:
            row = {"recipe": name, "canvases": compare_canvases(name, recipe, count, seen.device)}
            if batches:
                row["batches"] = compare_batches(name, recipe, seen.device)
        except AssertionError as error:
            row = {"recipe": name, "differs": str(error)[:500]}
            differ.append(name)
        seen.row(row)
    if differ:
        raise AssertionError(f"not the CPU's: {', '.join(differ)}")


def compare_canvases(name: str, recipe: gr.Recipe, count: int, device: str) -> int:
    """Compare canvases of two epochs, with kept bitmaps and without; how many.

    Raises:
        AssertionError: naming the samples that differ.
    """
    samples = torch.arange(0, len(recipe), max(1, len(recipe) // count))[:count]
    batch_size = 512 if count > 256 else 32
    fast, plain, slow = gr.Renderer(recipe, device), gr.Renderer(recipe, device, cache_bytes=0), gr.Renderer(recipe)
    for some in progress_of(samples.split(batch_size), name):
        for epoch in (0, 1):
            wanted = slow(some, epoch)
            for way, renderer in (("as kept", fast), ("without kept bitmaps", plain)):
                same = (renderer(some, epoch).cpu() == wanted).flatten(1).all(1)
                if not bool(same.all()):
                    raise AssertionError(f"{name}, epoch {epoch}, {way}: samples {some[~same].tolist()[:8]}")
    return 2 * len(samples)


def compare_batches(name: str, recipe: gr.Recipe, device: str) -> int:
    """Compare ten batches of a loader in every type: the third is captured, the fourth the first that is replayed."""
    crop, deit = (
        gr.augment.Crop(interpolation="random", vflip=0.5),
        gr.augment.DeiT(force_color_jitter=True, re_count=2),
    )
    atoms = gr.augment.DeiT.visualatom(mixup_mode="pair", interpolation="random")
    cases = ((torch.float32, False, crop), (torch.float16, True, deit), (torch.bfloat16, True, atoms))
    count = 0
    for dtype, fresh, policy in cases:
        keywords = {"batch_size": 48, "augment": policy, "shuffle": True, "fresh": fresh, "dtype": dtype}
        feeds = (gr.DataLoader(recipe, device=where, **keywords) for where in (device, "cpu"))
        for batch, ((images, targets), (others, labels)) in enumerate(zip(*feeds, strict=False)):
            if batch == 10:
                break
            if not (torch.equal(images.cpu(), others) and torch.equal(targets.cpu(), labels)):
                raise AssertionError(f"{name}, {dtype}, batch {batch}")
            count += 1
    return count


def progress_of(items: Any, name: str) -> Iterator[Any]:
    """The items, beside a bar."""
    with progress(total=len(items), desc=name, unit="batch") as bar:
        for item in items:
            yield item
            bar.update()
