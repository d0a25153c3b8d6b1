"""Image operations against Pillow's, timm's and torchvision's: every byte."""

import copy
import functools
import pickle
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import gpurender as gr
from gpurender.kernels.image_ops import BY_NAME, Kind, Operation, apply_ops, tables
from gpurender.kernels.image_ops.cpu_matrices import _split, rounded, turned
from tests.support.optional import optional

timm = optional("timm.data.auto_augment")
functional = optional("torchvision.transforms.functional")

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
FILL = (12, 99, 201)
FACTORS = [0.0, 0.1, 0.19, 0.5, 1.0, 1.3, 1.81, 1.9, 3.7]
MOVES = [0.0, 0.27, -0.27, 0.013, -0.45, 1.1]
PIXELS = [0, 3, -3, 10.5, -33.3, 500, -1e6]
ARGUMENTS = {
    "AutoContrast": [None], "Equalize": [None], "Invert": [None],
    "Rotate": [0, 27.0, -27.0, 3.3, 12.34, 45, 90, 180, 270, -90, 359.9, 725.5, 1e-9],
    "Posterize": [1, 2, 3, 4, 8], "PosterizeIncreasing": [1, 3], "PosterizeOriginal": [4, 7],
    "Solarize": [0, 26, 128, 255, 256, 77.5, -1], "SolarizeIncreasing": [26, 230], "SolarizeAdd": [0, 50, 99, 110, 128],
    "Color": FACTORS, "ColorIncreasing": FACTORS[1:3], "Contrast": FACTORS, "ContrastIncreasing": FACTORS[1:3],
    "Brightness": FACTORS, "BrightnessIncreasing": FACTORS[1:3], "Sharpness": FACTORS,
    "SharpnessIncreasing": FACTORS[1:3],
    "ShearX": MOVES, "ShearY": MOVES, "TranslateX": PIXELS, "TranslateY": PIXELS,
    "TranslateXRel": MOVES, "TranslateYRel": MOVES, "Desaturate": [0, 0.5, 0.77, 1],
    "GaussianBlur": [0, 0.1, 0.33, 0.5, 1, 1.7, 2, 5, 13.3, 64],
}  # fmt: skip


@functools.cache
def photographs():
    """Pieces of photographs, down to a pixel, odd sides, and a fractal: uint8 [H, W, 3] each."""
    data = optional("skimage.data")
    triangle = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
    canvas = gr.Renderer(gr.OnePFrac(classes=1, base=triangle, points=9000, image_size=64))(0)[0, 0].numpy()
    return {
        "face": data.astronaut()[60:160, 180:280],
        "coffee": data.coffee()[50:103, 200:237],
        "cat": data.chelsea()[:97, :131],
        "line": data.rocket()[100:101, 100:107],
        "pixel": data.rocket()[100:101, 100:101],
        "tiny": data.astronaut()[10:12, 20:23],
        "dark": np.zeros((20, 20, 3), np.uint8),
        "fractal": np.repeat(canvas[:, :, None], 3, 2),
    }


def batch_of(photograph):
    """uint8 [1, 3, H, W]."""
    return torch.from_numpy(photograph.transpose(2, 0, 1)[None].copy())


def theirs(name, photograph, argument, interpolation, fill=FILL):
    """timm's result, uint8 [3, H, W]."""
    image = Image.fromarray(np.ascontiguousarray(photograph))
    keywords = {"fillcolor": fill, "resample": FILTERS[interpolation]}
    arguments = () if argument is None else (argument,)
    return np.array(timm.NAME_TO_OP[name](image, *arguments, **keywords)).transpose(2, 0, 1)


def test_codes_are_those_that_drawn_parameters_hold():
    """A new operation goes to the end. The plan has five bits for a code, a mask one per code but the last."""
    names = """
        IDENTITY AUTO_CONTRAST EQUALIZE INVERT POSTERIZE SOLARIZE SOLARIZE_ADD BRIGHTNESS CONTRAST COLOR HUE SHARPNESS
        GAUSSIAN_BLUR GAUSSIAN_KERNEL ROTATE SHEAR_X SHEAR_Y TRANSLATE_X TRANSLATE_Y TRANSLATE_X_REL TRANSLATE_Y_REL
    """
    assert [(each.name, int(each)) for each in Operation] == [(name, i) for i, name in enumerate(names.split())]
    assert len(Operation) <= 31
    assert pickle.loads(pickle.dumps(Operation.HUE)) is copy.deepcopy(Operation.HUE) is Operation.HUE


