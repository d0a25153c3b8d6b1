"""Golden hashes. ``python tests/golden.py`` records them anew, which is right only together with a new ``LAYOUT``."""

import hashlib
import json
from pathlib import Path

import gpurender as gr
from gpurender.families import PRESETS

RECORD = Path(__file__).with_suffix(".json")

TRIANGLE = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
DIVERGENT = [[1.3, 0.2, -0.1, 1.2, 0.5, 0.1], [0.9, 0, 0, 1.4, 0, 1]]
SMALL = {
    "onepfrac": lambda: gr.OnePFrac(classes=260, base=TRIANGLE, points=2000, image_size=48),
    "onepfrac-paper": lambda: gr.OnePFrac(
        classes=40, instances=7, base=TRIANGLE, points=2000, image_size=33, variant="paper"
    ),
    "fractaldb": lambda: gr.FractalDB(categories=[TRIANGLE, DIVERGENT], points=3000, image_size=40),
    "fractaldb-color": lambda: gr.FractalDB(
        categories=[TRIANGLE, DIVERGENT], points=3000, image_size=40, draw_type="patch_color"
    ),
    "visualatom": lambda: gr.VisualAtom(classes=20, instances=20, image_size=48, orbits=(1, 30), quantization=(20, 60)),
    "visualatom-paper": lambda: gr.VisualAtom(
        classes=20, instances=20, image_size=48, orbits=(1, 30), quantization=(20, 60), variant="paper"
    ),
}


def digest(images):
    """SHA-256 of a uint8 tensor's bytes."""
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def preset_pixels(name):
    """First and last image of a preset; of a searched one the first two categories, which are the same in any longer
    search.
    """
    recipe = gr.FractalDB(classes=2) if name == "fractaldb-1k" else gr.recipe(name)
    return digest(gr.Renderer(recipe)([0, len(recipe) - 1]))


def current(kind):
    """The hashes of today's code."""
    if kind == "fingerprints":
        return {name: gr.recipe(name).fingerprint for name in PRESETS}
    if kind == "pixels":
        return {name: digest(gr.Renderer(make())(list(range(0, 40, 5)))) for name, make in SMALL.items()}
    return {name: preset_pixels(name) for name in ("onepfrac-1k", "fractaldb-1k", "visualatom-1k")}


def recorded():
    """The hashes on record."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    hashes = {kind: current(kind) for kind in ("fingerprints", "pixels", "presets")}
    RECORD.write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
