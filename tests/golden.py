"""Golden hashes. ``python -m tests.golden`` records them; a changed one needs a new ``LAYOUT``, a new one does not."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

import gpurender as gr
from gpurender.augment import pixmix_draws
from gpurender.kernels.philox import words
from gpurender.numerics import portable_math, unit_circle
from gpurender.numerics.streams import Stream
from gpurender.recipes import (
    Recipe,
    colored,
    colorfractal,
    exfractaldb,
    fractaldb,
    ifs,
    labels,
    noise,
    presets,
    sigma_factor,
    singleimage,
    system_jitter,
)
from gpurender.recipes.exfractaldb import TETRAHEDRON
from gpurender.recipes.mixture import Interleaving

CPU = torch.device("cpu")
RECORD = Path(__file__).with_suffix(".json")

TRIANGLE = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
DIVERGENT = [[1.3, 0.2, -0.1, 1.2, 0.5, 0.1], [0.9, 0, 0, 1.4, 0, 1]]
PICTURE = (np.indices((40, 40)).prod(0)[:, :, None] * [3, 5, 7] // 32 % 256).astype(np.uint8)
SMALL = {
    "onepfrac": lambda: gr.OnePFrac(classes=260, base=TRIANGLE, points=2000, image_size=48),
    "onepfrac-paper": lambda: gr.OnePFrac(
        classes=40, instances=7, base=TRIANGLE, points=2000, image_size=33, variant="paper"
    ),
    "fractaldb": lambda: gr.FractalDB(categories=[TRIANGLE, DIVERGENT], points=3000, image_size=40),
    "fractaldb-color": lambda: gr.FractalDB(
        categories=[TRIANGLE, DIVERGENT], points=3000, image_size=40, draw_type="patch_color"
    ),
    "ofdb": lambda: gr.OFDB(categories=[TRIANGLE, DIVERGENT] * 130, points=3000, image_size=40),
    "ofdb-paper": lambda: gr.OFDB(
        categories=[TRIANGLE, DIVERGENT] * 26, instances=5, points=3000, image_size=33, variant="paper"
    ),
    "exfractaldb": lambda: gr.ExFractalDB(categories=[TETRAHEDRON], points=2000, image_size=40),
    "mv-fractaldb-paper": lambda: gr.ExFractalDB(
        categories=[TETRAHEDRON], points=2000, image_size=33, viewpoints="fixed", variant="paper"
    ),
    "3d-ofdb": lambda: gr.ExFractalDB(
        categories=[TETRAHEDRON] * 260, weights="one", viewpoints="drawn", points=2000, image_size=40
    ),
    "colorfractal": lambda: gr.ColorFractal(classes=20, instances=2, points=2000, image_size=40, systems=2),
    "colorfractal-grey": lambda: gr.ColorFractal(
        classes=20, instances=2, points=2000, image_size=33, color=False, background=False, jitter="fractaldb-4"
    ),
    "colorfractal-paper": lambda: gr.ColorFractal(
        classes=20, instances=2, points=2000, image_size=40, jitter="svd", variant="paper"
    ),
    "colorfractal-sval": lambda: gr.ColorFractal(classes=20, instances=2, points=2000, image_size=40, jitter="sval"),
    "multifractal": lambda: gr.MultiFractal(classes=20, instances=2, points=2000, image_size=48),
    "visualatom": lambda: gr.VisualAtom(classes=20, instances=20, image_size=48, orbits=(1, 30), quantization=(20, 60)),
    "visualatom-paper": lambda: gr.VisualAtom(
        classes=20, instances=20, image_size=48, orbits=(1, 30), quantization=(20, 60), variant="paper"
    ),
    "visualatom-paper-independent": lambda: gr.VisualAtom(
        classes=20, instances=20, image_size=48, orbits=(1, 30), quantization=(20, 60), variant="paper",
        noise="independent",
    ),
    "visualatom-perturbed": lambda: gr.VisualAtom(
        classes=400, image_size=48, orbits=(30, 30), quantization=(20, 60), radius=(5, 9), noise_level=(0.1, 0.3),
        amplitudes=(0.1, 0.2), nucleus=(0, 0), perturb=0.1,
    ),
    "moire": lambda: gr.Moire(classes=20, instances=2, image_size=40),
    "noise": lambda: gr.Noise(classes=130, instances=2, image_size=33),
    "noise-uniform": lambda: gr.Noise(classes=130, instances=2, image_size=33, distribution="uniform"),
    "singleimage-affine": lambda: gr.SingleImage(PICTURE, classes=260, image_size=40),
    "singleimage-polynomial": lambda: gr.SingleImage(
        PICTURE, classes=260, image_size=40, edges=None, transform="polynomial", perturb=0.3
    ),
    "singleimage-elastic": lambda: gr.SingleImage(
        PICTURE, classes=260, image_size=40, edges=None, transform="elastic", perturb=0.5
    ),
    "rcdb": lambda: gr.RCDB(classes=20, instances=20, image_size=48, polygons=(1, 30), radius=(0, 9)),
    "rcdb-paper": lambda: gr.RCDB(
        classes=20, instances=20, image_size=48, polygons=(1, 30), radius=(0, 9), variant="paper"
    ),
    "rcdb-perturbed": lambda: gr.RCDB(
        classes=400, image_size=48, polygons=(20, 20), noise_level=(0.1, 0.3), radius=(9, 9), centre=(0, 0), perturb=0.1
    ),
}  # fmt: skip


ATOM = (30, 40, 3, 45, 0.5, 0.1, 1.1, 0.05, 20, 1.25, 1.7)
PAPERS_ATOM = (30, 40, 3, 45, 0.5, 0.1, 0.3, 90.1, 120.2)
POLYGONS = (30, 40, 1.1, 0.05, 20, 1.25, 1.7)
OF_CLASSES = {  # recipes whose classes are given, and those with options
    "visualatom": lambda: gr.VisualAtom(categories=[ATOM, (1, 3, *ATOM[2:])]),
    "visualatom-paper": lambda: gr.VisualAtom(categories=[PAPERS_ATOM], variant="paper"),
    "visualatom-perturbed": lambda: gr.VisualAtom(categories=[ATOM], perturb=0.1),
    "rcdb": lambda: gr.RCDB(categories=[POLYGONS[:4]]),
    "rcdb-paper": lambda: gr.RCDB(categories=[POLYGONS], variant="paper"),
    "rcdb-perturbed": lambda: gr.RCDB(categories=[POLYGONS], perturb=0.1),
    "exfractaldb-searched": lambda: gr.ExFractalDB(variance_threshold=0.1, instances=20),
    "fractaldb-searched": lambda: gr.FractalDB(fill_rate=0.1, instances=50),
    "onepfrac-redrawn": lambda: gr.OnePFrac(base=TRIANGLE, redraw=True),
    "long-tail": lambda: gr.OnePFrac(instances=50, class_prior=20.0),
    "weights": lambda: gr.OnePFrac(classes=3, instances=50, class_prior=[1.0, 0.3, 0.7]),
    "wrong-labels": lambda: gr.OnePFrac(label_noise=0.3),
    "confused-labels": lambda: gr.OnePFrac(classes=3, label_noise=[[0.1, 0.2, 0.7], [0.0, 1.0, 0.0], [0.3, 0.4, 0.3]]),
    "mixture": lambda: mixture("separate"),
    "schedule": lambda: gr.Schedule(gr.OnePFrac(base=TRIANGLE), delta=((0, 0.2), (5000, 0.1)), points=((0, 900),)),
}  # fmt: skip


def fingerprints():
    """Fingerprints of the presets, of the recipes above, and of the smallest of each family, which are compiled for."""
    smallest = {name: family.smallest() for name, family in Recipe.families.items()}
    return {
        **{name: gr.recipe(name).fingerprint for name in presets()},
        **{f"small {name}": make().fingerprint for name, make in SMALL.items()},
        **{f"given {name}": make().fingerprint for name, make in OF_CLASSES.items()},
        **{f"smallest {name}": recipe.fingerprint for name, recipe in smallest.items() if recipe is not None},
    }


def sampled(maps, sigma):
    """Systems of a sigma-factor: some of their angles need the second draw of points."""
    return torch.from_numpy(sigma_factor.sample(2**63 + 5, np.arange(600), maps, sigma - 0.25, 0.5))


def varied(kind):
    """Variations of systems of three maps."""
    return system_jitter.varied(sampled(3, 4.5), torch.full((600,), 3), kind, 7, torch.arange(600))


def of_objects():
    """What is drawn of objects: systems, patches, orientations, colours, views, blurs."""
    catalog = colored.catalog(3, 200, (1, 8), CPU)
    u = colored.object_words(5, torch.arange(200), 2).flatten(0, 1)
    own = u[:, colored.OWN :]
    maps, counts = catalog.of(torch.arange(200))
    played = colored.playable(maps, counts)
    drawn = [colored.patches(u), colored.orientations(u), colored.colours(u, True), colorfractal.views(own[:, :4])]
    blurs = catalog.blurs(own[:, 4], own[:, 5])
    return maps, counts, catalog.blur_steps, played.maps, played.thresholds, *drawn, blurs


def of_classes(recipe):
    """Parameters of 500 classes, as arrays."""
    return map(torch.from_numpy, recipe.parameters(np.arange(500)).values())


def perturbed(recipe):
    """Points of classes, points of images around them, and the side in which these lie."""
    law, classes = recipe._perturbations, torch.arange(recipe.classes)
    return law.points(classes), law.fresh_points(classes, classes + 2**33), torch.tensor(law.cell, dtype=torch.float64)


def of_1p_frac(variant):
    """Perturbations of a base, and what a new image may add."""
    recipe = gr.OnePFrac(classes=500, maps=3, sigma=4.0, seed=9, variant=variant, redraw=True)
    systems = recipe._systems(2, np.arange(500), np.arange(500) % 7)
    reach = torch.from_numpy(recipe._reach(2))
    return systems.maps, systems.thresholds, reach, recipe._redrawn(systems, reach, torch.arange(500)).maps


def azimuths():
    """Of the cameras of every kind of viewpoints, in both variants."""
    view, numbers = torch.arange(200) % 12, torch.arange(200)
    kinds = [(viewpoints, variant) for viewpoints in exfractaldb.VIEWPOINTS for variant in ("released", "paper")]
    return [gr.ExFractalDB(viewpoints=kind, variant=variant)._azimuths(view, numbers) for kind, variant in kinds]


def grid(rows, columns):
    """Perturbations in [-0.3, 0.3), all different."""
    points = torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)
    return 0.6 * points / (rows * columns) - 0.3


def coefficients(terms):
    """Of perturbed images, as the kernel takes them."""
    return [found for found in singleimage.transforms(grid(2, terms), 40) if found is not None]


def exponentials():
    """exp and log where the four operations alone decide the bits."""
    x = np.arange(-2000, 2001) * 0.35
    return torch.from_numpy(portable_math.exp(x)), torch.from_numpy(portable_math.log(portable_math.exp(x)))


def angles():
    """Cosines and sines of some parts of a turn, and of any angle."""
    tables = [table for q in (1, 2, 3, 7, 256, 1000) for table in unit_circle.cos_sin_table(q)]
    turns = torch.from_numpy(words(1, Stream.POINTS, np.arange(2000, dtype=np.uint64))[:, 0].astype(np.int64))
    return *map(torch.from_numpy, tables), *unit_circle.cos_sin(turns)


PARAMETERS = {
    **{f"sigma-factor of {n} maps": (lambda n=n: [sampled(n, 0.7 * 3 * n)]) for n in (1, 2, 5)},
    **{f"jitter {kind}": (lambda kind=kind: [varied(kind)]) for kind in system_jitter.KINDS},
    "objects": of_objects,
    "visualatom": lambda: of_classes(gr.VisualAtom(classes=500, amplitudes=(-1, 2))),
    "visualatom-paper": lambda: of_classes(gr.VisualAtom(classes=500, variant="paper", amplitudes=(-1, 2))),
    "visualatom-perturbed": lambda: of_classes(gr.VisualAtom(classes=500, perturb=0.3)),
    "rcdb": lambda: of_classes(gr.RCDB(classes=500)),
    "rcdb-paper": lambda: of_classes(gr.RCDB(classes=500, variant="paper")),
    "rcdb-perturbed": lambda: of_classes(gr.RCDB(classes=500, perturb=0.3)),
    "points of noise": lambda: perturbed(gr.Noise(classes=50)),
    "points of rcdb": lambda: perturbed(gr.RCDB(classes=50, perturb=0.3)),
    "gaussian": lambda: [noise.of_gaussian(grid(10, 9))],
    "uniform": lambda: [noise.of_uniform(grid(10, 6))],
    **{f"candidates of fractaldb, {variant}": (
        lambda variant=variant: map(torch.from_numpy, fractaldb.candidates(3, variant, np.arange(200))))
       for variant in ("released", "paper")},
    "azimuths": azimuths,
    "candidates of exfractaldb": lambda: map(torch.from_numpy, exfractaldb.candidates(3, np.arange(200))),
    "thresholds": lambda: [torch.from_numpy(ifs.thresholds(exfractaldb.candidates(3, np.arange(200))[1]))],
    **{f"onepfrac, {variant}": (lambda variant=variant: of_1p_frac(variant)) for variant in ("released", "paper")},
    **{f"transform {name}": (lambda d=d: coefficients(d))
       for name, d in singleimage.DIMENSIONS.items()},
    "pixmix": lambda: map(torch.from_numpy, vars(pixmix_draws.draw(
        np.arange(200, dtype=np.uint64), pixmix_draws.Law(7, 1000, 4, 3.0, 5.0, pixmix_draws.ALL_OPERATIONS, (30, 40))
    )).values()),
    "long tail": lambda: [torch.from_numpy(labels.class_counts(37.0, 100, 1000))],
    "exponentials": exponentials,
    "angles": angles,
}  # fmt: skip


def digest(*tensors):
    """SHA-256 of the bytes of tensors, one after the other."""
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


SEARCHED = ("fractaldb-1k", "ofdb-1k", "exfractaldb-1k", "mv-fractaldb-1k", "3d-ofdb-1k")
PRESETS = (
    "onepfrac-1k", "visualatom-1k", "rcdb-1k", "visualatom-lpce-1k", "rcdb-lpce-1k", "colorfractal-1k",
    "multifractal-1k", "gaussian-lpce-1k", "uniform-lpce-1k", *SEARCHED,
)  # fmt: skip


def preset_pixels(name):
    """First and last image of a preset; of a searched one the first two categories, which are the same in any longer
    search.
    """
    recipe = gr.recipe(name, **({"classes": 2} if name in SEARCHED else {}))
    return digest(gr.Renderer(recipe)([0, len(recipe) - 1]))


POLICIES = {
    "crop": lambda: gr.augment.Crop(interpolation="random", vflip=0.5),
    "onepfrac": gr.augment.DeiT.onepfrac,
    "visualatom": gr.augment.DeiT.visualatom,
    "resnet": gr.augment.DeiT.resnet,
    "original": lambda: gr.augment.DeiT(auto_augment="original-mstd0.5", mixup_mode="pair", re_count=(1, 3)),
    "weights": lambda: gr.augment.DeiT(auto_augment="rand-n3-tweights-mstd101", mixup_mode="elem", re_mode="rand"),
    "3a": lambda: gr.augment.DeiT(auto_augment="3a", color_jitter=(0.4, 0.3, 0.2, 0.1), cutmix_minmax=(0.2, 0.8)),
    "simclr": lambda: gr.augment.DeiT.resnet(color_jitter=0.8, grayscale_prob=0.2, gaussian_blur_prob=0.5),
}


def augmented(policy):
    """Hash of a policy's parameters, images and targets for twelve samples."""
    canvases = gr.Renderer(SMALL["fractaldb-color"]())(list(range(12)))
    drawn = policy.draw([*range(11), 2**64 - 1], seed=2**63 + 1, canvas_size=40, image_size=32)
    images = policy.apply(canvases, drawn, image_size=32)
    tensors = [*drawn.values(), images]
    if isinstance(policy, gr.augment.DeiT):  # of the others the targets are the labels
        tensors.append(policy.targets(torch.arange(12) % 5, drawn, 5))
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def mixture(labels="joint"):
    """Three small recipes, two of them with wrong labels, one with a long tail and one in colour."""
    tail = {"class_prior": 4, "label_noise": 0.5, "seed": 3}
    atoms = gr.VisualAtom(classes=5, instances=8, image_size=32, orbits=(1, 9), quantization=(9, 20), **tail)
    confused = {"label_noise": [[0.5, 0.25, 0.25]] * 3, "image_size": 48, "points": 500}
    grey = gr.OnePFrac(classes=3, instances=7, base=TRIANGLE, **confused)
    parts = {SMALL["fractaldb-color"](): 3, atoms: 2, grey: 1}
    return gr.Mixture(parts, labels=labels)


