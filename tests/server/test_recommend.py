"""Recommendations, by hand, and drawing without replacement beside its sequential definition."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpurender as gr
from gpurender.server.catalogue import Catalogue, Entry, Expert
from gpurender.server.files import FileList
from gpurender.server.recommend import Budget, budget_of, recommendation
from gpurender.server.weighting import weights
from tests.server.support import FILES, NAMES, recipe

Z = {"ant": 0.3, "bee": 0.7, "cow": 0.65}


def catalogue(kind="recipes", added=0, seen=None, vectors=None):
    experts = tuple(Expert(name, "0" * 64, 1) for name in NAMES)
    if kind == "files":
        sources = tuple(Entry(n, None, len(FILES[n]), 1) for n in NAMES)
    else:
        names = (*NAMES, *(f"new-{i}" for i in range(added)))
        sources = tuple(Entry(name, recipe(number)) for number, name in enumerate(names))
    table = np.eye(len(sources), 3) if vectors is None else vectors
    return Catalogue("rotation", kind, experts, sources, table, seen or {}, {})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, Budget(images=1)), (2**50, Budget(images=2**50)), ("50000", Budget(images=50_000)),
        ("10M", Budget(images=10_000_000)), ("1.5k", Budget(images=1500)), ("2G", Budget(images=2 * 10**9)),
        (" 3k ", Budget(images=3000)), ("2.5GB", Budget(bytes=2_500_000_000)), ("2GiB", Budget(bytes=2**31)),
        ("700 B", Budget(bytes=700)), ("10m", Budget(images=10**7)), ("1.5KB", Budget(bytes=1500)),
        ("2TB", Budget(bytes=2 * 10**12)), ("1kiB", Budget(bytes=1024)), ("1 MB", Budget(bytes=10**6)),
    ],
)  # fmt: skip
def test_budgets(given, expected):
    assert budget_of(given) == expected


@pytest.mark.parametrize(
    "given", ["", "ten", "-5", "10P", "1e6", "0", "0.2", "2000000G", "5 M B", "k", "1.k", "9" * 400]
)
def test_other_budgets_are_refused(given):
    with pytest.raises(ValueError, match=r"^budget must be images, such as 50000 or 10M, or bytes, .* got "):
        budget_of(given)


@pytest.mark.parametrize("given", [0, 2**50 + 1])
def test_numbers_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match="budget must be an integer in"):
        budget_of(given)


def test_a_mixture_with_exact_shares_for_a_client():
    found = recommendation(catalogue(), Z, "10M")
    w = weights(np.array([0.3, 0.7, 0.65]))  # 0, 1, 0.875
    assert found.weights == dict(zip(NAMES, w.tolist(), strict=True))
    thousandths = [round(1000 * x) for x in w]
    assert thousandths == [0, 777, 223]
    assert isinstance(found.recipe, gr.Mixture)
    assert found.recipe == gr.Mixture({recipe(1): 777, recipe(2): 223})
    assert found.images == {"ant": 0, "bee": 7_770_000, "cow": 2_230_000}
    assert found.expert == "bee"
    assert found.files is None
    mean = (0.3 + 0.7 + 0.65) / 3
    assert found.gain_of == "score"
    assert found.expected_gain == pytest.approx(w @ [0.3, 0.7, 0.65] - mean)
    assert found.baselines["best_single"] == {"source": "bee", "expected_gain": pytest.approx(0.7 - mean)}
    assert found.baselines["equal_mixture"]["expected_gain"] == pytest.approx(0.0)
    text = json.loads(found.to_json())
    assert set(text) == {"weights", "images", "expert", "expected_gain", "baselines", "gain_of"}
    assert text["weights"] == found.weights
    assert text["images"] == found.images
    assert text["baselines"]["best_single"]["source"] == "bee"


def test_a_share_has_a_limit():
    found = recommendation(catalogue(), Z, 1000, 0.5)
    assert found.weights["bee"] == 0.5
    assert found.images["bee"] == 500
    assert sum(found.images.values()) == 1000
    with pytest.raises(ValueError, match="max_share must be at least 1/3"):
        recommendation(catalogue(), Z, 1000, 0.2)
    with pytest.raises(ValueError, match=r"max_share must be a finite number in \[0, 1\], got 1.5"):
        recommendation(catalogue(), Z, 1000, 1.5)


def test_gains_of_a_study():
    seen = {"one": {"scores": [0.1, 0.5, 0.3], "gains": [-0.02, 0.06, 0.01]},
            "two": {"scores": [0.6, 0.4, 0.2], "gains": [0.05, 0.00, -0.03]}}  # fmt: skip
    found = recommendation(catalogue(seen=seen), Z, 1000)
    z = np.array([[0.0, 1.0, 0.5], [1.0, 0.5, 0.0]])
    g = np.array([[-0.02, 0.06, 0.01], [0.05, 0.0, -0.03]])
    slope = ((z - z.mean(0)) * (g - g.mean(0))).sum() / ((z - z.mean(0)) ** 2).sum()
    gains = g.mean(0) + slope * (np.array([0.0, 1.0, 0.875]) - z.mean(0))
    assert found.gain_of == "accuracy"
    assert found.expected_gain == pytest.approx(weights(np.array([0.3, 0.7, 0.65])) @ gains)
    assert found.baselines["best_single"] == {"source": "bee", "expected_gain": pytest.approx(gains[1])}
    assert found.baselines["equal_mixture"]["expected_gain"] == pytest.approx(gains.mean())


def test_recipes_that_were_added_are_weighed_by_likeness():
    vectors = np.array([[0.9, 0.2, 0.3], [0.2, 0.9, 0.4], [0.3, 0.3, 0.9], [0.25, 0.8, 0.75]])
    found = recommendation(catalogue(added=1, vectors=vectors), Z, 1000)
    likeness = np.array([np.corrcoef(row, [0.3, 0.7, 0.65])[0, 1] for row in vectors])
    assert likeness.argmax() == 3
    w = weights(likeness)
    assert found.weights == pytest.approx(dict(zip((*NAMES, "new-0"), w.tolist(), strict=True)))
    assert found.expert == "bee"  # a source without an expert has nothing to start from
    through = np.vstack([np.eye(3), weights(vectors[3])])
    gains = np.array([0.3, 0.7, 0.65]) - 0.55
    assert found.expected_gain == pytest.approx(w @ through @ gains)


def test_scores_must_be_those_of_the_experts():
    with pytest.raises(ValueError, match=r"^scores: this server has no expert 'bees'; did you mean 'bee'\?$"):
        recommendation(catalogue(), {**Z, "bees": 0.1}, 10)
    with pytest.raises(ValueError, match=r"^scores must have a number for each of the 3 experts; 'cow' is missing$"):
        recommendation(catalogue(), {"ant": 0.1, "bee": 0.2}, 10)
    with pytest.raises(ValueError, match=r"scores\['bee'\] must be a finite number in \[0, 1\], got nan"):
        recommendation(catalogue(), {**Z, "bee": float("nan")}, 10)
    with pytest.raises(TypeError, match=r"scores must be a mapping of experts to numbers, got \[0.1\]"):
        recommendation(catalogue(), [0.1], 10)
    with pytest.raises(ValueError, match="budget must be images for a server of recipes, got '2GB'"):
        recommendation(catalogue(), Z, "2GB")


def test_more_sources_than_a_mixture_takes():
    many = catalogue(added=80, vectors=np.vstack([np.eye(3), np.tile([0.3, 0.7, 0.65], (80, 1))]))
    found = recommendation(many, Z, 10_000)
    assert len(found.recipe.recipes) == 64
    assert sum(found.images.values()) == 10_000
    assert len(found.weights) == 83


# -------------------------------------------------------------------------------------------------------------- files

LISTED = {name: FileList.of(rows) for name, rows in FILES.items()}


def test_files_within_a_budget():
    found = recommendation(catalogue("files"), Z, 3, files=LISTED)
    assert found.recipe is None
    assert len(found.files) == 3
    assert sum(found.images.values()) == 3
    assert found.images["ant"] == 0  # its weight is 3e-5
    assert set(found.files) == {"b/1.png", "c/1.png", "c/2.png"}
    everything = recommendation(catalogue("files"), Z, 100, files=LISTED)
    assert everything.images == {"ant": 2, "bee": 1, "cow": 2}
    assert everything.files[:3] == found.files
    other = [recommendation(catalogue("files"), Z, 5, files=LISTED, seed=seed).files for seed in range(8)]
    assert other[0] == everything.files
    assert len(set(other)) > 1


def test_bytes_are_a_budget_that_is_not_exceeded():
    sizes = {path: size for rows in FILES.values() for path, size in rows}
    order = recommendation(catalogue("files"), Z, 5, files=LISTED).files
    sums = np.cumsum([sizes[path] for path in order])
    for budget in range(1, 151):
        found = recommendation(catalogue("files"), Z, f"{budget}B", files=LISTED).files
        assert found == order[: int((sums <= budget).sum())]


def test_the_first_file_is_drawn_with_the_papers_probabilities():
    listed = {"ant": [(f"a/{i}", 1) for i in range(4)], "bee": [("b/0", 1)], "cow": [("c/0", 1), ("c/1", 1)]}
    listed = {name: FileList.of(rows) for name, rows in listed.items()}
    z = {"ant": 0.70, "bee": 0.60, "cow": 0.69}
    w = weights(np.array([0.70, 0.60, 0.69]))
    pi = {"a": w[0] / 4, "b": w[1], "c": w[2] / 2}  # equation 6
    draws = 4000
    first, second = {}, {}
    for seed in range(draws):
        files = recommendation(catalogue("files"), z, 2, files=listed, seed=seed).files
        first[files[0]] = first.get(files[0], 0) + 1
        second[files[1][0]] = second.get(files[1][0], 0) + (files[0][0] == "a")
    for path, count in first.items():
        p = pi[path[0]]
        assert abs(count - draws * p) < 5 * (draws * p * (1 - p)) ** 0.5
    begun = sum(count for path, count in first.items() if path[0] == "a")
    p = pi["c"] * 2 / (1 - pi["a"])  # of those that began with a: one of a is gone
    assert abs(second["c"] - begun * p) < 5 * (begun * p * (1 - p)) ** 0.5


@given(st.integers(0, 2**64 - 1), st.integers(1, 5))
def test_a_smaller_budget_gives_the_beginning_of_a_larger_one(seed, count):
    whole = recommendation(catalogue("files"), Z, 5, files=LISTED, seed=seed)
    assert recommendation(catalogue("files"), Z, count, files=LISTED, seed=seed).files == whole.files[:count]


def test_files_must_be_known():
    with pytest.raises(ValueError, match="files must be given for a server of files"):
        recommendation(catalogue("files"), Z, 3)
