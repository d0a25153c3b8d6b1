"""OFDB: FractalDB's first image per category, new masks where it is wanted fresh, and the released rules."""

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes import ifs
from tests.support import ofdb_fidelity

BLOB = [[0.6, 0.2, -0.2, 0.6, x, y] for x, y in ((0, 0), (0.4, 0.1), (0.1, 0.4))]
MIRRORED = [[-0.5, 0.1, 0.2, 0.7, 0.3, 0.2], [0.6, -0.3, 0.1, 0.5, -0.2, 0.4]]
SMALL = {"categories": [ifs.TRIANGLE, BLOB, MIRRORED], "points": 3000, "image_size": 64}


def images(recipe, epoch=0, **options):
    return gr.Renderer(recipe)(list(range(len(recipe))), epoch, **options)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_images_are_fractaldb_s_first_ones(seed):
    """Released: of the released weights, whose first row is a times 0.2; paper: of the base itself."""
    first = {"instances": 1, "seed": seed, **SMALL}
    released, paper = (gr.OFDB(variant=variant, seed=seed, **SMALL) for variant in ("released", "paper"))
    assert torch.equal(images(released), images(gr.FractalDB(weights="base", **first)))
    assert torch.equal(images(paper), images(gr.FractalDB(weights=[[1.0] * 6], **first)))
    assert not torch.equal(images(released), images(paper))
    scaled = [[(0.2 * row[0], *row[1:]) for row in rows] for rows in SMALL["categories"]]
    shares = [ifs.map_probabilities(np.array([rows]))[0] for rows in SMALL["categories"]]  # of the base, not of these
    systems = [[(*row, p) for row, p in zip(*pair, strict=True)] for pair in zip(scaled, shares, strict=True)]
    assert torch.equal(
        images(released), images(gr.OFDB(variant="paper", seed=seed, **{**SMALL, "categories": systems}))
    )


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_the_categories_are_fractaldb_s(variant):
    """The same search, found once; the paper's has up to 8 maps."""
    few = {"classes": 3, "seed": 3, "variant": variant}
    ofdb, fractaldb = (gr.Renderer(family(**few)).catalog for family in (gr.OFDB, gr.FractalDB))
    assert torch.equal(ofdb.maps, fractaldb.maps)
    assert not gr.OFDB(**few).needs_search()


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_fresh_images_have_new_masks_and_the_same_points(variant, kept):
    recipe = gr.OFDB(variant=variant, **SMALL)
    weights = [[0.2 if variant == "released" else 1.0, *[1.0] * 5]]
    filled = gr.FractalDB(weights=weights, patches=1, flips=1, mask_mode="fill", **SMALL)
    covered = images(filled)[:, 0] > 0
    renderer = gr.Renderer(recipe, cache_bytes=kept)
    epochs = torch.stack([renderer([0, 1, 2], epoch, fresh=True)[:, 0] > 0 for epoch in range(60)])
    assert not epochs[:, ~covered].any()
    assert torch.equal(epochs.any(0), covered)  # 60 masks leave a pixel dark once in 10^18
    lit = epochs[:, covered].double()
    assert abs(lit.mean().item() - 256 / 511) < 4 * 0.5 / lit.numel() ** 0.5
    agreement = (epochs[:-1] == epochs[1:])[:, covered].double()
    assert abs(agreement.mean().item() - 0.5) < 4 * 0.5 / agreement.numel() ** 0.5
    assert torch.equal(renderer([0, 1, 2], 0), images(recipe))


def test_a_loader_repeats_its_images_unless_they_are_fresh():
    recipe = gr.OFDB(**SMALL)
    for fresh in (False, True):
        loader = gr.DataLoader(recipe, batch_size=3, image_size=64, device="cpu", fresh=fresh)
        first, second = next(iter(loader))[0], next(iter(loader))[0]
        assert torch.equal(first, second) is not fresh


def test_instances_differ_in_their_masks():
    single, several = (images(gr.OFDB(instances=n, **SMALL)) for n in (1, 4))
    several = several.reshape(3, 4, 64, 64)
    assert not torch.equal(several[:, 0], several[:, 1])
    assert torch.equal(several[:1, 0], single[0])  # of the first class, whose draw ids are the same


def test_a_fingerprint_changes_if_and_only_if_an_image_could():
    one = gr.OFDB(**SMALL).fingerprint
    changes = {"variant": "paper", "seed": 1, "points": 2000, "image_size": 65, "instances": 2, "classes": 2}
    assert len({one, *(gr.OFDB(**{**SMALL, name: value}).fingerprint for name, value in changes.items())}) == 7
    shares = [[(*row[:6], p) for *row, p in ifs.canonical(tuple(map(tuple, rows)))] for rows in SMALL["categories"]]
    assert gr.OFDB(**{**SMALL, "categories": shares}).fingerprint == one
    assert gr.OFDB(fill_rate=0.2).fingerprint == gr.OFDB().fingerprint != gr.OFDB(fill_rate=0.3).fingerprint
    assert gr.OFDB().fingerprint != gr.FractalDB(weights=[[0.2, *[1.0] * 5]], patches=1, flips=1).fingerprint


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_images_are_distributed_as_by_the_released_rules(shared_dir, variant):
    """Ink, extents and runs, by two-sample tests; the helper module renders hundreds when it is run as a script."""
    results = ofdb_fidelity.compare(shared_dir, variant, count=48, points=40_000, size=182)
    assert set(results) == {"ink", "width", "height", "run", "column", "row"}
    for name, p in results.items():
        assert p["two samples"] > 1e-3, (name, p)
        assert p["pairs"] > 1e-3, (name, p)


def test_the_comparison_notices_another_weight(shared_dir):
    """The released images against the rules of the paper's: what the two-sample tests would report."""
    results = ofdb_fidelity.compare(shared_dir, "released", count=48, points=40_000, size=182, weight=1.0)
    assert results["ink"]["two samples"] < 1e-4
    assert results["ink"]["pairs"] < 1e-6
