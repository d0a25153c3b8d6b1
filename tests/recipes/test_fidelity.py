"""Our images against the released rules: a sequential float64 chaos game and patches pasted one by one."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes import ifs
from gpurender.recipes.fractaldb import weight_set
from gpurender.recipes.onepfrac import sample_system
from tests.support.released import iou, masked_patches, patches, pixels, sequential_game, sequential_singular_values

SIZE, POINTS = 362, 200_000
SIERPINSKI = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]


def occupancy(system, seed=0):
    """bool [SIZE, SIZE]: the pixels our renderer covers with filled patches for one system [M, 7]."""
    recipe = gr.OnePFrac(
        classes=1, base=system, delta=0.0, points=POINTS, image_size=SIZE, fill_rate=0.0, mask_mode="fill", seed=seed
    )
    return gr.Renderer(recipe)(0)[0, 0].numpy() > 0


def sequential_occupancy(system, rng):
    xs, ys = sequential_game(system[:, :6], np.cumsum(system[:, 6]), rng.random(POINTS))
    return patches(*pixels(xs, ys, SIZE), SIZE)


@pytest.fixture(scope="module")
def tame_systems(shared_dir):
    """Published categories x weights whose orbit stays within 1,000; arrays [M, 7]."""
    rng = np.random.default_rng(7)
    files = sorted((shared_dir / "data" / "fractaldb-1k" / "categories").glob("*.csv"))
    weights = np.loadtxt(shared_dir / "data" / "fractaldb-1k" / "weights" / "weights_0.4.csv", delimiter=",")
    tame = []
    for file in files[::7]:
        system = np.loadtxt(file, delimiter=",", ndmin=2)
        system[:, :6] *= weights[rng.integers(len(weights))]
        xs, ys = sequential_game(system[:, :6], np.cumsum(system[:, 6]), rng.random(POINTS))
        if np.isfinite([xs, ys]).all() and max(np.abs(xs).max(), np.abs(ys).max()) < 1e3:
            tame.append(system)
    return tame


def best_shift(image, other):
    """The (rows, columns) by which moving ``other`` makes it fit ``image`` best, up to 3 pixels each way."""
    steps = range(-3, 4)
    return max((iou(image, np.roll(other, (dy, dx), (0, 1))), dy, dx) for dy in steps for dx in steps)[1:]


def test_occupancy_is_as_near_a_sequential_game_as_another_sequential_game(tame_systems):
    """>= 100 published category x weight systems: mean IoU within 0.02, and no picture shifted, mirrored or turned.

    The extreme points set the frame, so two sequential games are themselves a pixel or three apart; ours must not be
    further.
    """
    rng = np.random.default_rng(11)
    assert len(tame_systems) >= 100
    theirs, ours, our_shifts, their_shifts = [], [], [], []
    for i, system in enumerate(tame_systems):
        first, second = (sequential_occupancy(system, rng) for _ in range(2))
        mine = occupancy(system, seed=i)
        theirs.append(iou(first, second))
        ours.append((iou(first, mine) + iou(second, mine)) / 2)
        if theirs[-1] > 0.85:
            our_shifts.append(best_shift(first, mine))
            their_shifts.append(best_shift(first, second))
            turned = [mine[::-1], mine[:, ::-1], mine[::-1, ::-1], mine.T]
            other = [image for image in turned if iou(mine, image) < 0.75]  # unless it is nearly its own mirror image
            assert all(iou(first, mine) > iou(first, image) for image in other)
    print(f"\n{len(ours)} systems: IoU of sequential games {np.mean(theirs):.4f}, ours {np.mean(ours):.4f}")
    print(
        f"mean shift {np.mean(our_shifts, axis=0)}, size {np.abs(our_shifts).mean():.2f}, "
        f"of sequential games {np.abs(their_shifts).mean():.2f}"
    )
    assert abs(np.mean(theirs) - np.mean(ours)) < 0.02
    assert len(our_shifts) >= 40
    assert np.abs(np.mean(our_shifts, axis=0)).max() < 0.6
    assert np.abs(our_shifts).mean() < np.abs(their_shifts).mean() + 0.4


def test_perturbed_bases_of_1p_frac_fit_as_well():
    """The slowly turning spirals of sigma 3.5 mix slowly; many short walks must not show."""
    rng = np.random.default_rng(3)
    theirs, ours = [], []
    for seed in range(100):
        base = sample_system(seed, 0, 2, 3.5)
        system = np.c_[base * rng.uniform(0.9, 1.1, base.shape), ifs.map_probabilities(base[None])[0]]
        first, second = (sequential_occupancy(system, rng) for _ in range(2))
        mine = occupancy(system, seed)
        if first.mean() < 0.05:
            continue  # what the fill rate refuses
        theirs.append(iou(first, second))
        ours.append((iou(first, mine) + iou(second, mine)) / 2)
    print(f"\nIoU of sequential games {np.mean(theirs):.4f}, ours {np.mean(ours):.4f}")
    assert abs(np.mean(theirs) - np.mean(ours)) < 0.02


def test_masks_light_256_of_511_covered_pixels():
    recipe = gr.FractalDB(categories=[SIERPINSKI], weights=[[1] * 6], patches=40, flips=1)
    masked = gr.Renderer(recipe)(list(range(40)))[:, 0].numpy() > 0
    filled = gr.Renderer(gr.FractalDB(categories=[SIERPINSKI], weights=[[1] * 6], flips=1, mask_mode="fill"))(0)
    covered = filled[0, 0].numpy() > 0
    assert not masked[:, ~covered].any()
    shares = masked[:, covered].mean(axis=1)
    deviation = 0.5 / np.sqrt(covered.sum())
    assert np.abs(shares - 256 / 511).max() < 0.01
    assert abs(shares.mean() - 256 / 511) < 4 * deviation / np.sqrt(len(shares))
    per_pixel = masked[:, covered].mean(axis=0)  # no pixel is fixed, no two images agree more than chance
    assert 0.05 < per_pixel.min() < per_pixel.max() < 0.95
    assert abs((masked[0] == masked[1])[covered].mean() - 0.5) < 5 * deviation


def test_masks_are_distributed_as_patches_pasted_one_by_one():
    """Second-order statistics (neighbours lit together) of our masks and of the released pasting, on the same
    occupancy.
    """
    rng = np.random.default_rng(5)
    size, points = 128, 20_000
    recipe = gr.OnePFrac(
        classes=1, instances=30, base=SIERPINSKI, delta=0.0, points=points, image_size=size, fill_rate=0.0
    )
    ours = gr.Renderer(recipe)(list(range(30)))[:, 0].numpy() > 0
    system = np.c_[np.array(SIERPINSKI), np.full(3, 1 / 3)]
    columns, rows = pixels(*sequential_game(system[:, :6], np.cumsum(system[:, 6]), rng.random(points)), size)
    theirs = np.array([masked_patches(columns, rows, size, rng) for _ in range(30)])
    for image in (ours, theirs):
        covered = image.any(axis=0)
        for axis in (0, 1):
            both = covered & np.roll(covered, 1, axis)
            together = (image & np.roll(image, 1, axis + 1))[:, both].mean()
            assert abs(together - (256 / 511) ** 2) < 0.01


def test_given_the_same_points_the_frame_is_the_released_one():
    """Our own float32 points, framed by the released float64 rule: the same but for rounding at borders."""
    from gpurender.kernels.device import cpu_bitmap

    rng = np.random.default_rng(0)
    for _ in range(20):
        xs, ys = (rng.normal(rng.normal(), 10 ** rng.uniform(-3, 3), 5000).astype(np.float32) for _ in range(2))
        size = int(rng.integers(16, 1000))
        found = np.empty(len(xs), np.int32)
        frame = np.array([xs.min(), xs.max(), ys.min(), ys.max()], np.float32)
        cpu_bitmap.locate(xs, ys, frame, size, size, found)
        columns, rows = pixels(xs, ys, size)
        assert np.mean((found % size == columns) & (found // size == rows)) > 0.999
        assert found.max() // size == size - 6 == (found % size).max()
        assert found.min() // size == 6 == (found % size).min()


def test_colour_advances_along_the_walk_and_later_points_lie_on_top():
    from gpurender.kernels.chaos_game import cpu, cpu_walk, tables

    size, points = 64, 3000
    recipe = gr.OnePFrac(
        classes=1,
        base=SIERPINSKI,
        delta=0.0,
        points=points,
        image_size=size,
        fill_rate=0.0,
        draw_type="patch_color",
        mask_mode="fill",
    )
    renderer = gr.Renderer(recipe)
    renderer(0)
    systems = recipe._systems(0, np.array([0]), renderer.catalog.attempts[:1])
    xs, ys, frame = cpu_walk.walks(systems, torch.zeros(1, dtype=torch.int64, device="cpu"), 0, points)()(0)
    found = np.empty(points, np.int32)
    cpu.locate(xs, ys, frame, size, size, found)
    walkers = cpu_walk.walker_count(points)
    steps = -(-points // walkers)
    expected = np.zeros((size, size, 3), np.uint8)
    for i, place in enumerate(found):  # painter's order
        y, x = divmod(int(place), size)
        expected[y + 1 : y + 4, x + 1 : x + 4] = tables.palette(torch.device("cpu")).numpy()[
            (i % walkers * steps + i // walkers) % 128
        ]
    assert np.array_equal(renderer(0)[0].permute(1, 2, 0).numpy(), expected[::-1])


def test_palette_is_the_released_colour_wheel():
    """Six sectors of a wheel at saturation and intensity 0.75: extremes 47 and 191, one channel between."""
    from gpurender.kernels.chaos_game import tables

    wheel = tables.palette(torch.device("cpu")).numpy().astype(int)
    assert wheel.shape == (128, 3)
    assert (wheel.max(1) == 191).all()
    assert (wheel.min(1) == 47).all()
    assert wheel[0].tolist() == [47, 47, 191]  # blue first: the released tuple is in BGR order, stored as RGB
    assert len(np.unique(wheel, axis=0)) > 120
    for i in range(128):  # in exact arithmetic: 3/4 (1 - 3/4 f) 255 within a sector, f its fraction, or 1 - f
        sector, fraction = divmod(Fraction(6 * i, 128), 1)
        falling, rising = (int(Fraction(3, 4) * (1 - Fraction(3, 4) * f) * 255) for f in (fraction, 1 - fraction))
        assert sorted(wheel[i].tolist())[1] == (falling if sector % 2 else rising), i


def test_flips_and_turns():
    square = gr.FractalDB(categories=[SIERPINSKI], weights=[[1] * 6])
    plain, top_bottom, left_right, both = gr.Renderer(square)([0, 1, 2, 3])[:, 0]
    assert torch.equal(top_bottom, plain.flip(0))
    assert torch.equal(left_right, plain.flip(1))
    assert torch.equal(both, plain.flip(0).flip(1))
    turned = gr.FractalDB(
        categories=[SIERPINSKI], weights=[[1] * 6], variant="paper", mask_mode="fill", points=1_000_000
    )
    images = gr.Renderer(turned)([0, 1, 2, 3])[:, 0].numpy() > 0
    for quarter in range(4):
        back = np.rot90(images[quarter], -quarter)
        assert iou(back, images[0]) > 0.8
        assert quarter == 0 or iou(images[quarter], images[0]) < 0.7


def test_flips_share_their_masks_in_the_released_data_only():
    """Of a full square the masks are all there is to see: half of its pixels differ where they are others."""
    full = [[0.5, 0, 0, 0.5, x, y] for x in (0, 0.5) for y in (0, 0.5)]
    square = gr.FractalDB(categories=[full], weights=[[1] * 6], points=200_000, image_size=64)
    inner = (slice(16, 48), slice(16, 48))
    for samples, fresh, different in (([0, 1, 2, 3], False, (0, 0)), ([0, 1, 2, 3], True, (0.4, 0.6))):
        plain, *others = (gr.Renderer(square)(samples, fresh=fresh)[:, 0] > 0).unbind(0)
        for other, axes in zip(others, ((0,), (1,), (0, 1)), strict=True):
            share = (other.flip(*axes) != plain)[inner].double().mean().item()
            assert different[0] <= share <= different[1], (samples, fresh, axes)
    first, second = (gr.Renderer(square)([0, 4])[:, 0] > 0).unbind(0)  # two patches of one weight
    assert 0.4 < (first != second)[inner].double().mean() < 0.6


def test_the_released_images_of_a_category_and_weight_share_their_points():
    base = {"categories": [SIERPINSKI], "weights": [[1] * 6], "patches": 3, "draw_type": "point_gray"}
    released = gr.Renderer(gr.FractalDB(**base))
    images = released(list(range(12)))[:, 0]
    assert torch.equal(images[0], images[4])
    assert torch.equal(images[0], images[8])
    anew = released([0, 4], fresh=True)[:, 0]
    assert not torch.equal(anew[0], anew[1])
    paper = gr.Renderer(gr.FractalDB(**base, variant="paper"))([0, 4])[:, 0]
    assert not torch.equal(paper[0], paper[1])


def test_weights_are_the_published_files(shared_dir):
    for spread, name in ((0.2, "0.2"), (0.4, "0.4")):
        published = np.loadtxt(shared_dir / "data" / "fractaldb-1k" / "weights" / f"weights_{name}.csv", delimiter=",")
        assert np.array_equal(np.array(weight_set(spread)), published)


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_the_first_image_of_every_class_is_filled(variant):
    """By its own points, which in the paper's variant are no other class's; many perturbations are too sparse."""
    common = {
        "classes": 120,
        "instances": 3,
        "base": SIERPINSKI,
        "points": 400,
        "image_size": 32,
        "variant": variant,
        "delta": 0.4,
    }

    def lit(fill_rate):
        renderer = gr.Renderer(gr.OnePFrac(fill_rate=fill_rate, **common))
        return (renderer(range(0, 360, 3)) > 1).flatten(1).float().mean(1)

    assert 20 < (lit(0.0) <= 0.144).sum() < 100
    assert lit(0.144).min() > 0.144


@pytest.mark.parametrize("maps", [1, 2, 3, 6])
def test_sigma_factor_of_sampled_systems_is_exact(maps):
    """sum s1 + 2 s2 is within 0.1 of sigma, and no map expands."""
    found = []
    for candidate in range(200):
        sigma = 0.4 + (3 * maps - 0.4) * candidate / 199
        system = sample_system(99, candidate, maps, sigma)
        values = np.linalg.svd(system[:, :4].reshape(-1, 2, 2), compute_uv=False)
        assert (values <= 1 + 1e-12).all()
        assert abs((values @ [1, 2]).sum() - sigma) <= 0.1 + 1e-12
        assert (np.abs(system[:, 4:]) <= 1).all()
        found.append((values @ [1, 2]).sum() - sigma)
    assert np.std(found) == pytest.approx(0.2 / np.sqrt(12), rel=0.25)


@pytest.mark.parametrize("sigma", [1.0, 3.5, 5.0])
def test_singular_values_follow_the_released_sampler(sigma):
    """Each of the four singular values of two maps, against the released sequential sampler (Kolmogorov-Smirnov)."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    theirs = np.array([sequential_singular_values(2, rng.uniform(sigma - 0.1, sigma + 0.1), rng) for _ in range(2000)])
    systems = np.array([sample_system(8, candidate, 2, sigma) for candidate in range(2000)])
    ours = np.linalg.svd(systems[:, :, :4].reshape(-1, 2, 2, 2), compute_uv=False)
    for a, b in zip(ours.reshape(2000, 4).T, theirs.reshape(2000, 4).T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-4


def test_orientation_of_sampled_maps_is_uniform():
    """Angles of the first column of U are uniform on the circle and half of the maps mirror."""
    systems = np.array([sample_system(5, candidate, 2, 3.5) for candidate in range(1500)]).reshape(-1, 6)
    a, b, c, d = systems[:, :4].T
    assert abs(np.mean(a * d - b * c < 0) - 0.5) < 0.05
    angle = np.arctan2(c, a)
    counts, _ = np.histogram(angle, bins=12, range=(-np.pi, np.pi))
    expected = len(angle) / 12
    assert ((counts - expected) ** 2 / expected).sum() < 35  # chi-square, 11 degrees of freedom, p ~ 2e-4


def test_the_search_accepts_what_a_sequential_game_would():
    """Every category of a small search fills 20 % (within sampling) in a sequential game; the released acceptance is
    2.6 %.
    """
    from gpurender.recipes.fractaldb import candidates

    recipe = gr.FractalDB(classes=20, seed=3)
    found = np.array(recipe._search(torch.device("cpu")))[:20]
    assert 20 / (found[-1] + 1) == pytest.approx(0.026, rel=0.7)
    maps, probabilities, counts = candidates(3, "released", found)
    rng = np.random.default_rng(1)
    for system, p, count in zip(maps, probabilities, counts, strict=True):
        xs, ys = sequential_game(system[:count], np.cumsum(p[:count]), rng.random(100_000))
        columns, rows = pixels(xs, ys, 512)
        assert len(np.unique(rows.astype(int) * 512 + columns)) / 512**2 > 0.18
    everything = candidates(3, "released", np.arange(20_000))
    assert np.bincount(everything[2]).tolist()[:2] == [0, 0]
    assert set(everything[2]) == set(range(2, 8))
    assert set(candidates(3, "paper", np.arange(20_000))[2]) == set(range(2, 9))
    inside = np.concatenate(
        [system[:count].ravel() for system, count in zip(everything[0], everything[2], strict=True)]
    )
    assert inside.min() >= -1
    assert inside.max() < 1
    assert abs(inside.mean()) < 0.01
