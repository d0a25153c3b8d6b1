"""Variations of systems against NumPy's singular values and the released rules."""

import numpy as np
import pytest
import torch

from gpurender.recipes import colored, sigma_factor, system_jitter
from tests.support import colored as plain
from tests.support.two_sample import same_counts, same_law

MAPS = 3


def systems(count, maps=MAPS, seed=5):
    return torch.from_numpy(sigma_factor.sample(seed, np.arange(count), maps, (5 + maps) / 2, 0.5))


def varied(base, kind, seed=1, first=0):
    counts = torch.full((len(base),), base.shape[1])
    return system_jitter.varied(base, counts, kind, seed, torch.arange(first, first + len(base)))


def linear(base):
    return base[..., :4].reshape(*base.shape[:-1], 2, 2).numpy()


def largest(base):
    """Largest singular value of each system."""
    return np.linalg.svd(linear(base), compute_uv=False).max((-1, -2))


def test_contraction_is_that_of_the_singular_values():
    rng = np.random.default_rng(0)
    some = torch.from_numpy(rng.uniform(-0.8, 0.8, (20_000, 1, 6)))
    assert np.array_equal(system_jitter.contracts(some).numpy(), largest(some) <= 1)
    assert 0.2 < system_jitter.contracts(some).double().mean() < 0.8
    exact = {(1.0, 0.5): True, (1.0, -1.0): True, (0.0, 1.0): True, (1.0 + 2.0**-40, 0.5): False, (2.0, 2.0): False}
    diagonal = torch.tensor([[[s1, 0.0, 0.0, s2, 9.0, 9.0]] for s1, s2 in exact], dtype=torch.float64)
    assert system_jitter.contracts(diagonal).tolist() == list(exact.values())  # 1 is not too large
    assert system_jitter.contracts(diagonal[[0, 3]].view(1, 2, 6)).tolist() == [False]  # one map is enough


@pytest.mark.parametrize("kind", system_jitter.KINDS)
def test_variations_contract_and_differ(kind):
    base = systems(500)
    found = varied(base, kind)
    assert largest(found).max() <= 1 + 1e-12
    changed = (found != base).flatten(1).any(1)
    assert changed.double().mean() > 0.4  # of "fractaldb-9" a fifth has the factor 1, and large factors expand
    assert torch.equal(found, varied(base, kind))
    assert not torch.equal(found, varied(base, kind, first=500))
    assert torch.equal(varied(base[7:9], kind, first=7), found[7:9])


def test_basic_scales_one_map():
    base = systems(4000)
    ratio = (varied(base, "basic") / base).numpy()  # [N, M, 6]
    assert (np.ptp(ratio, axis=2) < 1e-12).all()
    assert ((np.abs(ratio[:, :, 0] - 1) > 1e-12).sum(1) <= 1).all()
    rng, theirs = np.random.default_rng(3), []
    for rows in base.numpy():
        system = np.concatenate([rows[:, :4].reshape(-1, 2, 2), rows[:, 4:, None]], 2)
        changed = plain.jittered(system, rng)
        theirs.append((changed / system)[:, 0, 0])
    factor = [np.prod(row[:, 0]) for row in ratio]
    same_law(factor, np.prod(theirs, axis=1), "factor")
    same_counts(np.abs(ratio[:, :, 0] - 1).argmax(1), np.abs(np.array(theirs) - 1).argmax(1), "map")


def test_one_number_of_every_map_is_reweighted():
    base = systems(4000)
    found = varied(base, "fractaldb-4")
    ratio = (found / base).numpy()
    other = np.abs(ratio - 1) > 1e-12
    assert (other.sum(2) <= 1).all()
    assert np.isin(np.unique(np.round(ratio, 9)), (0.2, 0.6, 1.0, 1.4, 1.8)).all()
    changed = other.any((1, 2))
    assert (other[changed].sum(2) == 1).all()  # of every map
    assert all(
        len(np.unique(np.round(row[mask], 9))) == 1 for row, mask in zip(ratio, other, strict=True) if mask.any()
    )


def test_turns_keep_singular_values():
    base = systems(3000)
    found = varied(base, "svd")
    assert np.allclose(
        np.linalg.svd(linear(found), compute_uv=False), np.linalg.svd(linear(base), compute_uv=False), atol=1e-12
    )
    turned = (found[..., :4] != base[..., :4]).any(-1)
    moved = (found[..., 4:] != base[..., 4:]).any(-1)
    assert ((turned | moved).sum(1) <= 1).all()
    same_counts(turned.any(1).tolist(), (np.random.default_rng(0).random(9000) < 2 / 3).tolist(), "turned")
    shift = (found - base)[..., 4:][moved].flatten()
    same_law(shift, np.random.default_rng(0).uniform(-0.5, 0.5, 9000), "shift")
    angles, lefts = [], 0
    for before, after in zip(linear(base)[turned], linear(found)[turned], strict=True):
        left, right = after @ np.linalg.inv(before), np.linalg.inv(before) @ after
        is_rotation = [abs(m @ m.T - np.eye(2)).max() < 1e-6 for m in (left, right)]
        assert any(is_rotation)
        m = left if is_rotation[0] else right
        angles.append(np.arctan2(m[1, 0], m[0, 0]))
        lefts += is_rotation[0]
    same_law(angles, np.random.default_rng(1).uniform(-0.5, 0.5, 9000), "angle")
    assert abs(lefts / len(angles) - 0.5) < 0.05


