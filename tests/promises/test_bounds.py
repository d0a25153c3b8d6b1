"""Every bound of every parameter, exactly: the bound itself is taken, the next number beyond it is refused by name.

The bounds are written down here once more, from the documentation, as in trials/fuzz/kinds.py: random values
seldom fall on one.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.augment import Crop, DeiT, MultiCrop, Resize, TwoViews
from gpurender.benchmark.measure import measure
from gpurender.commands.image_folder.selection import Selection
from gpurender.commands.image_folder.shards import shard
from gpurender.commands.web_dataset.tars import Tars
from gpurender.kernels.augment_params import draw_crops, draw_erasing, draw_mixing
from gpurender.kernels.augment_params.params import CropParams, ErasingParams, MixParams
from gpurender.kernels.image_ops import checked_fill
from gpurender.kernels.resized_crop import crop_resize
from gpurender.kernels.shuffle import addresses, permute
from gpurender.recipes import labels
from gpurender.recipes.exfractaldb import TETRAHEDRON
from gpurender.sheet import contact_sheet

ROWS = ((0.5, 0.0, 0.0, 0.5, 0.0, 0.0), (0.5, 0.0, 0.0, 0.5, 0.5, 0.0))
PICTURE = np.arange(256, dtype=np.uint8).reshape(16, 16)


def onepfrac(**changes):
    return gr.OnePFrac(classes=2, **changes)


def long_tail(**changes):
    return gr.OnePFrac(**{"classes": 2, "instances": 2**31 - 1} | changes)


def fractaldb(**changes):
    return gr.FractalDB(**{"weights": "small", "instances": 1, "categories": [ROWS]} | changes)


def searched(**changes):
    return gr.FractalDB(**changes)


def exfractaldb(**changes):
    return gr.ExFractalDB(**{"categories": [TETRAHEDRON]} | changes)


def visualatom(**changes):
    return gr.VisualAtom(**{"classes": 2, "instances": 2, "orbits": (1, 2), "quantization": (3, 9)} | changes)


def paper(**changes):
    return gr.VisualAtom(classes=2, instances=2, variant="paper", **changes)


def rcdb(**changes):
    return gr.RCDB(classes=2, instances=2, **changes)


def colorfractal(**changes):
    return gr.ColorFractal(**{"classes": 2, "instances": 10**6} | changes)


def multifractal(**changes):
    return gr.MultiFractal(classes=2, instances=10**6, **changes)


def singleimage(**changes):
    return gr.SingleImage(PICTURE, classes=2, **{"image_size": 16, "edges": None} | changes)


TINY = gr.OnePFrac(classes=2, instances=3, image_size=16, points=100, fill_rate=0.0, base=ROWS)


LAST_EPOCH = 2**63 // 10 - 1  # six samples count as ten: ten rounds of the shuffle, each at an address below 2**63


def loader(**changes):
    return gr.DataLoader(TINY, device="cpu", **{"batch_size": 1} | changes)


def rank_of_three(**changes):
    return loader(world_size=3, **changes)


def world(**changes):
    return loader(rank=0, **changes)


def renderer(**changes):
    return gr.Renderer(TINY, device="cpu", **changes)


def dataset(**changes):
    return gr.Dataset(TINY, **changes)


def drawn_by(policy):
    def draw(**changes):
        return policy.draw([0], **changes)

    return draw


def targets(**changes):
    policy = DeiT(mixup_alpha=0.0, cutmix_alpha=0.0, label_smoothing=0.0)
    return policy.targets(torch.zeros(1, dtype=torch.int64), {}, **changes)


def order(**changes):
    given = {"count": 1, "length": 9, "seed": 0, "instances": 1, "shuffle": True, "repeats": 1}
    return addresses(torch.tensor([0, 0]), **given | changes)


def shuffled(**changes):
    return permute(np.array([0]), **{"length": 9, "seed": 0, "epoch": 0} | changes)


def sheet(**changes):
    return contact_sheet(gr.Renderer(TINY, device="cpu"), **{"rows": 1, "cols": 1, "cell": 16} | changes)


def selected(**changes):
    return Selection(TINY, **changes)


def tars(**changes):
    return Tars(Path(), gr.Renderer(TINY, device="cpu"), selected(), **changes)


def rendered(**changes):
    return gr.Renderer(TINY, device="cpu")([0], **changes)


def passes(epoch):
    """TINY has six samples, so a pass of one step of six is an epoch."""
    loader(steps_per_epoch=1, batch_size=6).set_epoch(epoch)


def of_steps(**changes):
    return loader(batch_size=6, **changes)


def resumed(name, value):
    one = loader(batch_size=2)
    one.load_state_dict(one.state_dict() | {name: value})


def weighted(first, second):
    return gr.Mixture({gr.OnePFrac(classes=2): first, gr.OnePFrac(classes=3): second})


def measured(**changes):
    return measure(TINY, device="cpu", stages=[], **{"batch_size": 1, "seconds": 1.0} | changes)


def drawn_directly(draw, params, name):
    """A function of gpurender.kernels.augment_params: draw ids, seed, a side."""

    def call(**changes):
        given = {"seed": 0, name: 32} | changes
        return draw(torch.tensor([0]), given["seed"], given[name], params)

    return call


CROPS = drawn_directly(draw_crops, CropParams((0.1, 1.0), (1.0, 1.0), (0.5, 0.5), None), "canvas_size")
MIXES = drawn_directly(draw_mixing, MixParams(0.8, 1.0, None, 1.0, 0.5, "batch", True), "image_size")
ERASES = drawn_directly(draw_erasing, ErasingParams(0.5, (1, 1), (0.1, 0.3), (0.5, 2.0)), "image_size")


CHANCES = ("hflip", "vflip")
DEIT_CHANCES = (
    "color_jitter_prob", "grayscale_prob", "gaussian_blur_prob", "re_prob", "mixup_prob", "mixup_switch_prob",
    "label_smoothing",
)  # fmt: skip
REALS = [  # of what, which parameter, its lowest and highest value
    *[(Crop, name, 0.0, 1.0) for name in CHANCES],
    *[(DeiT, name, 0.0, 1.0) for name in DEIT_CHANCES],
    (DeiT, "color_jitter", 0.0, 10.0),
    (DeiT, "mixup_alpha", None, 1000.0),
    (DeiT, "cutmix_alpha", None, 1000.0),
    (onepfrac, "label_noise", 0.0, 1.0),
    (onepfrac, "fill_rate", 0.0, 1.0),
    (onepfrac, "delta", 0.0, 10.0),
    (long_tail, "class_prior", 1.0, 1e9),
    (loader, "timeout", 0.0, 86_400.0),
    (paper, "interval", 0.0, 8.0),
    (DeiT, "color_jitter_prob", 0.0, 1.0),
    (searched, "fill_rate", 0.0, 1.0),
    (onepfrac, "sigma", 0.1, 6.0),  # sigma varies by 0.1; each of two maps adds at most 3
    (measured, "seconds", 0.0, 86_400.0),
    (gr.ExFractalDB, "variance_threshold", 0.0, 1.0),
    (gr.OFDB, "fill_rate", 0.0, 1.0),
    *[(make, "perturb", 1e-4, 0.5) for make in (gr.RCDB, gr.VisualAtom, singleimage)],
    (gr.Noise, "perturb", 1e-4, 0.3),
]
DRAWERS = [drawn_by(policy) for policy in (Crop(), Resize(), DeiT())]
INTEGERS = [
    *[(draw, "seed", 0, 2**64 - 1) for draw in (*DRAWERS, drawn_by(TwoViews(Crop())))],
    *[(draw, name, 1, 65_535) for draw in DRAWERS for name in ("canvas_size", "image_size")],
    (loader, "batch_size", 1, 2**31 - 1),
    (loader, "image_size", 1, 65_535),
    (loader, "num_workers", 0, 2**31 - 1),
    (loader, "prefetch_factor", 0, 64),
    (loader, "seed", 0, 2**64 - 1),
    (rank_of_three, "rank", 0, 2),
    (world, "world_size", 1, 2**31 - 1),
    *[(make, "cache_bytes", 0, 2**64 - 1) for make in (renderer, loader, dataset)],
    (targets, "classes", 1, 2**63 - 1),
    (order, "seed", 0, 2**64 - 1),
    (order, "length", 1, 2**62),
    (order, "instances", 1, 2**62),
    (order, "count", 0, None),
    (order, "repeats", 1, None),
    (shuffled, "length", 1, 2**62),
    (shuffled, "seed", 0, 2**64 - 1),
    (shuffled, "epoch", 0, LAST_EPOCH),
    (DeiT, "re_count", 1, 64),
    (DeiT, "mixup_off_epoch", 0, 2**63 - 1),
    (DeiT, "num_aug_repeats", 0, 64),
    (onepfrac, "seed", 0, 2**64 - 1),
    (onepfrac, "image_size", 16, 8192),
    (onepfrac, "instances", 1, 2**31 - 1),
    (onepfrac, "maps", None, 64),
    (onepfrac, "points", 1, None),
    (fractaldb, "patches", 1, 10**6),
    (fractaldb, "flips", 1, 4),
    (exfractaldb, "image_size", 16, 8192),
    (exfractaldb, "instances", 1, 1740),  # 145 weights, 12 views
    (exfractaldb, "points", 2, 10**6),
    (exfractaldb, "views", 1, 10**6),
    (visualatom, "image_size", 16, 8192),
    (visualatom, "line_thickness", 1, 1),
    (singleimage, "image_size", 16, 2048),
    *[(make, "systems", 1, 10**6) for make in (colorfractal, multifractal)],
    *[(make, "points", 1, 10**7) for make in (colorfractal, multifractal, gr.OFDB)],
    (fractaldb, "points", 1, None),
    (fractaldb, "classes", 1, 1),  # there is one category
    *[(make, "classes", 1, 10**7) for make in (gr.OnePFrac, gr.VisualAtom, gr.ExFractalDB, searched)],
    (fractaldb, "instances", 1, 1000),  # 25 weights, 10 patches, 4 flips
    (visualatom, "instances", 1, 2**31 - 1),
    *[(make, "seed", 0, 2**64 - 1) for make in (fractaldb, exfractaldb, visualatom)],
    (rendered, "epoch", 0, LAST_EPOCH),
    (passes, "epoch", 0, LAST_EPOCH),
    (of_steps, "steps_per_epoch", 1, 2**40),
    (sheet, "rows", 1, 64),
    (sheet, "cols", 1, 64),
    (selected, "per_class", 1, 2**63 - 1),
    (selected, "limit", 1, 2**63 - 1),
    (tars, "per_tar", 1, 10**9),
    (measured, "batch_size", 1, 65_536),
    *[(make, "seed", 0, 2**64 - 1) for make in (CROPS, MIXES, ERASES)],
    (CROPS, "canvas_size", 1, 65_535),
    *[(make, "image_size", 1, 65_535) for make in (MIXES, ERASES)],
]
TRIPLES = [(policy, name, *bounds) for policy in (Crop, Resize, DeiT) for name, bounds in
           {"mean": (0.0, 1.0), "std": (0.001, 1000.0)}.items()]  # fmt: skip
PAIRS = [
    *[(policy, "scale", None, 1.0) for policy in (Crop, DeiT)],
    *[(policy, "ratio", 1 / 8192, 8192.0) for policy in (Crop, DeiT)],
    (DeiT, "re_area", 0.0, 1.0),
    (DeiT, "re_aspect", 1e-3, 1e3),
    (visualatom, "amplitudes", -4.0, 4.0),
    (visualatom, "noise_level", 0.0, 16.0),
    (visualatom, "line_width", 0.0, 16.0),
    (visualatom, "oval", 0.0, 16.0),
    (visualatom, "line_color", 0.0, 1.0),
    (visualatom, "nucleus", -4.0, 4.0),
    (paper, "axes", 0.0, 16_384.0),
    (rcdb, "noise_level", 0.0, 8.0),
    (rcdb, "line_width", 0.0, 16.0),
    (rcdb, "oval", 0.0, 16.0),
    (rcdb, "centre", -4.0, 4.0),
    (multifractal, "sizes", 0.01, 1.0),
    (singleimage, "thresholds", 0.0, 8.0),
]
INTEGER_PAIRS = [
    (DeiT, "re_count", 1, 64),
    (visualatom, "orbits", 1, 2048),
    (visualatom, "quantization", 3, 4096),
    (visualatom, "frequencies", 0, 4096),
    (visualatom, "radius", 0, 16_384),
    (rcdb, "polygons", 1, 2048),
    (rcdb, "vertices", 3, 4096),
    (rcdb, "radius", 0, 16_384),
    (rcdb, "greys", 0, 4096),
    (colorfractal, "maps", 1, 8),
    (multifractal, "objects", 1, 16),
]


ATOM = {"K": (1, 2048), "q": (3, 4096), "n1": (0, 4096), "n2": (0, 4096), "lambda1": (-4.0, 4.0),
        "lambda2": (-4.0, 4.0), "eta": (0.0, 16.0)}  # fmt: skip
POLYGON = {"K": (1, 2048), "V": (3, 4096), "c": (0.0, 8.0), "w": (0.0, 16.0)}
SIZES = {"r0": (0, 16_384), "oval_x": (0.0, 16.0), "oval_y": (0.0, 16.0)}
CLASSES = [  # of a family and a variant, the columns of a class and their bounds
    (gr.VisualAtom, "released", ATOM | {"w": (0.0, 16.0)} | SIZES),
    (gr.VisualAtom, "paper", ATOM | {"a1": (0.0, 16_384.0), "b1": (0.0, 16_384.0)}),
    (gr.RCDB, "released", POLYGON),
    (gr.RCDB, "paper", POLYGON | SIZES),
]
TABLES = [  # of what, which parameter, around one row: the largest magnitude of its numbers, and its width
    (fractaldb, "weights", lambda row: [row], 1e3, 6),
    (exfractaldb, "weights", lambda row: [row], 1e3, 12),
    (fractaldb, "categories", lambda row: [[row]], 1e6, 6),
    (exfractaldb, "categories", lambda row: [[row]], 1e6, 12),
    (onepfrac, "base", lambda row: [row], 1e6, 6),
]


def both_sides(make, name, low, high, beyond, form):
    """Take the bounds, and refuse the next values beyond them. A bound of ``None`` is another test's."""
    for bound, outside in ((low, -math.inf), (high, math.inf)):
        if bound is not None:
            make(**{name: form(bound)})
            with pytest.raises(ValueError, match=rf"^{name}(\[\d\])? must be .*got "):
                make(**{name: form(beyond(bound, outside))})