def test_every_name_of_timm_is_known():
    assert set(BY_NAME) == set(timm.NAME_TO_OP) == {*ARGUMENTS, "GaussianBlurRand"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_operations_are_timms(name):
    moves = BY_NAME[name].spec.kind is Kind.AFFINE
    for which, photograph in photographs().items():
        for argument in ARGUMENTS[name]:
            for interpolation in FILTERS if moves else ("bilinear",):
                found = gr.augment.op(name, batch_of(photograph), argument, fill=FILL, interpolation=interpolation)
                wanted = theirs(name, photograph, argument, interpolation)
                assert (found[0].numpy() == wanted).all(), (which, argument, interpolation)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([name for name in ARGUMENTS if ARGUMENTS[name] != [None]]),
    st.floats(0, 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(list(FILTERS)),
    st.integers(0, 2**32 - 1),
)
def test_any_size_and_argument(name, share, height, width, interpolation, seed):
    photograph = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    low, high = min(ARGUMENTS[name]), max(ARGUMENTS[name])
    argument = low + share * (high - low)
    if "Posterize" in name or name == "SolarizeAdd":
        argument = int(argument)
    found = gr.augment.op(name, batch_of(photograph), argument, fill=FILL, interpolation=interpolation)
    assert (found[0].numpy() == theirs(name, photograph, argument, interpolation)).all()


@pytest.mark.parametrize("bits", [0, 8])
def test_posterize_to_no_bit_is_black_and_to_eight_is_the_image(bits):
    """timm with Pillow 13 raises an error for 0 bits, where the formula of the mask says black."""
    images = batch_of(photographs()["cat"])
    assert torch.equal(gr.augment.op("Posterize", images, bits), images * (bits == 8))


@pytest.mark.parametrize("factor", [-0.5, -0.2, -0.01, 0.0, 0.1, 0.37, 0.5])
def test_hue_is_torchvisions(factor):
    for which, photograph in photographs().items():
        wanted = np.array(functional.adjust_hue(Image.fromarray(np.ascontiguousarray(photograph)), factor))
        found = one(batch_of(photograph), Operation.HUE, factor)
        assert (found[0].numpy() == wanted.transpose(2, 0, 1)).all(), which


def test_hue_of_all_colours_of_a_fine_grid():
    levels = np.arange(0, 256, 5, np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, levels.size, 3)
    wanted = np.array(functional.adjust_hue(Image.fromarray(colours), 0.21))
    assert (one(batch_of(colours), Operation.HUE, 0.21)[0].numpy() == wanted.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.7, 2.0])
def test_the_blur_by_a_kernel_is_torchvisions_within_a_level(sigma):
    for which in ("face", "coffee", "cat", "fractal"):
        image = Image.fromarray(np.ascontiguousarray(photographs()[which]))
        wanted = np.array(functional.gaussian_blur(image, [23, 23], [sigma, sigma])).transpose(2, 0, 1).astype(int)
        away = np.abs(one(batch_of(photographs()[which]), Operation.GAUSSIAN_KERNEL, sigma)[0].numpy() - wanted)
        assert away.max() <= 1, which
        assert (away == 0).mean() > 0.999, which


def test_grayscale_is_torchvisions():
    for photograph in photographs().values():
        wanted = np.array(functional.rgb_to_grayscale(Image.fromarray(np.ascontiguousarray(photograph)), 3))
        assert (one(batch_of(photograph), Operation.COLOR, 0.0)[0].numpy() == wanted.transpose(2, 0, 1)).all()


# ------------------------------------------------------------------------------------------------------------ batches


def one(images, code, argument, interpolation=1, fill=(0, 0, 0)):
    """One operation on all images."""
    shape = (len(images), 1)
    chain = (
        torch.full(shape, int(code), dtype=torch.int32),
        torch.full(shape, float(argument), dtype=torch.float64),
        torch.full(shape, interpolation, dtype=torch.uint8),
    )
    return apply_ops(images, *chain, fill)


