"""Class priors and label noise: the published formulas, exact counts, and laws tested against scipy's."""

import json

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes.labels import noise_table
from tests.support.optional import optional

stats = optional("scipy.stats")

ATOM = {"image_size": 32, "orbits": (1, 3), "quantization": (5, 9)}


def atoms(**more):
    return gr.VisualAtom(**{"classes": 10, "instances": 500, **ATOM, **more})


def labels(recipe, **keywords):
    return gr.Renderer(recipe).labels(range(len(recipe)), **keywords)


# ------------------------------------------------------------------------------------------------------------- priors


@pytest.mark.parametrize(
    ("classes", "instances", "ratio"), [(10, 500, 100), (10, 500, 10.0), (100, 500, 100), (7, 50, 50)]
)
def test_the_long_tail_is_the_published_exponential(classes, instances, ratio):
    """Cui et al. 2019: img_max * imb_factor ** (class / (classes - 1)), cut down to an integer."""
    recipe = atoms(classes=classes, instances=instances, class_prior=ratio)
    exact = [instances * ratio ** (-c / (classes - 1)) for c in range(classes)]
    assert recipe.class_counts().tolist() == [int(x + 1e-6) for x in exact]
    assert recipe.class_counts()[-1] == instances // ratio
    assert len(recipe) == recipe.class_counts().sum()
    assert torch.equal(labels(recipe).bincount(), torch.from_numpy(recipe.class_counts()))


def test_weights_are_shares_of_the_largest_class():
    recipe = atoms(classes=4, instances=60, class_prior=[2, 1, 0, 0.5])
    assert recipe.class_counts().tolist() == [60, 30, 0, 15]
    assert labels(recipe).tolist() == [0] * 60 + [1] * 30 + [3] * 15


def test_the_last_of_two_classes_has_the_ratio_and_a_single_class_all_images():
    assert atoms(classes=2, instances=10, class_prior=2).class_counts().tolist() == [10, 5]
    assert atoms(classes=1, instances=10, class_prior=2).class_counts().tolist() == [10]
    assert atoms(classes=4, instances=60, class_prior=[2, 1, 0, 0.5]).first_samples().tolist() == [0, 60, 90, 90]
    assert atoms(classes=2, instances=10, class_prior=10).class_counts().tolist() == [10, 1]  # the largest ratio
    assert atoms(classes=2, instances=10, class_prior=[1, 0.1]).class_counts().tolist() == [10, 1]


def test_the_images_are_the_first_instances_of_every_class():
    wild = {
        "image_size": 64,
        "orbits": (8, 15),
        "quantization": (30, 60),
        "nucleus": (-0.2, 0.2),
        "radius": (2, 10),
    }  # all unlike
    whole, tail = (atoms(classes=3, instances=20, class_prior=prior, **wild) for prior in (None, 4))
    drawn, renderer = gr.Renderer(whole)(range(60)), gr.Renderer(tail)
    kept = [20 * c + i for c, n in enumerate(tail.class_counts()) for i in range(n)]
    assert torch.equal(renderer(range(len(tail))), drawn[kept])
    assert torch.equal(renderer(range(len(tail)), 1, fresh=False), gr.Renderer(whole)(kept, 1, fresh=False))
    fresh = renderer(range(len(tail)), 1)
    assert len({image.numpy().tobytes() for image in [*fresh, *drawn]}) == len(tail) + 60


def test_an_epoch_has_every_sample_once_and_resumes():
    recipe = atoms(classes=3, instances=20, class_prior=4)
    feed = gr.DataLoader(recipe, batch_size=5, image_size=24, shuffle=True)
    targets = torch.cat([targets for _, targets in feed])
    assert torch.equal(targets.bincount(), torch.from_numpy(recipe.class_counts()))
    state = feed.state_dict()
    assert state["length"] == len(recipe)
    with pytest.raises(ValueError, match="recipe is"):
        gr.DataLoader(atoms(classes=3, instances=20)).load_state_dict(state)


# -------------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("form", [np.array, np.float32, np.float64, torch.tensor])
def test_a_number_may_come_from_numpy_or_torch(form):
    recipe = atoms(class_prior=form(4.0), label_noise=form(0.25))
    assert (recipe.class_prior, recipe.label_noise) == (4.0, 0.25)
    assert recipe.to_json() == atoms(class_prior=4.0, label_noise=0.25).to_json()


def test_symmetric_noise_changes_the_share_asked_for_to_any_other_class():
    recipe = atoms(instances=5000, label_noise=0.3)
    clean, noisy = labels(atoms(instances=5000)), labels(recipe)
    wrong = noisy != clean
    assert stats.binomtest(int(wrong.sum()), len(recipe), 0.3).pvalue > 1e-4
    offsets = ((noisy - clean) % 10)[wrong].bincount(minlength=10)
    assert offsets[0] == 0
    assert stats.chisquare(offsets[1:].numpy()).pvalue > 1e-4