def stream():
    """Hash of which sample comes when: two epochs of 200 places of three recipes, shuffled and not."""
    shares = Interleaving((3, 2, 1), [24, 20, 6])
    orders = [shares.indices(np.arange(200), 200, epoch, 7, shuffle) for epoch in range(2) for shuffle in (True, False)]
    return digest(*(torch.from_numpy(order.astype("<i8")) for order in orders))


def mixed_labels(labels):
    """Hash of all labels in three epochs, of the same images and of new ones."""
    renderer = gr.Renderer(mixture(labels))
    samples = range(len(renderer.recipe))
    return digest(*(renderer.labels(samples, epoch, fresh=fresh) for epoch in range(3) for fresh in (True, False)))


def mixed_batches(fresh):
    """Hash of the second epoch's first two batches."""
    loader = gr.DataLoader(
        mixture(), batch_size=12, image_size=24, augment=gr.augment.Crop(), shuffle=True, seed=5, fresh=fresh
    )
    loader.set_epoch(1)
    batches = iter(loader)
    return digest(*next(batches), *next(batches))


MIXTURES = {
    "stream": stream,
    "labels": lambda: mixed_labels("joint"),
    "labels-separate": lambda: mixed_labels("separate"),
    "batches": lambda: mixed_batches(False),
    "batches-fresh": lambda: mixed_batches(True),
}


def current(kind):
    """The hashes of today's code."""
    if kind == "fingerprints":
        return fingerprints()
    if kind == "parameters":
        return {name: digest(*make()) for name, make in PARAMETERS.items()}
    if kind == "mixtures":
        return {name: make() for name, make in MIXTURES.items()}
    if kind == "policies":
        return {name: augmented(make()) for name, make in POLICIES.items()}
    if kind == "pixels":
        return {name: digest(gr.Renderer(make())(list(range(0, 40, 5)))) for name, make in SMALL.items()}
    return {name: preset_pixels(name) for name in PRESETS}


def recorded():
    """The hashes on record."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    hashes = {
        kind: current(kind) for kind in ("fingerprints", "parameters", "pixels", "policies", "mixtures", "presets")
    }
    RECORD.write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