def random_chains(rng, n, layers):
    """Codes int32, arguments float64 and interpolations uint8, [n, layers] each."""
    codes = rng.integers(0, len(Operation), (n, layers))
    arguments = np.zeros((n, layers))
    for place, code in np.ndenumerate(codes):
        low, high = Operation(code).spec.limits or (0.0, 0.0)
        span = {Operation.ROTATE: 90.0, Operation.GAUSSIAN_BLUR: 3.0, Operation.SOLARIZE: 256.0}.get(code, 2.0)
        arguments[place] = rng.uniform(max(low, -span), min(high, span))
    return (
        torch.from_numpy(codes.astype(np.int32)),
        torch.from_numpy(arguments),
        torch.from_numpy(rng.integers(0, 3, (n, layers)).astype(np.uint8)),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_chain_is_its_operations_one_after_the_other(channels):
    rng = np.random.default_rng(3)
    images = torch.from_numpy(rng.integers(0, 256, (40, channels, 30, 41), np.uint8))
    chains = random_chains(rng, 40, 5)
    before = images.clone()
    found = apply_ops(images, *chains, (7, 7, 7))
    assert torch.equal(images, before)
    for layer in range(5):
        images = apply_ops(images, *(values[:, layer : layer + 1] for values in chains), (7, 7, 7))
    assert torch.equal(found, images)


def test_a_grey_image_as_three_equal_bands():
    rng = np.random.default_rng(4)
    grey = torch.from_numpy(rng.integers(0, 256, (200, 1, 24, 31), np.uint8))
    chains = random_chains(rng, 200, 3)
    found = apply_ops(grey.expand(-1, 3, -1, -1), *chains, (66, 66, 66))
    assert torch.equal(found, apply_ops(grey, *chains, (66, 66, 66)).expand(-1, 3, -1, -1))


def test_threads_and_neighbours_do_not_matter():
    rng = np.random.default_rng(5)
    images = torch.from_numpy(rng.integers(0, 256, (24, 3, 33, 20), np.uint8))
    chains = random_chains(rng, 24, 2)
    found = apply_ops(images, *chains, FILL)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(found, apply_ops(images, *chains, FILL))
    finally:
        torch.set_num_threads(threads)
    for n in (0, 7, 23):
        assert torch.equal(found[n : n + 1], apply_ops(images[n : n + 1], *(v[n : n + 1] for v in chains), FILL))


def test_layouts_and_empty_batches():
    images = batch_of(photographs()["face"]).expand(4, -1, -1, -1)
    wanted = gr.augment.op("Rotate", images.contiguous(), 20)
    assert torch.equal(wanted, gr.augment.op("Rotate", images, 20))
    assert torch.equal(wanted, gr.augment.op("Rotate", images.contiguous(memory_format=torch.channels_last), 20))
    assert gr.augment.op("Rotate", images[:0], 20).shape == (0, 3, 100, 100)
    none = torch.zeros((4, 0))
    same = apply_ops(images, none.int(), none.double(), none.byte(), (0, 0, 0))
    assert torch.equal(same, images)
    assert same.data_ptr() != images.data_ptr()


def test_grey_is_filled_in_by_default():
    assert (gr.augment.op("TranslateX", IMAGES, 500) == 128).all()


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda x: torch.tensor(x, dtype=torch.float32)])
def test_an_argument_for_each_image(kind):
    images = batch_of(photographs()["face"]).repeat(3, 1, 1, 1)
    found = gr.augment.op("Brightness", images, kind([0.5, 1.0, 1.5]))
    for image, factor in zip(found, [0.5, 1.0, 1.5], strict=True):
        assert (image.numpy() == theirs("Brightness", photographs()["face"], factor, "bilinear")).all()


# ----------------------------------------------------------------------------------------------------------- rotations


def test_rotations_are_pythons_to_fifteen_decimals():
    """But where the C library's last bit is not the nearest: one in some thousand, by a unit of the 15th decimal."""
    import math

    degrees = np.concatenate([np.random.default_rng(6).uniform(-30, 30, 20_000), np.arange(-720.0, 721.0)])
    radians = [-math.radians(x % 360.0) for x in degrees]
    for found, function in zip(turned(torch.from_numpy(degrees)), (math.cos, math.sin), strict=True):
        wanted = np.array([round(function(x), 15) for x in radians])
        assert (found.numpy() != wanted).mean() < 2e-3
        assert np.abs(found.numpy() - wanted).max() < 1.1e-15


