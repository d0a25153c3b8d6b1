"""gr.Dataset: the renderer's pixels, one by one, through torch's own DataLoader and torchvision's transforms."""

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]


def tiny(draw_type="patch_gray", classes=4, instances=3):
    return gr.OnePFrac(
        classes=classes,
        instances=instances,
        image_size=32,
        points=500,
        fill_rate=0.0,
        base=TRIANGLE,
        draw_type=draw_type,
    )


def as_tensor(image):
    """A transform that a spawned worker can import."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("draw_type", ["patch_gray", "patch_color"])
def test_an_item_is_the_renderers_canvas_and_label(draw_type):
    recipe = tiny(draw_type)
    dataset = gr.Dataset(recipe)
    canvases = gr.Renderer(recipe)(list(range(12))).expand(-1, 3, -1, -1)
    assert len(dataset) == 12
    for n in range(12):
        image, label = dataset[n]
        assert isinstance(image, Image.Image)
        assert (image.mode, image.size) == ("RGB", (32, 32))
        assert np.array_equal(np.asarray(image), canvases[n].permute(1, 2, 0).numpy())
        assert (type(label), label) == (int, n // 3)


def test_it_is_a_sequence():
    dataset = gr.Dataset(tiny())
    first, last = dataset[0][0].tobytes(), dataset[11][0].tobytes()
    assert first != last
    assert dataset[-1][0].tobytes() == last
    assert dataset[-12][0].tobytes() == first
    for index in (np.int64(11), np.uint8(11), torch.tensor(11), torch.tensor([1, 11])[1]):
        assert dataset[index][0].tobytes() == last
    assert [label for _, label in dataset] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]  # iteration ends by itself


@pytest.mark.parametrize("index", [12, -13, 2**63, -(2**70), np.int64(12)])
def test_an_index_outside_is_an_index_error(index):
    with pytest.raises(IndexError, match=r"index must be an integer in \[-12, 11\], got "):
        gr.Dataset(tiny())[index]


@pytest.mark.parametrize("index", [1.0, "1", None, True, slice(0, 2), [0, 1], np.array([0, 1]), torch.tensor(1.0)])
def test_an_index_that_is_no_integer_is_a_type_error(index):
    with pytest.raises(TypeError, match="index"):
        gr.Dataset(tiny())[index]


def test_classes_are_named_as_the_published_folders():
    dataset = gr.Dataset("visualatom-21k")
    assert len(dataset.classes) == 21_000
    assert dataset.classes[:2] + dataset.classes[-1:] == ["00000", "00001", "20999"]
    assert dataset.class_to_idx["00417"] == 417
    wide = gr.Dataset(tiny(classes=100_001, instances=1)).classes
    assert wide[7] == "000007"
    assert wide == sorted(wide)  # as ImageFolder would number the folders


ATOM = {"image_size": 32, "orbits": (1, 3), "quantization": (5, 9), "classes": 3, "instances": 20}


@pytest.mark.parametrize(
    "recipe",
    [
        lambda: tiny(),
        lambda: gr.VisualAtom(**ATOM, label_noise=0.5),
        lambda: gr.VisualAtom(**ATOM, class_prior=4, label_noise=[[0.5, 0.25, 0.25]] * 3),
        lambda: gr.Mixture({tiny(): 1, gr.VisualAtom(**ATOM, label_noise=0.5): 2}),
    ],
)
def test_targets_are_the_labels_of_its_items(recipe, monkeypatch):
    monkeypatch.setattr("gpurender.renderer.LABELS", 7)
    dataset = gr.Dataset(recipe())
    targets = dataset.targets
    assert dataset._renderer._catalog is None  # nothing was drawn, nothing searched
    assert targets == [label for _, label in dataset]
    assert {type(label) for label in targets} == {int}
    assert dataset.targets is targets


def test_targets_of_separate_labels_are_pairs():
    dataset = gr.Dataset(gr.Mixture({tiny(): 1, gr.VisualAtom(**ATOM): 2}, labels="separate"))
    assert dataset.targets == [(0, n // 3) for n in range(12)] + [(1, n // 20) for n in range(60)]
    assert dataset.targets == [tuple(label.tolist()) for _, label in dataset]


def test_targets_of_a_million():
    targets = gr.Dataset("fractaldb-1k").targets
    assert np.array_equal(targets, np.arange(1_000_000) // 1000)


def test_a_transform_takes_the_images_place_and_can_be_set_later():
    recipe = tiny()
    transforms = pytest.importorskip("torchvision.transforms", exc_type=(ImportError, RuntimeError))
    dataset = gr.Dataset(recipe, transform=transforms.ToTensor())
    canvas = gr.Renderer(recipe)([5])[0].expand(3, -1, -1)
    assert torch.equal(dataset[5][0], canvas / 255)
    dataset.transform = lambda image: image.size  # as timm's create_loader does
    assert dataset[5] == ((32, 32), 1)
    dataset.transform = None
    assert dataset[5][0].mode == "RGB"


def test_a_batch_is_drawn_at_once():
    dataset = gr.Dataset(tiny(), transform=np.asarray)
    together = dataset.__getitems__([3, 11, 3, 0])
    for (image, label), n in zip(together, [3, 11, 3, 0], strict=True):
        assert np.array_equal(image, dataset[n][0])
        assert label == dataset[n][1]
    assert dataset.__getitems__([]) == []


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_torchs_loader_gets_the_same_pixels_in_any_process(workers, context):
    recipe = tiny()
    dataset = gr.Dataset(recipe, transform=as_tensor)
    dataset[0]  # draw in this process first: a fork afterwards must still work
    loader = torch.utils.data.DataLoader(dataset, batch_size=5, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(images, gr.Renderer(recipe)(list(range(12))).expand(-1, 3, -1, -1))
    assert torch.equal(labels, gr.Renderer(recipe).labels(list(range(12))))


def test_it_is_copied_and_pickled():
    dataset = gr.Dataset(tiny())
    drawn = dataset[7][0].tobytes()
    for twin in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert twin[7][0].tobytes() == drawn
        assert twin.recipe == dataset.recipe


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="transform"):
        gr.Dataset(tiny(), transform="ToTensor")
    with pytest.raises(TypeError, match="recipe"):
        gr.Dataset(7)
    with pytest.raises(ValueError, match="no-such-preset"):
        gr.Dataset("no-such-preset")