def test_class_dependent_noise_follows_its_matrix():
    matrix = [[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
    noisy = labels(atoms(classes=3, instances=8000, label_noise=matrix)).view(3, 8000)
    for row, found in zip(matrix, noisy, strict=True):
        counts = found.bincount(minlength=3).numpy()
        possible = np.array(row) > 0
        assert not counts[~possible].any()
        if possible.sum() > 1:
            assert stats.chisquare(counts[possible], 8000 * np.array(row)[possible]).pvalue > 1e-4


@pytest.mark.parametrize("noise", [1.0, [[0, 1], [1, 0]]])
def test_certain_noise_is_certain(noise):
    assert labels(atoms(classes=2, instances=300, label_noise=noise)).tolist() == [1] * 300 + [0] * 300


def test_what_is_rounded_away_is_the_last_possible_labels():
    """A row that adds up to a little less than 1 leaves nothing for a label that is impossible."""
    table = noise_table(((0.5, 0.4999995, 0.0), (0.0, 0.0, 0.9999995), (0.25, 0.25, 0.4999995)), 3)
    assert table.tolist() == [[2**31, 2**32, 2**32], [0, 0, 2**32], [2**30, 2**31, 2**32]]


def test_noise_stays_with_its_sample():
    """In every epoch, order and batch; new images have new noise. The pictures do not change."""
    recipe, clean = atoms(classes=5, instances=40, label_noise=0.5), atoms(classes=5, instances=40)
    noisy = labels(recipe)
    feed = gr.DataLoader(recipe, batch_size=7, image_size=24, shuffle=True)
    for epoch in range(2):
        feed.set_epoch(epoch)
        numbers = [*feed.sampler]
        assert torch.equal(torch.cat([targets for _, targets in feed]), noisy[numbers])
    assert torch.equal(labels(recipe, epoch=3, fresh=False), noisy)
    fresh = gr.DataLoader(recipe, batch_size=200, image_size=24, fresh=True)
    drawn = [next(iter(fresh))[1] for _ in range(2)]
    assert torch.equal(drawn[0], noisy)
    assert torch.equal(drawn[1], labels(recipe, epoch=1))
    assert not torch.equal(drawn[1], noisy)
    assert torch.equal(gr.Renderer(recipe)(range(9)), gr.Renderer(clean)(range(9)))
    dataset = gr.Dataset(recipe)
    assert [label for _, label in dataset.__getitems__(range(200))] == noisy.tolist()


def test_noise_and_prior_together_and_the_samples_own():
    whole, tail = (
        atoms(classes=3, instances=20, label_noise=0.5),
        atoms(classes=3, instances=20, class_prior=4, label_noise=0.5),
    )
    kept = [20 * c + i for c, n in enumerate(tail.class_counts()) for i in range(n)]
    assert torch.equal(labels(tail), labels(whole)[kept])


# ------------------------------------------------------------------------------------------------------------ as data


def test_options_without_effect_leave_the_fingerprint_and_others_change_it():
    plain = atoms(classes=2)
    alike = [atoms(classes=2, **more) for more in (
        {"class_prior": 1}, {"class_prior": [3, 3]}, {"label_noise": 0}, {"label_noise": [[1, 0], [0, 1]]},
        {"label_noise": 1e-12}, {"label_noise": [[1 - 1e-12, 1e-12], [0, 1]]}, {"class_prior": np.array(1.0)},
    )]  # fmt: skip
    assert {recipe.fingerprint for recipe in alike} == {plain.fingerprint}
    others = [atoms(classes=2, **more) for more in (
        {"class_prior": 2}, {"class_prior": [1, 2]}, {"label_noise": 0.1}, {"label_noise": [[1, 0], [0.5, 0.5]]},
    )]  # fmt: skip
    assert len({recipe.fingerprint for recipe in [plain, *others]}) == 5
    for recipe in [plain, *alike, *others]:
        assert gr.Recipe.from_json(recipe.to_json()) == recipe
    assert "class_prior" not in json.loads(plain.to_json())


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"class_prior": 0.5}, ValueError, "class_prior"),
        ({"class_prior": 501}, ValueError, "class_prior.*500"),
        ({"class_prior": "tail"}, TypeError, "class_prior"),
        ({"class_prior": True}, TypeError, "class_prior"),
        ({"class_prior": float("nan")}, ValueError, "class_prior"),
        ({"class_prior": [1] * 9}, ValueError, "class_prior.*10"),
        ({"class_prior": [0] * 10}, ValueError, "class_prior"),
        ({"class_prior": [1000] + [1] * 9}, ValueError, "class 1.*instances"),
        ({"class_prior": [-1] + [1] * 9}, ValueError, r"class_prior\[0\]"),
        ({"class_prior": {1: 2}}, TypeError, "class_prior"),
        ({"label_noise": 1.1}, ValueError, "label_noise"),
        ({"label_noise": -0.1}, ValueError, "label_noise"),
        ({"label_noise": "0.1"}, TypeError, "label_noise"),
        ({"label_noise": [[1, 0], [0, 1]]}, ValueError, "label_noise.*10"),
        ({"classes": 2, "label_noise": [[1, 0], [0, 0.9]]}, ValueError, r"label_noise\[1\].*0.9"),
        ({"classes": 2, "label_noise": [[1, 0], [0]]}, ValueError, r"label_noise\[1\]"),
        ({"classes": 2, "label_noise": [1, 0]}, TypeError, r"label_noise\[0\]"),
        ({"classes": 2, "label_noise": [[1, 0], [float("nan"), 1]]}, ValueError, r"label_noise\[1\]\[0\]"),
        ({"classes": 1, "label_noise": 0.1}, ValueError, "label_noise"),
        ({"classes": 1025, "label_noise": np.eye(1025)}, ValueError, "1024"),
    ],
)  # fmt: skip
def test_what_is_no_prior_and_no_noise_is_refused(more, error, says):
    with pytest.raises(error, match=says):
        atoms(**more)


def test_a_single_class_has_no_wrong_label():
    assert atoms(classes=1, label_noise=0.0).label_noise == 0.0
    with pytest.raises(ValueError, match=r"^label_noise must be 0 for a single class.*; got 0\.2$"):
        atoms(classes=1, label_noise=0.2)