def test_rescaled_values_keep_the_sigma_factor_in_its_range():
    """A map that may take all of the range's width is turned by half a turn now and then: its factor is negative."""
    base = systems(3000)
    found = varied(base, "sval")
    factor = (found / base)[..., 0].numpy()
    alpha = (np.linalg.svd(linear(base), compute_uv=False) @ [1, 2] * factor).sum(1)
    low = (5 + MAPS) / 2
    assert ((alpha >= low - 1e-9) & (alpha <= low + 0.5 + 1e-9)).all()
    same_law(alpha[::3], np.random.default_rng(0).uniform(low, low + 0.5, 3000), "sigma-factor")
    assert (((found != base).any(-1)).sum(1) <= 1).all()
    assert ((found != base).any(-1)).any(1).double().mean() > 0.9


def test_a_system_that_cannot_vary_stays():
    """All singular values 1, and every factor above 1: no try is accepted."""
    base = torch.tensor([[[1.0, 0, 0, 1, 0.5, 0]]], dtype=torch.float64).repeat(2000, 1, 1)
    found = varied(base, "basic")
    grew = 1 / 3  # of U(0.8, 1.1), above 1
    assert largest(found).max() <= 1
    assert abs((found == base).flatten(1).all(1).double().mean() - grew**4) < 0.01


def test_sine_and_cosine():
    x = torch.linspace(-0.5, 0.5, 1001, dtype=torch.float64)
    cosine, sine = system_jitter._cos_sin(x)
    assert (cosine - torch.cos(x)).abs().max() < 1e-15
    assert (sine - torch.sin(x)).abs().max() < 1e-15


def test_systems_are_sampled_alike_one_by_one_and_together(monkeypatch):
    together = sigma_factor.sample(9, np.arange(300), 4, 4.5, 0.5)
    one = [sigma_factor.sample(9, np.array([n]), 4, 4.5, 0.5)[0] for n in (0, 7, 299)]
    assert np.array_equal(together[[0, 7, 299]], one)
    assert sigma_factor.sample(9, np.arange(0), 4, 4.5, 0.5).shape == (0, 4, 6)
    monkeypatch.setattr(sigma_factor, "BATCH", 7)
    assert np.array_equal(sigma_factor.sample(9, np.arange(300), 4, 4.5, 0.5), together)


def test_a_catalog_has_the_law_of_the_released_file():
    maps, counts = colored.catalog(2, 1500, (2, 4), torch.device("cpu")).of(torch.arange(1500))
    rng = np.random.default_rng(6)
    theirs = [plain.sampled_system(rng) for _ in range(1500)]
    same_counts(counts.tolist(), [len(system) for system in theirs], "maps")
    for n in (2, 3, 4):
        ours = maps[counts == n][:, :n]
        others = np.array([system for system in theirs if len(system) == n])
        values = np.linalg.svd(linear(ours), compute_uv=False), np.linalg.svd(others[:, :, :, :2], compute_uv=False)
        for i in (0, 1):
            same_law(values[0][:, 0, i], values[1][:, 0, i], f"{n} maps, first map, s{i + 1}")
            same_law(values[0][:, -1, i], values[1][:, -1, i], f"{n} maps, last map, s{i + 1}")
        same_law(np.linalg.det(linear(ours))[:, 0], np.linalg.det(others[:, 0, :, :2]), "determinant")
        same_law(ours[:, 0, 0], others[:, 0, 0, 0], "a")
        same_law(ours[:, 0, 4], others[:, 0, 0, 2], "e")
        assert (maps[counts == n][:, n:] == 0).all()


def test_systems_are_played_from_the_fixed_point_of_their_first_map():
    base, counts = systems(200), torch.full((200,), MAPS)
    played = colored.playable(base, counts)
    fixed = [np.linalg.solve(np.eye(2) - m[0], t) for m, t in zip(linear(base), base[:, 0, 4:].numpy(), strict=True)]
    for i in range(MAPS):
        expected = np.einsum("nij,nj->ni", linear(base)[:, i], fixed) + base[:, i, 4:].numpy() - fixed
        assert np.allclose(played.maps[:, i, 4:], expected, atol=1e-4)
    assert played.maps[:, 0, 4:].abs().max() < 1e-6
    assert torch.equal(played.maps[..., :4], base[..., :4].float())
    weights = np.abs(np.linalg.det(linear(base)))
    assert np.abs(played.thresholds.numpy() - 65536 * weights.cumsum(1) / weights.sum(1, keepdims=True)).max() <= 0.51


def test_systems_without_a_fixed_point_or_an_area_are_played():
    shift = torch.tensor([[[1.0, 0, 0, 1, 0.5, 0], [0, 0, 0, 0, 0, 0]]], dtype=torch.float64)
    played = colored.playable(shift, torch.tensor([1]))
    assert torch.equal(played.maps[0, 0], torch.tensor([1.0, 0, 0, 1, 0.5, 0]))
    flat = colored.playable(0.0 * shift, torch.tensor([2]))
    assert flat.thresholds.tolist() == [[65536, 65536]]
