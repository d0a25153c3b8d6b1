"""The whole GPU path on a machine without one: run by test_gpu_path.py, as Triton's interpreter wants its own process.

CUDA C is built by g++, Triton is interpreted, streams are left out and graphs are run again; the rest is the library.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import torch  # noqa: E402
from emulation import HOPPER, TINY, emulated_gpu  # noqa: E402
from golden import DIVERGENT, TRIANGLE  # noqa: E402
from test_graphs import Replayed  # noqa: E402

import gpurender as gr  # noqa: E402
from gpurender import graphs  # noqa: E402
from gpurender.loader import DataLoader  # noqa: E402

RECIPES = {
    "onepfrac": gr.OnePFrac(classes=30, base=TRIANGLE, points=500, image_size=48),
    "onepfrac-paper": gr.OnePFrac(classes=9, instances=5, base=TRIANGLE, points=500, image_size=33, variant="paper"),
    "fractaldb": gr.FractalDB(categories=[TRIANGLE, DIVERGENT], points=600, image_size=40),
    "fractaldb-paper": gr.FractalDB(categories=[TRIANGLE, DIVERGENT], points=600, image_size=40, variant="paper"),
    "fractaldb-color": gr.FractalDB(categories=[TRIANGLE], points=600, image_size=40, draw_type="patch_color"),
    "visualatom": gr.VisualAtom(classes=9, instances=20, image_size=48, orbits=(1, 9), quantization=(20, 60)),
    "visualatom-paper": gr.VisualAtom(
        classes=9, instances=20, image_size=48, orbits=(1, 9), quantization=(20, 60), variant="paper"
    ),
}
LOADERS = [
    {"shuffle": True, "augment": gr.augment.Crop(interpolation="random", vflip=0.3), "seed": 7},
    {"shuffle": True, "fresh": True, "augment": gr.augment.Crop(), "dtype": torch.bfloat16},
    {"dtype": torch.float16, "memory_format": torch.channels_last, "rank": 1, "world_size": 3},
]


def captured(calls, device):
    """A capture as on a GPU: it runs nothing, so the cursor stays; here the launches take it along."""
    batches = calls.__closure__
    cursor = next(cell.cell_contents for cell in batches if hasattr(cell.cell_contents, "_cursor"))._cursor
    before = cursor.clone()
    tensors = calls()
    cursor.copy_(before)
    return Replayed(calls, tensors), tensors


def batches(recipe, keywords, count):
    """Some batches of an epoch and the state after them, then of the epoch that follows a resume."""
    feed = gr.DataLoader(recipe, batch_size=4, image_size=24, device="cpu", **keywords)
    drawn = [batch for batch, _ in zip(feed, range(count), strict=False)]
    other = gr.DataLoader(recipe, batch_size=4, image_size=24, device="cpu", **keywords)
    other.load_state_dict(feed.state_dict())
    return drawn + [batch for batch, _ in zip(other, range(2), strict=False)]


def same(found, wanted):
    """Whether all images and labels are equal."""
    return len(found) == len(wanted) and all(
        torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
        for one, other in zip(found, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def main():
    """Compare the two paths; a line for each recipe."""
    graphs.capture = captured
    DataLoader._producer = lambda self: None
    for number, (name, recipe) in enumerate(RECIPES.items()):
        for keywords in LOADERS[number % 3 : number % 3 + 2]:
            wanted = batches(recipe, keywords, 5)
            with emulated_gpu(HOPPER) as gpu:
                assert same(batches(recipe, keywords, 5), wanted), (name, keywords)
            assert gpu.launches, "the GPU path was not taken"
        samples = list(range(0, len(recipe), max(1, len(recipe) // 20)))
        wanted = (
            gr.Renderer(recipe)(samples),
            gr.Renderer(recipe)(samples, epoch=2),
            gr.Renderer(recipe).labels(samples),
        )
        kernels = []
        for cache_bytes in (0, 1 << 20):
            with emulated_gpu(TINY) as gpu:
                renderer = gr.Renderer(recipe, cache_bytes=cache_bytes)
                found = renderer(samples), renderer(samples, epoch=2), renderer.labels(samples)
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), (name, cache_bytes)
            kernels.append({launch[1] for launch in gpu.launches})
        finite = name in ("onepfrac", "fractaldb")
        assert ("chaos_game_paint" in kernels[1]) == finite, (name, kernels)
        assert "chaos_game_paint" not in kernels[0]
        print(name, "ok", flush=True)


if __name__ == "__main__":
    main()
