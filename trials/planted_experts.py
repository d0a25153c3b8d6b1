"""Planted truth: do experts find the recipe that a client's images were drawn by?

    python -m trials.planted_experts WORK --json FILE    # --experts 5, --clients 50, --images 40000, --seed S

A server is built in WORK (kept, and gone on with after a kill) of ``--experts`` recipes of different families or
settings. A client has 256 images that no expert has seen, drawn by one of the recipes (``same``), or by a recipe of
the same family and settings with another seed, so of other classes (``family``). Each client has other images. With
``--task classify`` the client knows their labels. The row
says for how many clients the right recipe has a weight of at least 0.9, how many have it as the greatest one, and the
mean weight of the right one. Needs the extra ``train``.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import gpurender as gr
from gpurender.server.weighting import weights
from gpurender.tasks import Samples
from gpurender.tasks.sources import Set
from gpurender.util.atomic_files import replacing
from gpurender.util.environment import environment

CLIENT = 256  # images
SURE = 0.9
SIDE = 64
RECIPES = (
    gr.VisualAtom(classes=32, instances=64, image_size=SIDE, orbits=(2, 6), radius=(8, 24)),
    gr.RCDB(classes=32, instances=64, image_size=SIDE),
    gr.OnePFrac(classes=32, instances=64, points=3000, image_size=SIDE),
    gr.FractalDB(classes=32, points=3000, image_size=SIDE),
    gr.ColorFractal(classes=32, instances=64, points=3000, image_size=SIDE),
    gr.VisualAtom(classes=32, instances=64, image_size=SIDE, orbits=(1, 2), radius=(4, 8)),
    gr.OnePFrac(classes=32, instances=64, points=400, delta=0.5, image_size=SIDE),
    gr.FractalDB(classes=32, points=400, image_size=SIDE),
)


def images_of(recipe: gr.Recipe, number: int) -> Samples:
    """Return a client's images: of an epoch of its own, which no expert and no other client has seen."""
    renderer = gr.Renderer(recipe)
    epoch = (1 << 24) + number
    indices = np.random.default_rng(number).choice(len(recipe), min(CLIENT, len(recipe)), replace=False)

    def image(i: int) -> Image.Image:
        canvas = renderer([int(indices[i])], epoch)[0].permute(1, 2, 0).numpy()  # [S, S, C] uint8
        return Image.fromarray(canvas[..., 0] if canvas.shape[2] == 1 else canvas).convert("RGB")

    names, labels = np.unique(renderer.labels(indices, epoch).numpy(), return_inverse=True)
    found = Set([str(i) for i in indices], labels.astype(np.int64), tuple(map(str, names)), image)
    return Samples(found, np.arange(len(indices)))


def clients(recipes: tuple[gr.Recipe, ...], kind: str, count: int) -> Iterator[tuple[int, Samples]]:
    """Yield the number of the right recipe and the images of each client."""
    for number in range(count):
        right = number % len(recipes)
        recipe = recipes[right]
        if kind == "family":
            recipe = dataclasses.replace(recipe, seed=1000 + number)
        yield right, images_of(recipe, number)


def trial(server: gr.DataServer, recipes: tuple[gr.Recipe, ...], kind: str, count: int) -> dict[str, Any]:
    """Return how many clients of a kind found the right recipe."""
    own = []
    first = 0
    for right, samples in tqdm(clients(recipes, kind, count), total=count, desc=kind, unit="client"):
        scores = server.scores(samples, torch.device("cpu"))
        found = weights(np.array(list(scores.values())))
        own.append(float(found[right]))
        first += int(found.argmax() == right)
    return {
        "kind": kind, "clients": count, "sure": sum(weight >= SURE for weight in own), "first": first,
        "mean_weight": round(float(np.mean(own)), 4), "least_weight": round(min(own), 4),
    }  # fmt: skip


def main() -> int:
    """Run the trial; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of the server")
    parser.add_argument("--experts", type=int, default=5, help=f"2 to {len(RECIPES)}")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--images", type=int, default=40_000, help="of the training of an expert")
    parser.add_argument("--task", default="rotation", help="of the experts: rotation or classify")
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recipes = RECIPES[: options.experts]
    server = gr.server.build(
        recipes, options.work, task=options.task, model=options.model, image_size=48, images=options.images,
        batch_size=128, seed=options.seed, device="cpu",
    )  # fmt: skip
    rows = [trial(server, recipes, kind, options.clients) for kind in ("same", "family")]
    result = {
        "environment": environment(), "command": " ".join(["python -m trials.planted_experts",
        *sys.argv[1:]]), "recipes": [json.loads(recipe.to_json()) for recipe in recipes],
        "vectors": server.catalogue.vectors.tolist(), "planted": rows,
    }  # fmt: skip
    for row in rows:
        print(row)
    if options.json is not None:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