@given(st.floats(-1, 1))
def test_rounding_is_pythons(x):
    assert rounded(torch.tensor([x], dtype=torch.float64)).item() == round(x, 15)


def test_halves_of_the_last_decimal_are_rounded_to_even():
    """Odd multiples of 2^-16, of which 10^15 makes exact halves."""
    x = np.arange(-65_535, 65_536, 2) / 65_536
    assert rounded(torch.from_numpy(x)).tolist() == [round(value, 15) for value in x.tolist()]


def test_halves_of_a_number_have_26_bits_each():
    """So that their products are exact, on which the rounding depends."""
    x = torch.rand(4096, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    high, low = _split(x)
    assert torch.equal(high + low, x)
    for half in (high, low):
        mantissa, _ = torch.frexp(half)
        assert torch.equal(mantissa * 2.0**26, (mantissa * 2.0**26).round())


# ------------------------------------------------------------------------------------------------------------ refusals

IMAGES = torch.zeros((2, 3, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        (("Twirl", IMAGES, 1), {}, ValueError, "name must be one of AutoContrast"),
        ((3, IMAGES, 1), {}, TypeError, "name must be one of AutoContrast"),
        (("GaussianBlurRand", IMAGES, 1), {}, ValueError, "use 'GaussianBlur'"),
        (("Rotate", IMAGES.float(), 1), {}, TypeError, "images must be a uint8 tensor"),
        (("Rotate", IMAGES[0], 1), {}, TypeError, "images must be a uint8 tensor"),
        (("Rotate", IMAGES[:, :2], 1), {}, ValueError, "images must have 1 or 3 channels"),
        (("Rotate", IMAGES), {}, TypeError, "argument must be numbers in"),
        (("Invert", IMAGES, 3), {}, ValueError, "argument must be None"),
        (("Rotate", IMAGES, float("nan")), {}, ValueError, "argument must be numbers .* got nan"),
        (("Rotate", IMAGES, [1, 2, 3]), {}, ValueError, r"one for each of the 2 images.*got shape \[3\]"),
        (("Rotate", IMAGES, torch.ones(2, 1)), {}, ValueError, r"one for each of the 2 images.*got shape \[2, 1\]"),
        (("Rotate", IMAGES, 1j), {}, TypeError, "argument must be numbers .* got 1j"),
        (("Rotate", IMAGES, "far"), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, True), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, [True, 2.0]), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, [2.0, np.True_]), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, np.array([True, False])), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, torch.tensor(True)), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, [1.0, None]), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, {1.0, 2.0}), {}, TypeError, "argument must be numbers"),
        (("Rotate", IMAGES, bytearray(b"12")), {}, TypeError, "argument must be numbers"),
        (
            ("Rotate", IMAGES, torch.ones(2, requires_grad=True)),
            {},
            TypeError,
            r"argument must be .*argument.detach\(\)",
        ),
        (("Rotate", IMAGES, torch.ones(2, device="meta")), {}, ValueError, "argument must be .*on a CPU .*on meta"),
        (("Rotate", IMAGES, torch.ones(2).to_sparse()), {}, ValueError, "argument must be .*dense.*sparse_coo"),
        (("Posterize", IMAGES, 9), {}, ValueError, r"argument must be integers in \[0, 8\].*got 9"),
        (("Posterize", IMAGES, 2.5), {}, ValueError, r"argument must be integers in \[0, 8\].*got 2.5"),
        (("SolarizeAdd", IMAGES, -1), {}, ValueError, "argument must be integers in"),
        (("Color", IMAGES, -0.1), {}, ValueError, r"argument must be numbers in \[0, "),
        (("Desaturate", IMAGES, 1.5), {}, ValueError, r"argument must be numbers in \[0, 1\]"),
        (("GaussianBlur", IMAGES, 65), {}, ValueError, r"argument must be numbers in \[0, 64\]"),
        (("Rotate", IMAGES, 1), {"fill": (0, 0, 256)}, ValueError, r"fill\[2\] must be an integer in \[0, 255\]"),
        (("Rotate", IMAGES, 1), {"fill": 128}, TypeError, r"fill must be \(red, green, blue\)"),
        (("Rotate", IMAGES, 1), {"fill": {1, 2, 3}}, TypeError, r"fill must be \(red, green, blue\)"),
        (("Rotate", IMAGES, 1), {"fill": dict.fromkeys((1, 2, 3))}, TypeError, r"fill must be \(red, green, blue\)"),
        (("Rotate", IMAGES, 1), {"fill": (1, 2, np.True_)}, TypeError, r"fill\[2\] must be an integer"),
        (("Rotate", IMAGES, 1), {"fill": torch.tensor([True, True, True])}, TypeError, r"fill\[0\] must be an integer"),
        (("Rotate", IMAGES[:, :1], 1), {"fill": (1, 2, 3)}, ValueError, "fill must be a grey"),
        (("Rotate", IMAGES, 1), {"interpolation": "lanczos"}, ValueError, "interpolation must be one of"),
    ],
)
def test_wrong_input_is_named(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        gr.augment.op(*arguments, **keywords)


@pytest.mark.parametrize("fill", [[9, 9, 9], np.array([9, 9, 9]), torch.tensor([9, 9, 9]), range(9, 12)])
def test_any_sequence_is_a_colour(fill):
    wanted = gr.augment.op("Rotate", IMAGES, 20, fill=tuple(int(x) for x in fill))
    assert torch.equal(gr.augment.op("Rotate", IMAGES, 20, fill=fill), wanted)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"operations": torch.full((2, 1), 21, dtype=torch.int32)},
            ValueError,
            "must be codes 0 to 20, got 21",
        ),
        (
            {"operations": torch.full((2, 1), -1, dtype=torch.int32)},
            ValueError,
            "must be codes 0 to 20, got -1",
        ),
        ({"operations": torch.full((2, 1), 14)}, TypeError, "operations must be a tensor of torch.int32"),
        ({"arguments": torch.full((2, 2), 1.0, dtype=torch.float64)}, ValueError, "arguments must be a tensor"),
        ({"arguments": torch.full((2, 1), np.inf, dtype=torch.float64)}, ValueError, "arguments of ROTATE must lie in"),
        ({"interpolations": torch.full((2, 1), 3, dtype=torch.uint8)}, ValueError, "interpolations must be 0, 1 or 2"),
        ({"possible": (Operation.INVERT,)}, ValueError, r"operations must be of \[3\], as possible says, got 14"),
    ],
)
def test_the_launcher_refuses_what_a_kernel_relies_on(changes, error, message):
    given = {
        "operations": torch.full((2, 1), int(Operation.ROTATE), dtype=torch.int32),
        "arguments": torch.full((2, 1), 1.0, dtype=torch.float64),
        "interpolations": torch.zeros((2, 1), dtype=torch.uint8),
        "fill": (0, 0, 0),
    }
    assert apply_ops(IMAGES, **given).shape == IMAGES.shape
    with pytest.raises(error, match=message):
        apply_ops(IMAGES, **given | changes)