def step(bound, outside):
    return bound + (1 if outside > 0 else -1)


def one(value):
    return value


@pytest.mark.parametrize(("make", "name", "low", "high"), REALS)
def test_a_number(make, name, low, high):
    both_sides(make, name, low, high, math.nextafter, one)


@pytest.mark.parametrize(("make", "name", "low", "high"), INTEGERS)
def test_an_integer(make, name, low, high):
    both_sides(make, name, low, high, step, one)


@pytest.mark.parametrize(("make", "name", "low", "high"), TRIPLES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_of_three(make, name, low, high, place):
    both_sides(
        make, name, low, high, math.nextafter, lambda value: tuple(value if i == place else 0.5 for i in range(3))
    )


@pytest.mark.parametrize(("make", "name", "low", "high"), PAIRS)
def test_a_range(make, name, low, high):
    both_sides(make, name, low, high, math.nextafter, lambda value: (value, value))


@pytest.mark.parametrize(("make", "name", "low", "high"), INTEGER_PAIRS)
def test_a_range_of_integers(make, name, low, high):
    both_sides(make, name, low, high, step, lambda value: (value, value))


@pytest.mark.parametrize(("family", "variant", "columns"), CLASSES)
def test_a_parameter_of_a_given_class(family, variant, columns):
    """Whole numbers may be floats, as NumPy reads them."""
    lowest, highest = zip(*columns.values(), strict=True)
    assert family(categories=[lowest, highest], variant=variant).categories == (lowest, highest)
    assert family(categories=np.array([lowest, highest]), variant=variant).categories == (lowest, highest)
    for row, outside in ((lowest, -math.inf), (highest, math.inf)):
        for place, (name, bound) in enumerate(zip(columns, row, strict=True)):
            beyond = step(bound, outside) if isinstance(bound, int) else math.nextafter(bound, outside)
            with pytest.raises(ValueError, match=rf"^categories\[0\]: {name} must be .*got "):
                family(categories=[(*row[:place], beyond, *row[place + 1 :])], variant=variant)


@pytest.mark.parametrize(("make", "name", "within", "most", "width"), TABLES)
def test_a_number_of_a_table(make, name, within, most, width):
    ordinary = [0.5, 0.1, 0.2, 0.1, 0.6, 0.3, 0.2, 0.4, 0.7, 0.1, 0.2, 0.3][:width]
    for bound in (-most, most):
        make(**{name: within([bound, *ordinary[1:]])})
        with pytest.raises(ValueError, match=rf"^{name}(\[0\])+ must be .*got "):
            make(**{name: within([math.nextafter(bound, 2 * bound), *ordinary[1:]])})


@pytest.mark.parametrize(
    ("make", "name", "within", "most", "row"),
    [
        (fractaldb, "weights", lambda rows: rows, 1024, [1.0] * 6),
        (exfractaldb, "weights", lambda rows: rows, 1024, [1.0] * 12),
        (fractaldb, "categories", lambda rows: [rows], 64, ROWS[0]),
        (exfractaldb, "categories", lambda rows: [rows], 64, TETRAHEDRON[0]),
        (onepfrac, "base", lambda rows: rows, 64, ROWS[0]),
    ],
)
def test_the_rows_of_a_table(make, name, within, most, row):
    make(**{name: within([row] * most)})
    with pytest.raises(ValueError, match=rf"^{name}(\[0\])? must be a table of 1 to {most} rows"):
        make(**{name: within([row] * (most + 1))})


def test_labels_by_tables(monkeypatch):
    """A weight of a class, a matrix of probabilities and the sums of its rows, the largest matrix."""
    onepfrac(instances=3, class_prior=[1e9, 1e9])
    with pytest.raises(ValueError, match=r"^class_prior\[1\] must be "):
        onepfrac(instances=3, class_prior=[1e9, math.nextafter(1e9, math.inf)])
    for sign in (-1, 1):
        onepfrac(label_noise=[[1.0, 0.0], [0.5, 0.5 + sign * 0.99e-6]])
        with pytest.raises(ValueError, match=r"^label_noise\[1\] must add up to 1, got "):
            onepfrac(label_noise=[[1.0, 0.0], [0.5, 0.5 + sign * 1.01e-6]])
    for wrong in (math.nextafter(0.0, -1.0), math.nextafter(1.0, 2.0)):
        with pytest.raises(ValueError, match=r"^label_noise\[0\]\[1\] must be "):
            onepfrac(label_noise=[[0.0, wrong], [0.5, 0.5]])
    monkeypatch.setattr(labels, "_vector", lambda name, row, length, high: tuple(row))  # a million numbers take seconds
    gr.OnePFrac(classes=1024, label_noise=np.eye(1024).tolist())


def test_as_many_recipes_as_a_mixture_has():
    parts = {gr.OnePFrac(seed=seed): 1 for seed in range(64)}
    assert len(gr.Mixture(parts).recipes) == 64
    with pytest.raises(ValueError, match=r"^recipes must be 1 to 64 recipes and their weights, got 65$"):
        gr.Mixture(parts | {gr.OnePFrac(seed=64): 1})


@pytest.mark.parametrize(("name", "high"), [("epoch", LAST_EPOCH), ("position", 5)])
def test_the_numbers_of_a_state(name, high):
    for right in (0, high):
        resumed(name, right)
    for wrong in (-1, high + 1):
        with pytest.raises(ValueError, match=rf"^state\['{name}'\] must be .*got {wrong}"):
            resumed(name, wrong)


def test_a_shard_is_below_their_number():
    for right in ((0, 1), (0, 1_000_000), (999_999, 1_000_000)):
        assert shard(right) == shard("{}/{}".format(*right))
    for wrong in ((-1, 1), (1, 1), (0, 0), (0, 1_000_001), (1_000_000, 1_000_001)):
        for given in (wrong, "{}/{}".format(*wrong)):
            with pytest.raises(ValueError, match=r"^shard(\[\d\])? must be "):
                shard(given)


def test_a_share_of_a_mixture_is_above_0():
    weighted(1e9, 1e9)
    weighted(1.0, 1 / 65_535)
    for wrong in (0.0, -1.0, math.nextafter(1e9, math.inf)):
        with pytest.raises(ValueError, match=r"^weights\[1\] must be "):
            weighted(1e9, wrong)
    with pytest.raises(ValueError, match=r"^weights must be in the proportion of integers whose sum is at most 65536"):
        weighted(1.0, 1 / 65_536)


def test_views_and_their_sizes():
    for right in ((Crop(), 1), (Crop(), 64), (Crop(), 1, 1), (Crop(), 1, 65_535)):
        assert MultiCrop(right).views == right[1]
    for wrong in ((Crop(), 0), (Crop(), 65), (Crop(), 1, 0), (Crop(), 1, 65_536)):
        with pytest.raises(ValueError, match=r"^crops\[0\]\[[12]\] must be "):
            MultiCrop(wrong)
    assert MultiCrop((Crop(), 32), (Crop(), 32)).views == 64
    with pytest.raises(ValueError, match=r"^the number of views must be "):
        MultiCrop((Crop(), 33), (Crop(), 32))


def test_strengths_of_a_jitter():
    for right in ((0.0, 0.0, 0.0), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0, 0.0), (10.0, 10.0, 10.0, 0.5)):
        assert DeiT(auto_augment=None, color_jitter=right).color_jitter == right
    for place, high in enumerate((10.0, 10.0, 10.0, 0.5)):
        for wrong in (math.nextafter(0.0, -1.0), math.nextafter(high, 11.0)):
            given = tuple(wrong if i == place else 0.25 for i in range(4))
            with pytest.raises(ValueError, match=rf"^color_jitter\[{place}\] must be "):
                DeiT(auto_augment=None, color_jitter=given)


