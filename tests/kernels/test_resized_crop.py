"""Crop and resize: byte for byte what Pillow does."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import gpurender as gr
from gpurender.kernels.resized_crop import crop_resize, crop_resize_normalise
from tests.support.optional import optional, resizing_pillow

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee")
SIDE = 97


def textures():
    """Images [H, W] or [H, W, 3]: a fractal's two levels, hard edges, noise, a smooth ramp."""
    rng = np.random.default_rng(0)
    sparse = (rng.random((SIDE, SIDE)) < 0.07).astype(np.uint8) * 127
    checks = (np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 255).astype(np.uint8)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE)).astype(np.uint8)
    return {"fractal": sparse, "checkerboard": checks, "noise": noise, "ramp": ramp}


TEXTURES = textures()


def tensor(image):
    """[H, W] or [H, W, C] to a batch of one, uint8 [1, C, H, W]."""
    return torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1).copy())[None]


def pillow(image, box, size, interpolation):
    """The same by Pillow, uint8 [C, H, W]."""
    resizing_pillow()
    top, left, h, w = box
    crop = Image.fromarray(image).crop((left, top, left + w, top + h))
    return tensor(np.asarray(crop.resize((size[1], size[0]), FILTERS[interpolation])))[0]


def assert_as_pillow(image, box, size, interpolation):
    ours = gr.augment.resized_crop(tensor(image), [box], size, interpolation)[0]
    assert torch.equal(ours, pillow(image, box, size, interpolation))


def spans(side):
    """(start, length) inside [0, side), very short and whole ones often."""
    lengths = st.integers(1, 6) | st.integers(1, side) | st.just(side)
    return lengths.flatmap(lambda n: st.tuples(st.integers(0, side - n), st.just(n)))


@settings(max_examples=700, deadline=None)
@given(
    st.sampled_from(sorted(TEXTURES)),
    spans(SIDE),
    spans(SIDE),
    st.integers(1, 9) | st.integers(1, 200),
    st.integers(1, 9) | st.integers(1, 200),
    st.sampled_from(sorted(FILTERS)),
)
@example("fractal", (0, SIDE), (0, SIDE), SIDE, SIDE, "bicubic")  # identity
@example("noise", (0, SIDE), (0, SIDE), SIDE, 40, "bilinear")  # one axis stays
@example("noise", (0, SIDE), (0, SIDE), 41, SIDE, "bicubic")
@example("noise", (0, 91), (0, 60), 31, 30, "bicubic")  # height shrinks by 60, width by 30: x is first
@example("noise", (0, 92), (0, 60), 31, 30, "bicubic")  # and by 61: y is first
@example("checkerboard", (50, 1), (50, 1), 224, 224, "bicubic")
@example("ramp", (3, 90), (5, 90), 1, 1, "bilinear")
def test_equal_to_pillow(name, rows, columns, height, width, interpolation):
    box = (rows[0], columns[0], rows[1], columns[1])
    assert_as_pillow(TEXTURES[name], box, (height, width), interpolation)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("box", [(0, 0, 512, 512), (100, 7, 300, 400), (211, 0, 301, 97), (0, 1, 130, 511)])
def test_equal_to_pillow_at_training_sizes(box, interpolation):
    rng = np.random.default_rng(1)
    image = (rng.random((512, 512, 1)) < 0.1).astype(np.uint8) * rng.integers(0, 256, (512, 512, 3)).astype(np.uint8)
    assert_as_pillow(image, box, (224, 224), interpolation)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_equal_to_pillow_on_photographs(name, interpolation):
    image = getattr(optional("skimage.data"), name)()
    h, w = image.shape[:2]
    for box in [(0, 0, h, w), (h // 5, w // 7, h // 2, w // 2), (3, 5, h - 9, w // 4)]:
        assert_as_pillow(image, box, (224, 224), interpolation)


def test_nearest_steps_as_pillow_at_every_size():
    ramp = np.arange(251, dtype=np.uint8)[None]
    for n_in in (1, 2, 3, 7, 49, 100, 251):
        for n_out in range(1, 330):
            assert_as_pillow(ramp, (0, 0, 1, n_in), (1, n_out), "nearest")


def test_taps_stay_inside_the_crop():
    inside = np.full((40, 40), 255, np.uint8)
    inside[10:30, 10:30] = 17
    for interpolation in FILTERS:
        out = gr.augment.resized_crop(tensor(inside), [[10, 10, 20, 20]], (33, 7), interpolation)
        assert (out == 17).all()


def test_each_image_has_its_own_box_flips_and_filter():
    rng = np.random.default_rng(2)
    images = torch.from_numpy(rng.integers(0, 256, (12, 3, 50, 60)).astype(np.uint8))
    boxes = torch.tensor([[n, 2 * n, 38 - n, 30 - 2 * n] for n in range(12)])
    flips = torch.tensor([[n & 1, n >> 1 & 1] for n in range(12)], dtype=torch.bool)
    codes = torch.arange(12, dtype=torch.uint8) % 3
    out = crop_resize(images, boxes, flips, codes, (20, 24))
    for n in range(12):
        expected = pillow(images[n].permute(1, 2, 0).numpy(), boxes[n].tolist(), (20, 24), list(FILTERS)[codes[n]])
        expected = expected.flip(-1) if flips[n, 0] else expected
        expected = expected.flip(-2) if flips[n, 1] else expected
        assert torch.equal(out[n], expected)


def test_sizes_layouts_and_types_of_boxes():
    images = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, 5, 30, 31)).astype(np.uint8))
    boxes = [[0, 0, 30, 31], [4, 3, 9, 20]]
    square = gr.augment.resized_crop(images, boxes, 16)
    assert square.shape == (2, 5, 16, 16)
    assert square.dtype == torch.uint8
    for other in (torch.tensor(boxes), torch.tensor(boxes, dtype=torch.int32), np.array(boxes)):
        assert torch.equal(gr.augment.resized_crop(images, other, (16, 16)), square)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(gr.augment.resized_crop(channels_last, boxes, [16, 16]), square)
    assert gr.augment.resized_crop(images[:0], torch.zeros(0, 4, dtype=torch.int64), 16).shape == (0, 5, 16, 16)