def test_the_step_of_the_sines_is_exact_to_twice_float64():
    high, low = tables.step()
    assert (high * 2**39).is_integer()
    assert high * 2**39 < 2**30
    assert 0 <= low < 2**-39
    assert abs(Decimal(high) + Decimal(low) - 2 * tables.PI / 4096) < Decimal(2) ** -90


@pytest.mark.parametrize("name", ["Invert", "Posterize", "Sharpness"])
def test_a_coloured_fill_is_no_matter_where_nothing_is_filled_in(name):
    """Of grey images, one or several, as long as no pixel comes from beyond their edges."""
    grey = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (3, 1, 9, 9), np.uint8))
    argument = {"Invert": None, "Posterize": 3, "Sharpness": 1.7}[name]
    wanted = gr.augment.op(name, grey, argument, fill=(128, 128, 128))
    for images in (grey, grey[:1]):
        found = gr.augment.op(name, images, argument, fill=(10, 20, 30))
        assert torch.equal(found, wanted[: len(images)])
    with pytest.raises(ValueError, match="fill"):
        gr.augment.op("Rotate", grey, 5.0, fill=(10, 20, 30))


def test_an_index_of_bytes_has_64_bits_where_32_do_not_suffice():
    """Four bytes per pixel between the axes of a blur: 2^29 pixels take 2^31 bytes."""
    pytest.importorskip("triton", reason="needs Triton")
    import triton.language as tl

    from gpurender.kernels.image_ops import gpu

    assert [gpu.index_type(area) for area in (1, 2**29, 2**29 + 1, 2**40)] == [tl.int32, tl.int32, tl.int64, tl.int64]
