"""Several fractals in one image: the law of the images, and labels that tell what is in them, through every
consumer."""

import dataclasses

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.commands.image_folder.verify import verify
from gpurender.kernels.soft_targets import soft_targets
from gpurender.recipes import multifractal
from tests.recipes.test_colorfractal import features, pictures
from tests.support import colored as plain
from tests.support.two_sample import same_counts, same_law

SMALL = {"classes": 7, "instances": 6, "points": 500, "image_size": 32, "seed": 3}


def small(**changes):
    return gr.MultiFractal(**SMALL | changes)


@pytest.fixture
def black(monkeypatch):
    """Backgrounds are black."""

    def nothing(seed, draw_ids, size, unit):
        return torch.zeros((len(draw_ids), 3, size, size), dtype=torch.uint8)

    monkeypatch.setattr(multifractal.colored, "backgrounds", nothing)


@pytest.mark.usefixtures("black")
def test_images_have_the_law_of_the_released_rules():
    count, rng = 250, np.random.default_rng(8)
    recipe = small(classes=count, instances=1, points=2000, image_size=48)
    theirs = np.stack([plain.collage(48, 2000, rng) for _ in range(count)])
    ours, others = features(pictures(recipe), False), features(theirs, False)
    for name in ours:
        same_law(ours[name], others[name], name)


@pytest.mark.usefixtures("black")
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("epoch", [0, 2])
def test_labels_tell_what_is_in_the_image(monkeypatch, epoch, fresh):
    """Class 0 is a full square, class 1 a line: two objects show which of them are there."""
    quarter = [[0.5, 0, 0, 0.5, x, y] for x in (0, 0.5) for y in (0, 0.5)]
    line = [[0.5, 0, 0, 1e-9, 0, 0], [0.5, 0, 0, 1e-9, 0.5, 0], [0] * 6, [0] * 6]
    recipe = small(classes=2, instances=60, objects=(2, 2), sizes=(0.6, 0.6), points=20_000, image_size=128)
    maps, counts = torch.tensor([quarter, line], dtype=torch.float64), torch.tensor([4, 2])
    catalog = dataclasses.replace(recipe.catalog(torch.device("cpu")), maps=maps, counts=counts, pages=None)
    monkeypatch.setattr(gr.MultiFractal, "catalog", lambda self, device, cache_bytes=0: catalog)
    renderer = gr.Renderer(recipe)
    ink = renderer(range(120), epoch, fresh=fresh).any(1).sum((1, 2))
    labels = renderer.labels(range(120), epoch, fresh=fresh)
    assert labels.dtype == torch.float32
    assert labels.shape == (120, 2)
    first = torch.arange(120) // 60
    assert (labels[torch.arange(120), first] == 1).all()
    assert torch.equal(ink > 1100, labels[:, 0] == 1)  # a quarter of 76 x 76 pixels is 1,444; two lines have 850
    assert 0.3 < (labels.sum(1) == 2).float().mean() < 0.7
    assert torch.equal(renderer.labels(range(120), fresh=False), renderer.labels(range(120), 5, fresh=False))