IMAGES = torch.zeros(2, 1, 20, 30, dtype=torch.uint8)
BOX = [0, 0, 20, 30]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"boxes": [BOX, [0, 0, 0, 5]]}, ValueError, [r"boxes\[1\]", "1 or more", r"\(0, 0, 0, 5\)"]),
        ({"boxes": [[-1, 0, 5, 5], BOX]}, ValueError, [r"boxes\[0\]", "20 x 30", r"\(-1, 0, 5, 5\)"]),
        ({"boxes": [BOX, [1, 0, 20, 30]]}, ValueError, [r"boxes\[1\]", "20 x 30", r"\(1, 0, 20, 30\)"]),
        ({"boxes": [BOX, [0, 26, 5, 5]]}, ValueError, [r"boxes\[1\]"]),
        ({"boxes": [BOX, [0, 2**62, 5, 2**62]]}, ValueError, [r"boxes\[1\]"]),
        ({"boxes": [BOX, [0, 0, -(2**63), 5]]}, ValueError, [r"boxes\[1\]"]),
        ({"boxes": [BOX, [-(2**63), 0, 5, 5]]}, ValueError, [r"boxes\[1\]"]),
        ({"boxes": [BOX]}, ValueError, ["boxes", r"\[2, 4\]", r"\[1, 4\]"]),
        ({"boxes": [[0.0, 0, 1, 1], BOX]}, TypeError, ["boxes", "int32 or torch.int64", "float32"]),
        ({"boxes": "everything"}, TypeError, ["boxes", "everything"]),
        ({"size": 0}, ValueError, ["size", r"\[1, 65535\]", "0"]),
        ({"size": (5, 0)}, ValueError, [r"size\[1\]", "0"]),
        ({"size": (5, 5, 5)}, ValueError, ["size", r"\(height, width\)", r"\(5, 5, 5\)"]),
        ({"size": 7.5}, TypeError, ["size", "integer", "7.5"]),
        ({"interpolation": "lanczos"}, ValueError, ["interpolation", "'bicubic'", "'lanczos'"]),
        ({"interpolation": 3}, TypeError, ["interpolation", "'bicubic'", "3"]),
        ({"images": IMAGES.float()}, TypeError, ["images", "uint8", "float32"]),
        ({"images": IMAGES[0]}, TypeError, ["images", r"\[N, C, H, W\]", r"\[1, 20, 30\]"]),
        ({"images": IMAGES.numpy()}, TypeError, ["images", "tensor", "ndarray"]),
    ],
)
def test_wrong_arguments_are_refused(change, error, words):
    arguments = {"images": IMAGES, "boxes": [BOX, BOX], "size": 8, "interpolation": "bicubic", **change}
    with pytest.raises(error) as caught:
        gr.augment.resized_crop(**arguments)
    for word in words:
        caught.match(word)


def test_the_kernel_refuses_what_it_does_not_draw():
    boxes, flips, codes = (
        torch.tensor([BOX, BOX]),
        torch.zeros(2, 2, dtype=torch.bool),
        torch.zeros(2, dtype=torch.uint8),
    )
    table = torch.zeros(3, 256)
    with pytest.raises(ValueError, match="interpolations must be 0, 1 or 2, got 3"):
        crop_resize(IMAGES, boxes, flips, codes + 3, (4, 4))
    with pytest.raises(TypeError, match=r"flips must be .*torch.bool"):
        crop_resize(IMAGES, boxes, flips.int(), codes, (4, 4))
    with pytest.raises(ValueError, match="canvases must have 1 or 3 channels"):
        crop_resize_normalise(IMAGES.expand(2, 2, 20, 30), boxes, flips, codes, table, (4, 4))
    with pytest.raises(ValueError, match=r"lut must be .*\[3, 256\]"):
        crop_resize_normalise(IMAGES, boxes, flips, codes, table[:2], (4, 4))
    with pytest.raises(TypeError, match=r"lut must be .*float32.*int64"):
        crop_resize_normalise(IMAGES, boxes, flips, codes, table.long(), (4, 4))
    with pytest.raises(ValueError, match=r"canvases must be .*on a CPU or a GPU, got .*meta"):
        crop_resize(IMAGES.to("meta"), boxes, flips, codes, (4, 4))