@pytest.mark.parametrize("place", [0, 1])
def test_a_size(place):
    image, box = torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.tensor([[0, 0, 4, 4]], dtype=torch.int32)
    flips, code = torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.uint8)
    for side in (1, 65_535):
        size = (side, 1) if place == 0 else (1, side)
        assert crop_resize(image, box, flips, code, size).shape[2:] == size
    for side in (0, 65_536):
        with pytest.raises(ValueError, match=rf"^size\[{place}\] must be "):
            crop_resize(image, box, flips, code, (side, 1) if place == 0 else (1, side))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_colour(place):
    for right in (0, 255):
        assert checked_fill([right if i == place else 9 for i in range(3)])[place] == right
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match=rf"^fill\[{place}\] must be "):
            checked_fill([wrong if i == place else 9 for i in range(3)])


@pytest.mark.parametrize("policy", [Crop, DeiT])
def test_a_scale_is_above_0(policy):
    least = math.nextafter(0.0, 1.0)
    assert policy(scale=(least, 1.0)).scale == (least, 1.0)
    for wrong in (0.0, -0.0):
        with pytest.raises(ValueError, match=r"^scale must be a pair \(low, high\) in \(0, 1\], got "):
            policy(scale=(wrong, 1.0))


@pytest.mark.parametrize("name", ["mixup_alpha", "cutmix_alpha"])
def test_an_alpha_is_0_or_a_thousandth_and_more(name):
    for right in (0.0, 0.001):
        DeiT(**{name: right})
    for wrong in (math.nextafter(0.0, 1.0), math.nextafter(0.001, 0.0), math.nextafter(0.0, -1.0)):
        with pytest.raises(ValueError, match=f"^{name} must be "):
            DeiT(**{name: wrong})


