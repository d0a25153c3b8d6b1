"""The whole GPU path on a machine without one: run by test_gpu_path.py, as Triton's interpreter wants its own process.

CUDA C is built by g++, Triton is interpreted, streams are left out and graphs are run again; the rest is the library.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

import gpurender as gr
from gpurender.loading import cuda_graphs
from gpurender.loading.data_loader import DataLoader
from gpurender.loading.prefetch import Prefetching
from gpurender.recipes.exfractaldb import TETRAHEDRON
from gpurender.runtime import cuda
from tests.golden import DIVERGENT, PICTURE, TRIANGLE
from tests.support.emulation import ADA, HOPPER, TINY, emulated_gpu, library
from tests.support.replayed_graphs import Replayed

GROWING = [[[1.3 if i % 4 == k else 0.2 for i in range(9)] + [0.5, 0.1, -0.2]] * 2 for k in range(2)]
RECIPES = {
    "onepfrac": gr.OnePFrac(classes=30, base=TRIANGLE, points=500, image_size=48),
    "onepfrac-paper": gr.OnePFrac(classes=9, instances=5, base=TRIANGLE, points=500, image_size=33, variant="paper"),
    "fractaldb": gr.FractalDB(categories=[TRIANGLE, DIVERGENT], points=600, image_size=40),
    "fractaldb-paper": gr.FractalDB(categories=[TRIANGLE, DIVERGENT], points=600, image_size=40, variant="paper"),
    "fractaldb-color": gr.FractalDB(categories=[TRIANGLE], points=600, image_size=40, draw_type="patch_color"),
    "exfractaldb": gr.ExFractalDB(categories=[TETRAHEDRON, *GROWING], points=600, image_size=40, views=3),
    "3d-ofdb": gr.ExFractalDB(
        categories=[TETRAHEDRON] * 40, weights="one", viewpoints="drawn", points=600, image_size=33
    ),
    "visualatom": gr.VisualAtom(classes=9, instances=20, image_size=48, orbits=(1, 9), quantization=(20, 60)),
    "visualatom-paper": gr.VisualAtom(
        classes=9, instances=20, image_size=48, orbits=(1, 9), quantization=(20, 60), variant="paper"
    ),
    "ofdb": gr.OFDB(categories=[TRIANGLE, DIVERGENT], instances=15, points=600, image_size=40),
}
FRESH = {  # what these draw anew with fresh=True depends on the image
    "onepfrac-redraw": gr.OnePFrac(classes=20, base=TRIANGLE, points=500, image_size=48, delta=0.3, redraw=True),
    "visualatom-perturbed": gr.VisualAtom(
        classes=180, image_size=48, orbits=(9, 9), quantization=(20, 60), perturb=0.1, nucleus=(0, 0)
    ),
    "rcdb": gr.RCDB(classes=9, instances=20, image_size=48, polygons=(1, 9)),
    "rcdb-perturbed": gr.RCDB(classes=180, image_size=48, polygons=(9, 9), radius=(5, 9), perturb=0.1, centre=(0, 0)),
}
RECIPES |= FRESH
RECIPES |= {
    "long tail": gr.OnePFrac(
        classes=9, instances=8, base=TRIANGLE, points=500, image_size=48, class_prior=4.0, label_noise=0.4
    ),
    "confused": gr.VisualAtom(
        classes=2, instances=9, image_size=48, orbits=(1, 9), quantization=(20, 60), label_noise=[[0.5, 0.5], [0, 1]]
    ),
}
RECIPES["mixture"] = gr.Mixture({RECIPES["long tail"]: 1, RECIPES["fractaldb-color"]: 2, RECIPES["visualatom"]: 0.5})
RECIPES |= {
    "colorfractal": gr.ColorFractal(classes=9, instances=5, points=500, image_size=40),
    "colorfractal-grey": gr.ColorFractal(
        classes=9, instances=5, points=500, image_size=33, color=False, background=False, jitter="svd"
    ),
    "multifractal": gr.MultiFractal(classes=9, instances=5, points=300, image_size=40, jitter="sval"),
    "moire": gr.Moire(classes=90, instances=2, image_size=40),
    "noise": gr.Noise(classes=90, instances=2, image_size=40),
    "noise-uniform": gr.Noise(classes=90, image_size=33, distribution="uniform"),
    "singleimage": gr.SingleImage(PICTURE, classes=90, image_size=40),
    "singleimage-elastic": gr.SingleImage(PICTURE, classes=90, image_size=33, edges=None, transform="elastic"),
}
STUDIES = [
    ("mixture", {"shuffle": True, "augment": gr.augment.DeiT.onepfrac(), "fresh": True}),
    ("mixture", {"shuffle": True, "augment": gr.augment.Crop(), "rank": 1, "world_size": 2}),
    ("long tail", {"shuffle": True, "augment": gr.augment.Crop(), "fresh": True}),
    ("confused", {"sampler": [3, 1, 1, 17, 5, 0, 2, 2, 9, 9, 9, 9, 4, 6, 8, 7, 10, 11, 12, 13, 14, 15, 16, 0] * 3}),
    (
        "visualatom",
        {"batch_sampler": [[5, 5, 7], [9], [100, 101, 102, 3]] * 8, "augment": gr.augment.DeiT(), "fresh": True},
    ),
]
LOADERS = [
    {"shuffle": True, "augment": gr.augment.Crop(interpolation="random", vflip=0.3), "seed": 7},
    {"shuffle": True, "fresh": True, "augment": gr.augment.Crop(), "dtype": torch.bfloat16},
    {"dtype": torch.float16, "memory_format": torch.channels_last, "rank": 1, "world_size": 3},
]
DEIT = [
    {"shuffle": True, "augment": gr.augment.DeiT.onepfrac(), "seed": 3},
    {"dtype": torch.float16, "augment": gr.augment.DeiT.visualatom(mixup_mode="pair", re_count=(1, 3))},
    {
        "augment": gr.augment.DeiT(auto_augment="3a", mixup_mode="elem", re_mode="rand", interpolation="random"),
        "memory_format": torch.channels_last, "fresh": True,
    },
    {"augment": gr.augment.TwoViews(gr.augment.DeiT.resnet(auto_augment="v0"), gr.augment.Crop())},
]  # fmt: skip


def random_recipe(rng):
    """Any recipe whose images are drawn soon: every family and variant, odd sizes, few or many maps and vertices."""
    size = int(rng.choice([17, 33, 50, 97, 224, 362, 512, 1000], p=[0.2, 0.2, 0.2, 0.15, 0.1, 0.08, 0.05, 0.02]))
    common = {"image_size": size, "seed": int(rng.integers(2**63)), "variant": str(rng.choice(["released", "paper"]))}
    if rng.random() < 0.2:
        maps = rng.uniform(-1.1, 1.1, (int(rng.integers(1, 10)), 12)) * rng.choice([0.7, 1.0, 9.0], p=[0.6, 0.3, 0.1])
        chances = rng.random((len(maps), 1)) * (rng.random((len(maps), 1)) < 0.8) + 1e-4
        return gr.ExFractalDB(
            categories=[np.hstack([maps, chances / chances.sum()])] * 3, views=int(rng.integers(1, 13)),
            points=int(rng.integers(2, 9000)), viewpoints=str(rng.choice(["random", "fixed", "drawn"])), **common,
        )  # fmt: skip
    if rng.random() < 0.15:
        most = int(rng.choice([5, 40, 300]))
        perturb = {"perturb": float(rng.uniform(0.001, 0.5))} if rng.random() < 0.5 else {}
        noise, centre = (0.0, float(rng.uniform(0, 8))), (-2.0, 2.0)
        return gr.RCDB(
            classes=5, instances=5, polygons=(1, 12), vertices=(3, most), noise_level=noise, centre=centre,
            **perturb, **common,
        )  # fmt: skip
    if rng.random() < 0.4:
        most = int(rng.choice([5, 40, 300]))
        return gr.VisualAtom(
            classes=5, instances=5, orbits=(1, 12), quantization=(3, most), frequencies=(0, int(rng.integers(1, 40))),
            noise_level=(0.0, float(rng.uniform(0, 9))), nucleus=(-2.0, 2.0),
            perturb=float(rng.uniform(0.001, 0.5)) if rng.random() < 0.3 else None, **common,
        )  # fmt: skip
    maps = rng.uniform(-1.1, 1.1, (int(rng.integers(1, 10)), 6)) * rng.choice([0.7, 1.0, 9.0], p=[0.6, 0.3, 0.1])
    chances = rng.random((len(maps), 1)) * (rng.random((len(maps), 1)) < 0.8) + 1e-4
    style = {
        "points": int(rng.integers(1, 9000)),
        "draw_type": str(rng.choice(["patch_gray", "patch_color", "point_gray", "point_color"])),
        "mask_mode": str(rng.choice(["random", "fill"])),
    }
    if rng.random() < 0.5:
        return gr.OnePFrac(classes=5, instances=3, base=np.hstack([maps, chances]), fill_rate=0.0, **style, **common)
    return gr.FractalDB(categories=[np.hstack([maps, chances / chances.sum()])], **style, **common)


def compare_random_recipes(seed):
    """Twenty random recipes by both paths."""
    rng, drawn = np.random.default_rng(seed), 0
    while drawn < 20:
        recipe = random_recipe(rng)
        samples = rng.integers(0, len(recipe), 2)
        try:
            wanted = gr.Renderer(recipe)(samples, int(drawn % 2))
        except ValueError:  # a speck that no attempt lights
            continue
        with emulated_gpu([HOPPER, ADA, TINY][drawn % 3]):
            found = gr.Renderer(recipe)(samples, int(drawn % 2))
        assert torch.equal(found, wanted), recipe.to_json()
        drawn += 1
    print(drawn, "random recipes ok", flush=True)


def captured(calls, device, pool):
    """A capture as on a GPU: it runs nothing, so the cursor stays; here the launches take it along."""
    batches = calls.__closure__
    cursor = next(cell.cell_contents for cell in batches if hasattr(cell.cell_contents, "_cursor"))._cursor
    if cursor is None:  # the samples are the host's
        tensors = calls()
        return Replayed(calls, tensors), tensors
    before = cursor.clone()
    tensors = calls()
    cursor.copy_(before)
    return Replayed(calls, tensors), tensors


def batches(recipe, keywords, count):
    """Some batches of an epoch and the state after them, then of the epoch that follows a resume."""
    if "batch_sampler" not in keywords:
        keywords = {"batch_size": 4, **keywords}
    feed = gr.DataLoader(recipe, image_size=24, device="cpu", **keywords)
    drawn = [batch for batch, _ in zip(feed, range(count), strict=False)]
    other = gr.DataLoader(recipe, image_size=24, device="cpu", **keywords)
    other.load_state_dict(feed.state_dict())
    return drawn + [batch for batch, _ in zip(other, range(2), strict=False)]


def same(found, wanted):
    """Whether all images and targets are equal."""
    return len(found) == len(wanted) and all(
        torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
        for one, other in zip(found, wanted, strict=True)
        for a, b in zip(flat(one), flat(other), strict=True)
    )


def flat(batch):
    """Images, of each view, and targets."""
    images, targets = batch
    return [*(images if isinstance(images, list) else [images]), targets]


def compare_loaders(name, keywords, count=5):
    """Batches of a recipe, a resume included, by both paths."""
    wanted = batches(RECIPES[name], keywords, count)
    with emulated_gpu(HOPPER) as gpu:
        assert same(batches(RECIPES[name], keywords, count), wanted), (name, keywords)
    assert gpu.launches, "the GPU path was not taken"
    kernels = {launch[1] for launch in gpu.launches}
    views = isinstance(keywords.get("augment"), gr.augment.TwoViews)
    bits = RECIPES[name].channels == 1 and RECIPES[name].family in ("onepfrac", "fractaldb", "ofdb") and not views
    assert ("resized_crop_bits" in kernels) == bits, (name, kernels)
    assert not bits or "chaos_game_paint" not in kernels, (name, kernels)
    print(name, "loader ok", flush=True)


def compare_renderers(name):
    """Canvases and labels of a recipe by both paths, with kept bitmaps and without."""
    recipe, kernels = RECIPES[name], []
    samples = list(range(0, len(recipe), max(1, len(recipe) // 20)))
    wanted = gr.Renderer(recipe)(samples), gr.Renderer(recipe)(samples, epoch=2), gr.Renderer(recipe).labels(samples)
    for cache_bytes in (0, 1 << 20):
        with emulated_gpu(TINY) as gpu:
            renderer = gr.Renderer(recipe, cache_bytes=cache_bytes)
            found = renderer(samples), renderer(samples, epoch=2), renderer.labels(samples)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), (name, cache_bytes)
        kernels.append({launch[1] for launch in gpu.launches})
    finite = name in ("onepfrac", "onepfrac-redraw", "fractaldb", "ofdb")
    assert ("chaos_game_paint" in kernels[1]) == finite, (name, kernels)
    assert "chaos_game_paint" not in kernels[0]
    print(name, "renderer ok", flush=True)


def jobs():
    """Everything to compare, as functions and their arguments."""
    for number, name in enumerate(list(RECIPES)[:10]):
        yield from ((compare_loaders, name, keywords) for keywords in LOADERS[number % 3 : number % 3 + 2])
        yield compare_renderers, name
    for name in FRESH:
        yield from ((compare_loaders, name, LOADERS[1]), (compare_renderers, name))
    names = ("onepfrac", "visualatom", "fractaldb-color", "onepfrac-paper")
    yield from ((compare_loaders, name, keywords) for name, keywords in zip(names, DEIT, strict=True))
    for name in ("colorfractal", "colorfractal-grey", "multifractal", "noise-uniform", "singleimage-elastic"):
        yield compare_renderers, name
    for name in ("noise", "singleimage"):
        yield compare_renderers, name
        yield compare_loaders, name, LOADERS[1]
    yield compare_loaders, "colorfractal", LOADERS[1]
    yield compare_loaders, "multifractal", DEIT[0] | {"fresh": True}, 3
    yield from ((compare_loaders, name, keywords, 9) for name, keywords in STUDIES)
    yield from ((compare_random_recipes, 2026 + i) for i in range(3))


def main():
    """Compare the two paths, two jobs at a time."""
    cuda_graphs.capture = captured
    torch.cuda.graph_pool_handle = lambda: None
    DataLoader._prefetching = lambda self: Prefetching(None, 0, 0)
    for operation in cuda.OPERATIONS:
        library(operation)  # built before there are two processes
    every = list(jobs())
    with ProcessPoolExecutor(2) as pool:
        for done in [pool.submit(*job) for job in every]:
            done.result()
    print(f"{len(every)} comparisons")


if __name__ == "__main__":
    main()