def test_fresh_draws_other_classes_for_the_other_objects():
    renderer = gr.Renderer(small(classes=50))
    samples = list(range(0, 300, 3))
    labels = [renderer.labels(samples, epoch) for epoch in range(3)]
    assert not torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[1], labels[2])
    for rows in labels:
        assert (rows[torch.arange(100), torch.tensor(samples) // 6] == 1).all()
    assert torch.equal(labels[0], renderer.labels(samples, fresh=True))  # epoch 0 is the dataset


def test_numbers_and_classes_of_objects_are_uniform():
    recipe = gr.MultiFractal(classes=20, instances=1000, systems=3)
    indices = torch.arange(20_000)
    exist, classes, systems = recipe.composition(indices // 1000, indices)
    rng = np.random.default_rng(0)
    same_counts(exist.sum(1).tolist(), rng.integers(1, 6, 20_000).tolist(), "number")
    assert (exist[:, :-1] >= exist[:, 1:]).all()
    same_counts(classes[exist].tolist(), rng.integers(0, 20, 60_000).tolist(), "classes")
    assert torch.equal(systems // 3, classes)
    same_counts((systems % 3)[exist].tolist(), rng.integers(0, 3, 60_000).tolist(), "systems")
    rows = gr.Renderer(recipe).labels(indices)
    for n in range(0, 20_000, 997):
        assert rows[n].nonzero()[:, 0].tolist() == sorted(set(classes[n][exist[n]].tolist()))


def test_places_are_those_of_the_released_rules():
    recipe = gr.MultiFractal(classes=4, instances=9)
    u = torch.from_numpy(np.random.default_rng(0).integers(0, 2**32, (5000, 5)))
    places = recipe._places(u, torch.ones(5000, dtype=torch.bool)).numpy()
    rng = np.random.default_rng(1)
    sides = (rng.uniform(0.15, 0.6, 5000) * 224).astype(int)
    same_law(places[:, 2], sides, "side")
    for axis in (0, 1):
        same_law(places[:, axis], rng.integers(-(sides // 2), 224 - sides // 2), "place")
    assert (recipe._places(u, torch.zeros(5000, dtype=torch.bool))[:, 2] == 0).all()
    tiny = small(sizes=(0.01, 0.01))  # a third of a pixel
    assert (tiny._places(u, torch.ones(5000, dtype=torch.bool))[:, 2] == 1).all()


def test_one_object_of_full_size_is_one_class():
    recipe = small(objects=(1, 1))
    labels = gr.Renderer(recipe).labels(range(42))
    assert torch.equal(labels, torch.nn.functional.one_hot(torch.arange(42) // 6, 7).float())


# ------------------------------------------------------------------------------------------------------- consumers


@pytest.mark.parametrize("fresh", [False, True])
def test_a_loader_s_targets_are_the_labels(fresh):
    recipe = small()
    loader = gr.DataLoader(recipe, batch_size=6, image_size=24, shuffle=True, fresh=fresh, device="cpu", seed=5)
    loader.set_epoch(2)
    renderer, order = gr.Renderer(recipe), list(loader.sampler)
    for number, (images, targets) in enumerate(loader):
        samples = order[6 * number : 6 * number + 6]
        assert targets.dtype == torch.float32
        assert torch.equal(targets, renderer.labels(samples, 2 if fresh else 0, fresh=fresh))
        loss = torch.nn.BCEWithLogitsLoss()(torch.zeros(6, 7), targets)
        assert abs(float(loss) - np.log(2)) < 1e-6
        assert images.shape == (6, 3, 24, 24)


def test_policies_mix_targets_as_they_mix_images():
    recipe = small()
    policy = gr.augment.DeiT(label_smoothing=0.2, mixup_mode="elem")
    labels = gr.Renderer(recipe).labels(range(8))
    parameters = policy.draw(range(8), canvas_size=32, image_size=24)
    targets = policy.targets(labels, parameters, 7)
    weights = parameters["mix_weights"][:, None]
    assert ((weights > 0) & (weights < 1)).any()
    smooth = labels.double() * 0.8 + 0.2 / 7
    assert torch.allclose(targets.double(), weights * smooth + (1 - weights) * smooth.flip(0), atol=1e-6)
    assert targets.dtype == torch.float32
    assert (targets.sum(1) > 1.01).any()  # nothing is normalised
    plain_policy = gr.augment.DeiT(label_smoothing=0, mixup_alpha=0, cutmix_alpha=0)
    assert torch.equal(plain_policy.targets(labels, {}, 7), labels)
    loader = gr.DataLoader(recipe, batch_size=8, image_size=24, augment=policy, device="cpu")
    assert torch.equal(next(iter(loader))[1], targets)
    wide = policy.targets(labels, parameters, 9)
    assert wide.shape == (8, 9)
    assert torch.allclose(wide[:, 7:], torch.full((8, 2), 0.2 / 9))


def test_one_hot_rows_are_smoothed_as_their_labels_are():
    labels, weights = torch.tensor([2, 0, 1]), torch.tensor([0.3, 1.0, 0.25], dtype=torch.float64)
    rows = torch.nn.functional.one_hot(labels, 4).float()
    for smoothing in (0.0, 0.1):
        for given in (None, weights):
            assert torch.equal(soft_targets(rows, given, 4, smoothing), soft_targets(labels, given, 4, smoothing))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((2, 3), 0.5), "labels must be 0 and 1"),
        (torch.zeros(2, 4), "labels must have at most 3 columns, one a class, got 4"),
        (torch.zeros((2, 3), dtype=torch.int64), "labels must be a tensor of torch.float32"),
    ],
)
def test_wrong_rows_are_refused(labels, message):
    policy = gr.augment.DeiT(mixup_alpha=0, cutmix_alpha=0)
    with pytest.raises((TypeError, ValueError), match=message):
        policy.targets(labels, {}, 3)


def test_a_dataset_gives_rows():
    recipe = small()
    dataset = gr.Dataset(recipe)
    image, label = dataset[11]
    assert image.size == (32, 32)
    assert torch.equal(label, gr.Renderer(recipe).labels(11)[0])
    batch = torch.utils.data.default_collate([dataset[n][1] for n in range(4)])
    assert batch.shape == (4, 7)
    assert not hasattr(dataset, "targets")
    with pytest.raises(AttributeError, match="multi-hot labels has no targets"):
        dataset.targets  # noqa: B018
    assert len(dataset.classes) == 7


def test_folders_of_classes_are_refused(tmp_path):
    for work in (gr.export, verify):
        with pytest.raises(
            ValueError, match="recipe must have one label per image for an ImageFolder, got multifractal"
        ):
            work(small(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_mixtures_refuse_sets():
    with pytest.raises(
        ValueError, match="recipes must have one label per image, and those of multifractal are multi-hot"
    ):
        gr.Mixture({small(): 1, "onepfrac-1k": 1})


BAD = [
    ({"class_prior": 2.0}, "class_prior must be left out, got 2.0: an image has objects of several classes"),
    ({"label_noise": 0.1}, "label_noise must be left out, got 0.1"),
    ({"objects": (0, 5)}, r"objects\[0\] must be an integer in \[1, 16\], got 0"),
    ({"objects": (1, 17)}, r"objects\[1\] must be an integer in \[1, 16\], got 17"),
    ({"sizes": (0.0, 0.5)}, r"sizes\[0\] must be a finite number in \[0.01, 1\], got 0.0"),
    ({"sizes": (0.5, 1.1)}, r"sizes\[1\] must be a finite number in \[0.01, 1\], got 1.1"),
    ({"sizes": (0.5, 0.2)}, r"sizes must be a pair \(low, high\) with low <= high"),
    ({"systems": 0}, "systems must be an integer"),
    ({"jitter": "some"}, "jitter must be one of"),
    ({"points": 0}, "points must be an integer"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_wrong_parameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_json_and_fingerprint():
    recipe = small(objects=[2, 3])
    assert gr.Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.fingerprint != small().fingerprint
    assert (recipe.label_width, recipe.multi_hot, recipe.channels) == (7, True, 3)
    preset = gr.recipe("multifractal-1k")
    assert (preset.classes, len(preset), preset.objects, preset.sizes) == (1000, 1_000_000, (1, 5), (0.15, 0.6))