def test_sides_of_a_patch_are_shares_of_the_image():
    for right in ((0.0, 1.0), (0.0, 0.5), (0.5, 1.0)):
        assert DeiT(cutmix_minmax=right).cutmix_minmax == right
    for wrong in ((math.nextafter(0.0, -1.0), 0.5), (0.5, math.nextafter(1.0, 2.0)), (0.5, 0.5)):
        with pytest.raises(ValueError, match=r"^cutmix_minmax(\[\d\])? must be "):
            DeiT(cutmix_minmax=wrong)


@pytest.mark.parametrize(
    ("make", "name", "right"),
    [
        (Crop, "interpolation", ("nearest", "bilinear", "bicubic", "random")),
        (DeiT, "interpolation", ("nearest", "bilinear", "bicubic", "random")),
        (Resize, "interpolation", ("nearest", "bilinear", "bicubic")),
        (DeiT, "re_mode", ("const", "rand", "pixel")),
        (DeiT, "mixup_mode", ("batch", "pair", "elem")),
    ],
)
def test_a_word_is_one_of_a_few(make, name, right):
    for word in right:
        make(**{name: word})
    for wrong in ("", "Pixel", right[0].upper()):
        with pytest.raises(ValueError, match=f"^{name} must be one of "):
            make(**{name: wrong})
