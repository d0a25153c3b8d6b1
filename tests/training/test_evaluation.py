"""Accuracy and features of models whose answers are known."""

import numpy as np
import pytest
import torch
from PIL import Image

from gpurender.tasks import Samples
from gpurender.tasks.sources import Set
from gpurender.training import evaluation, models
from tests.support.bars import Bars

timm = pytest.importorskip("timm", reason="needs timm, of the extra 'train'")


CPU = torch.device("cpu")


def samples(*shown):
    """One image a number, all of that level, labelled 0 to 2 in turn."""
    labels = np.arange(len(shown)) % 3
    return Samples(
        Set([str(i) for i in range(len(shown))], labels, ("a", "b", "c"),
            lambda i: Image.new("RGB", (2, 2), (shown[i],) * 3)),
        np.arange(len(shown)),
    )  # fmt: skip


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


class Told(torch.nn.Module):
    """The class that an image's level names."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append((len(images), self.training, torch.is_inference_mode_enabled()))
        return torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), 3).float()


def test_accuracy_is_the_share_of_right_answers(monkeypatch):
    bars, model = Bars(), Told()
    monkeypatch.setattr(evaluation, "progress", bars)
    found = evaluation.accuracy(model, samples(0, 1, 0, 0, 1, 1, 2, 1), tensor, 3, 0, CPU)
    assert found == 5 / 8  # of labels 0 1 2 0 1 2 0 1
    assert model.seen == [(3, False, True), (3, False, True), (2, False, True)]
    assert bars.steps == [3, 3, 2]
    assert bars.made == [{"total": 8, "desc": "evaluate", "unit": "image"}]


def test_images_are_read_by_as_many_workers(monkeypatch):
    made = []

    def loader(dataset, **options):
        made.append((len(dataset), options))
        return [dataset[0][None]]

    monkeypatch.setattr(evaluation, "DataLoader", loader)
    evaluation.accuracy(Told(), samples(0, 1), tensor, 64, 5, CPU)
    assert made == [(2, {"batch_size": 64, "num_workers": 5})]


def test_features_are_means_of_a_block_s_patches():
    model, shown = models.create("test_vit", 3, 32), samples(10, 60, 200, 30, 90)
    big = [torch.nn.functional.interpolate(tensor(shown[i][0])[None] / 255, size=32)[0] for i in range(5)]
    found = evaluation.features(
        model, shown, lambda image: torch.nn.functional.interpolate(tensor(image)[None] / 255, size=32)[0],
        [2, 5], 2, 0, CPU,
    )  # fmt: skip
    assert list(found) == [2, 5]
    with torch.no_grad():
        tokens = [model.eval().forward_intermediates(torch.stack(big), output_fmt="NLC")[1][i] for i in (1, 4)]
    for layer, expected in zip((2, 5), tokens, strict=True):
        assert found[layer].dtype == np.float32
        np.testing.assert_allclose(found[layer], expected.mean(1).numpy(), rtol=1e-4, atol=1e-5)


def test_features_are_computed_without_gradients_in_evaluation_mode():
    seen = []

    class Blocks(torch.nn.Module):
        def forward_intermediates(self, images, **options):
            seen.append((self.training, torch.is_inference_mode_enabled(), options))
            return [images.double()]

    found = evaluation.features(Blocks(), samples(3, 4), tensor, [1], 2, 0, CPU)
    assert seen == [(False, True, {"indices": [0], "intermediates_only": True, "output_fmt": "NCHW"})]
    assert found[1].tolist() == [[3.0] * 3, [4.0] * 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_depth_is_counted_in_blocks(dtype):
    model = models.create("test_vit", 3, 32).train()
    torch.set_default_dtype(dtype)
    try:
        assert evaluation.depth(model, 32) == len(model.blocks) == 6
    finally:
        torch.set_default_dtype(torch.float32)
    with pytest.raises(ValueError, match=r"^model must have timm's forward_intermediates, and Told has none$"):
        evaluation.depth(Told(), 32)


def test_the_depth_is_asked_as_timm_answers_it():
    asked = []

    class Blocks(torch.nn.Module):
        def forward_intermediates(self, images, **options):
            asked.append((tuple(images.shape), images.device.type, self.training, torch.is_inference_mode_enabled()))
            assert options == {"intermediates_only": True}
            return [images, images]

    with torch.device("meta"):
        assert evaluation.depth(Blocks(), 24) == 2
    assert asked == [((1, 3, 24, 24), "cpu", False, True)]


def test_layers_are_named_from_one():
    assert evaluation.check_layers(None, 3) == [1, 2, 3]
    assert evaluation.check_layers((3, 1, 3), 3) == [1, 3]
    for wrong in ([], "12", 2, {1}):
        with pytest.raises(ValueError, match=r"^layers must be numbers of blocks, from 1 to 3, got "):
            evaluation.check_layers(wrong, 3)
    for wrong in ([0], [4], [1, 4]):
        with pytest.raises(ValueError, match=r"^layers must be an integer in \[1, 3\], got "):
            evaluation.check_layers(wrong, 3)
