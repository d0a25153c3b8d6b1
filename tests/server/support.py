"""Small servers for tests, without training."""

import json

import numpy as np
from PIL import Image

import gpurender as gr
from gpurender.server.building import write
from gpurender.server.catalogue import Catalogue, Entry, Expert
from gpurender.server.files import digest
from gpurender.training import checkpoint, models

MODEL = "test_resnet"
NAMES = ("ant", "bee", "cow")


def recipe(seed=0, **options):
    """A recipe that is drawn fast."""
    return gr.VisualAtom(classes=4, instances=8, image_size=32, orbits=(2, 3), radius=(4, 8), seed=seed, **options)


def expert(root, name, seed, outputs=4):
    """An expert with random weights."""
    path = root / "experts" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"name": MODEL, "classes": outputs, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    model = models.create(MODEL, outputs, 32, seed=seed)
    checkpoint.save(path, dict(model.state_dict()), {"kind": "expert-rotation", "model": made, "data": {}})
    return Expert(name, *digest(path))


def recipe_server(root, names=NAMES, task="rotation", seen=None):
    """A server of recipes; returns its catalogue."""
    experts = tuple(expert(root, name, number) for number, name in enumerate(names))
    sources = tuple(Entry(name, recipe(number)) for number, name in enumerate(names))
    made = Catalogue(task, "recipes", experts, sources, np.eye(len(names)), seen or {}, {"made": "by hand"})
    write(root, made)
    return made


FILES = {"ant": [["a/1.png", 10], ["a/2.png", 20]], "bee": [["b/1.png", 30]], "cow": [["c/1.png", 40], ["c/2.png", 50]]}


def file_server(root, names=NAMES, files=None):
    """A server of files; returns its catalogue."""
    experts = tuple(expert(root, name, number) for number, name in enumerate(names))
    (root / "partitions").mkdir(parents=True)
    listed = FILES if files is None else files
    for name in names:
        (root / "partitions" / f"{name}.json").write_text(json.dumps(listed[name]))
    sources = tuple(Entry(name, None, len(listed[name]), sum(size for _, size in listed[name])) for name in names)
    made = Catalogue("rotation", "files", experts, sources, np.eye(len(names)))
    write(root, made)
    return made


def pictures(folder, count=6, side=40, seed=0, classes=None):
    """Write noise images, in folders by class if there are classes; return their names."""
    generator = np.random.default_rng(seed)
    names = []
    for number in range(count):
        owner = "" if classes is None else f"{classes[number % len(classes)]}/"
        path = folder / f"{owner}{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
        names.append(path.relative_to(folder).as_posix())
    return sorted(names)
