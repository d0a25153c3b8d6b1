"""What draws and functions do with tensors on a GPU, where nothing reads them: shown on the meta device.

A tensor that is made on another device than the draw ids shows there, too.
"""

import pytest
import torch

import gpurender as gr
from gpurender.augment import crop, deit, image_op, resize
from gpurender.augment.parameters import size_stamp
from gpurender.kernels import augment_params
from gpurender.kernels.augment_params import JitterParams, as_draw_ids, jitter
from gpurender.kernels.soft_targets import soft_targets
from gpurender.runtime import dispatch

META = torch.device("meta")
NUMBERS = torch.zeros(5, dtype=torch.int64, device=META)


@pytest.fixture(autouse=True)
def unreadable(monkeypatch):
    """The meta device stands for a GPU."""
    monkeypatch.setitem(dispatch.BACKENDS, "meta", "gpu")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int16])
@pytest.mark.parametrize("shape", [(), (5,), (0,)])
def test_numbers_on_a_gpu_are_not_read(dtype, shape):
    numbers = torch.zeros(shape, dtype=dtype, device=META)
    found = as_draw_ids(numbers)
    assert (found.device, found.dtype, found.shape) == (META, torch.int64, (shape[0] if shape else 1,))
    assert (found is numbers) == (dtype == torch.int64 and shape != ())


@pytest.mark.parametrize(
    "numbers",
    [
        NUMBERS.float(),
        NUMBERS.double(),
        NUMBERS.to(torch.complex64),
        NUMBERS.bool(),
        NUMBERS[None],
        NUMBERS[None, None],
    ],
)
def test_numbers_on_a_gpu_are_integers_in_a_row(numbers):
    with pytest.raises(TypeError, match=r"^numbers must be integers, one or a list, got torch\.\w+ \[.*\]$"):
        as_draw_ids(numbers)


def on_meta(parameters):
    return {str(tensor.device) for tensor in parameters.values()} == {"meta"}


def test_parameters_are_on_the_device_of_the_draw_ids(monkeypatch):
    assert size_stamp(5, 32, 24, META).device == META
    drawn = gr.augment.Resize().draw(NUMBERS, canvas_size=32)
    assert on_meta(drawn)
    assert [tuple(tensor.shape) for tensor in drawn.values()] == [(5, 4), (5, 2), (5,), (5, 0, 32, 224)]
    boxes = NUMBERS.new_zeros(5, 4), NUMBERS.new_zeros(5, 2), NUMBERS
    monkeypatch.setattr(crop, "draw_crops", lambda ids, *_: boxes if ids is NUMBERS else None)
    assert on_meta(gr.augment.Crop().draw(NUMBERS))
    drawn = gr.augment.DeiT.resnet().draw(NUMBERS)
    assert on_meta(drawn)
    chain = [drawn[name] for name in deit.CHAIN]
    assert [(tuple(tensor.shape), tensor.dtype) for tensor in chain] == [
        ((5, 0), torch.int32), ((5, 0), torch.float64), ((5, 0), torch.uint8)
    ]  # fmt: skip


def test_a_jitter_is_drawn_on_the_device_of_the_draw_ids(monkeypatch):
    monkeypatch.setattr(jitter, "words", lambda seed, stream, ids, blocks: ids.new_zeros(len(ids), 4 * blocks))
    params = JitterParams((0.4, 0.4, 0.4, 0.1), 0.8, 0.2, 0.5)
    codes, arguments = augment_params.draw_jitter(NUMBERS, 3, params)
    assert codes.device == arguments.device == META
    assert (codes.shape, codes.dtype, arguments.dtype) == ((5, 6), torch.int32, torch.float64)


def test_soft_targets_of_several_labels_are_on_their_device():
    found = soft_targets(torch.zeros(5, 3, device=META), torch.zeros(5, dtype=torch.float64, device=META), 4, 0.1)
    assert (found.device, found.shape, found.dtype) == (META, (5, 4), torch.float32)


@pytest.fixture
def given(monkeypatch):
    """What the launchers of crops and operations were given."""
    calls = []
    monkeypatch.setattr(resize, "crop_resize", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(image_op, "apply_ops", lambda *arguments: calls.append(arguments))
    return calls


IMAGES = torch.zeros((2, 3, 20, 30), dtype=torch.uint8, device=META)
BOXES = [[0, 0, 20, 30], [1, 2, 3, 4]]


def test_boxes_on_a_cpu_are_checked_and_sent_to_images_on_a_gpu(given):
    for boxes in (BOXES, torch.tensor(BOXES)):
        gr.augment.resized_crop(IMAGES, boxes, 8, "bilinear")
        images, there, flips, codes, size = given.pop()
        assert images is IMAGES
        assert [(x.device, x.dtype, tuple(x.shape)) for x in (there, flips, codes)] == [
            (META, torch.int64, (2, 4)), (META, torch.bool, (2, 2)), (META, torch.uint8, (2,))
        ]  # fmt: skip
        assert size == (8, 8)
    with pytest.raises(ValueError, match=r"^boxes\[1\] must be .* 20 x 30, got \(1, 2, 20, 4\)$"):
        gr.augment.resized_crop(IMAGES, [BOXES[0], [1, 2, 20, 4]], 8)
    gr.augment.resized_crop(IMAGES, BOXES[:1], 8)  # whose number the launcher refuses
    assert given.pop()[1].shape == (1, 4)


def test_boxes_on_a_gpu_stay_there_unread(given):
    boxes = torch.zeros((2, 4), dtype=torch.int32, device=META)
    gr.augment.resized_crop(IMAGES, boxes, 8)
    assert given.pop()[1] is boxes


@pytest.mark.parametrize("argument", [2.0, [1.0, 2.0], torch.ones(2, device=META)])
def test_an_operation_is_made_on_the_device_of_the_images(given, argument):
    gr.augment.op("Brightness", IMAGES, argument)
    images, codes, arguments, modes, fill, possible = given.pop()
    assert images is IMAGES
    assert [(x.device, x.dtype, tuple(x.shape)) for x in (codes, arguments, modes)] == [
        (META, torch.int32, (2, 1)), (META, torch.float64, (2, 1)), (META, torch.uint8, (2, 1))
    ]  # fmt: skip
    assert (fill, [one.name for one in possible]) == ((128, 128, 128), ["BRIGHTNESS"])
    gr.augment.op("Invert", IMAGES)
    assert given.pop()[2].device == META
