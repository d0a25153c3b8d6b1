"""PixMix against the authors' program: its formulas in float64, Pillow's operations, its law by simulation."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

import gpurender as gr
from gpurender.augment.pixmix import added, multiplied, windows
from gpurender.augment.pixmix_draws import ALL_OPERATIONS, OPERATIONS, Law, draw
from gpurender.kernels.image_ops import Operation

IMAGES = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (24, 3, 20, 20), np.uint8))
SMALL = gr.ColorFractal(classes=9, instances=4, points=500, image_size=32)


class Flat:
    """Pictures of one colour: a stand-in for a renderer that tells what it was asked for."""

    device = torch.device("cpu")

    def __init__(self, colour, side=16):
        self.recipe, self.colour, self.side, self.asked = range(7), colour, side, []

    def render(self, indices, draw_ids, fresh):
        self.asked.append((indices, draw_ids, fresh))
        return torch.full((len(indices), 1, self.side, self.side), self.colour, dtype=torch.uint8)


def law(**changes):
    values = {"seed": 0, "pictures": 1000, "k": 4, "beta": 4.0, "severity": 1.0, "operations": OPERATIONS}
    return Law(**values | {"size": (30, 60)} | changes)


def drawn(count=40_000, **changes):
    return draw(np.arange(count, dtype=np.uint64), law(**changes))


def distance(sample, distribution):
    """Kolmogorov's distance of a sample from a distribution function, in units in which 2 is exceeded once in 1,500."""
    values = np.sort(sample.ravel())
    steps = np.arange(len(values) + 1) / len(values)
    theirs = distribution(values)
    return max(np.abs(theirs - steps[1:]).max(), np.abs(theirs - steps[:-1]).max()) * len(values) ** 0.5


def even(counts):
    """Whether counts are those of a uniform draw, within four standard deviations of chi squared."""
    mean = counts.sum() / len(counts)
    return ((counts - mean) ** 2 / mean).sum() < len(counts) - 1 + 4 * (2 * len(counts)) ** 0.5


# ---------------------------------------------------------------------------------------------------------- the draws


@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_weights_have_the_two_beta_laws(beta):
    d = drawn(8000, beta=beta)
    a, b = d.weights[..., 0].astype(float), d.weights[..., 1].astype(float)
    inside = b >= 0
    assert abs(inside.mean() - 0.5) < 0.01
    assert (a[inside] <= 1).all()
    assert (a[~inside] >= 1).all()
    assert (a <= 2).all()
    assert (np.abs(b) <= 1).all()

    def of_first(x):  # Beta(beta, 1)
        return x**beta

    def of_second(x):  # Beta(1, beta)
        return 1 - (1 - np.clip(x, 0, 1)) ** beta

    if beta < 1:  # steep at the ends, where float32 has steps: compare the bulk
        keep = (a > 1e-6) & (a < 1)
        assert abs(((a < 0.5) & inside).sum() / inside.sum() - 0.5**beta) < 0.01
        assert abs((a[keep & inside] < 0.01).mean() * keep[inside].mean() - (0.01**beta - 1e-6**beta)) < 0.015
        return
    assert distance(a[inside], of_first) < 2
    assert distance(b[inside], of_second) < 2
    assert distance(a[~inside] - 1, of_second) < 2
    assert distance(-b[~inside], of_second) < 2
    assert abs(np.corrcoef(a[inside], b[inside])[0, 1]) < 0.03


def test_rounds_sources_and_pictures_are_drawn_uniformly():
    d = drawn(pictures=10, k=3)
    assert even(np.bincount(d.rounds, minlength=4))
    assert d.rounds.max() == 3
    assert even(np.bincount(d.pictures, minlength=10))
    assert d.pictures.max() == 9
    assert even(np.bincount((d.operations != 0).ravel(), minlength=2))
    assert even(np.bincount(d.multiplies.ravel(), minlength=2))
    assert len(np.unique(d.picture_ids)) == len(d.picture_ids)
    assert d.picture_ids.min() >= 0
    assert d.picture_ids.max() < 2**62
    assert abs(d.picture_ids.mean() / 2**61 - 1) < 0.02
    pairs = np.stack([d.operations != 0, d.multiplies], -1).reshape(len(d.rounds), -1)
    off = np.corrcoef(np.concatenate([pairs, d.rounds[:, None], d.pictures[:, None]], 1).T) - np.eye(10)
    assert np.abs(off).max() < 0.025  # five standard errors


@pytest.mark.parametrize("operations", [OPERATIONS, ALL_OPERATIONS])
def test_operations_are_drawn_uniformly(operations):
    d = drawn(operations=operations)
    counts = np.bincount(d.operations[d.operations != 0], minlength=21)
    assert even(counts[list(operations)])
    assert counts.sum() == counts[list(operations)].sum()
    assert (len(OPERATIONS), len(ALL_OPERATIONS)) == (9, 13)


def test_arguments_are_those_of_the_released_program():
    """Levels are uniform from 0.1 to the severity; 60 pixels are the width, 30 the height."""
    d = drawn(severity=3.0, operations=ALL_OPERATIONS)

    def values(operation):
        return d.arguments[d.operations == operation]

    bits, thresholds = values(Operation.POSTERIZE), values(Operation.SOLARIZE)
    assert set(bits) == {3, 4}
    assert abs((bits == 3).mean() - 0.5 / 2.9) < 0.02
    assert set(thresholds) == set(range(180, 255))  # 256 - int(25.6 level)
    for name, largest in {"ROTATE": 8, "TRANSLATE_X": 5, "TRANSLATE_Y": 2}.items():  # int of 3, 2 and 1 times a level
        given = values(Operation[name])
        assert (given.max(), given.min()) == (largest, -largest)
        assert (given == np.trunc(given)).all()
        assert even(np.bincount(np.abs(given).astype(int))[1:])
        assert abs((given < 0).sum() / (given != 0).sum() - 0.5) < 0.04
    for name in ("SHEAR_X", "SHEAR_Y"):
        given = values(Operation[name])
        assert distance(np.abs(given), lambda x: (x / 0.03 - 0.1) / 2.9) < 2
        assert abs((given < 0).mean() - 0.5) < 0.03
    for name in ("COLOR", "CONTRAST", "BRIGHTNESS", "SHARPNESS"):
        assert distance(values(Operation[name]), lambda x: ((x - 0.1) / 0.18 - 0.1) / 2.9) < 2


def test_the_defaults_are_those_for_imagenet():
    mix = gr.augment.PixMix(gr.Renderer(SMALL))
    assert (mix.k, mix.beta, mix.severity, mix.all_ops, mix.crop * 256, mix.seed) == (4, 4.0, 1.0, False, 224.0, 0)


# --------------------------------------------------------------------------------------------------------- the mixers


@pytest.mark.parametrize(("a", "b"), [(0.8, 0.2), (1.3, -0.4), (0.0, 1.0), (2.0, -1.0), (1.0, 0.0), (0.0, 0.0)])
def test_mixers_are_the_papers_formulas(a, b):
    rng = np.random.default_rng(1)
    x, y = (np.concatenate([rng.random(3 * 98), [0, 0, 0, 1, 1, 1]]).reshape(1, 3, 10, 10) for _ in range(2))
    y.ravel()[-6:] = [0, 1, 0.5, 0, 1, 0.5]
    given = [torch.from_numpy(v).float() for v in (x, y)]
    before = [v.clone() for v in given]
    x, y = (v.numpy().astype(float) for v in given)
    weights = [torch.full((1, 1, 1, 1), w) for w in (a, b)]
    a, b = (float(w) for w in weights)
    sums = (a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2
    products = (2 * x) ** a * np.maximum(2 * y, 1e-37) ** b / 2
    np.testing.assert_allclose(added(*given, *weights).numpy(), sums, atol=1e-6)
    np.testing.assert_allclose(multiplied(*given, *weights).numpy(), products, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(v, w) for v, w in zip(given, before, strict=True))


def pillows(image, operation, argument):
    """An operation as the authors' program calls Pillow; image: uint8 [3, H, W]."""
    shown = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    size, whole = shown.size, int(argument)
    moves = {
        Operation.SHEAR_X: (1, argument, 0, 0, 1, 0),
        Operation.SHEAR_Y: (1, 0, 0, argument, 1, 0),
        Operation.TRANSLATE_X: (1, 0, whole, 0, 1, 0),
        Operation.TRANSLATE_Y: (1, 0, 0, 0, 1, whole),
    }
    changed = {
        Operation.AUTO_CONTRAST: lambda: ImageOps.autocontrast(shown),
        Operation.EQUALIZE: lambda: ImageOps.equalize(shown),
        Operation.POSTERIZE: lambda: ImageOps.posterize(shown, whole),
        Operation.ROTATE: lambda: shown.rotate(whole, resample=Image.Resampling.BILINEAR),
        Operation.SOLARIZE: lambda: ImageOps.solarize(shown, whole),
        Operation.COLOR: lambda: ImageEnhance.Color(shown).enhance(argument),
        Operation.CONTRAST: lambda: ImageEnhance.Contrast(shown).enhance(argument),
        Operation.BRIGHTNESS: lambda: ImageEnhance.Brightness(shown).enhance(argument),
        Operation.SHARPNESS: lambda: ImageEnhance.Sharpness(shown).enhance(argument),
    }
    if operation in moves:
        made = shown.transform(size, Image.Transform.AFFINE, moves[operation], resample=Image.Resampling.BILINEAR)
    else:
        made = changed[operation]()
    return np.asarray(made).transpose(2, 0, 1)


@pytest.mark.parametrize(("crop", "all_ops"), [(1.0, True), (0.625, False)])
def test_a_batch_is_what_the_released_program_makes_of_its_draws(crop, all_ops):
    """Round by round in float64, with Pillow's operations and windows of 20 of 32 pixels, or whole pictures resized."""
    renderer = gr.Renderer(SMALL)
    mix = gr.augment.PixMix(renderer, k=5, beta=2.0, severity=6.0, all_ops=all_ops, crop=crop, seed=3)
    numbers = np.arange(24, dtype=np.uint64) + 2**40
    operations = ALL_OPERATIONS if all_ops else OPERATIONS
    d = draw(numbers, Law(3, len(SMALL), 5, 2.0, 6.0, operations, (20, 20)))
    pictures = renderer.render(torch.from_numpy(d.pictures), torch.from_numpy(d.picture_ids), True).numpy()
    expected = []
    for i, image in enumerate(IMAGES.numpy()):
        if crop == 1.0:
            shown = Image.fromarray(pictures[i].transpose(1, 2, 0)).resize((20, 20), Image.Resampling.BILINEAR)
            picture = np.asarray(shown).transpose(2, 0, 1)
        else:
            top, left = (int(word) * 13 >> 32 for word in d.places[i])
            picture = pictures[i][:, top : top + 20, left : left + 20]
        mixed = image / 255
        if d.operations[i, 0]:
            mixed = pillows(image, d.operations[i, 0], d.arguments[i, 0]) / 255
        for r in range(1, d.rounds[i] + 1):
            other = pillows(image, d.operations[i, r], d.arguments[i, r]) if d.operations[i, r] else picture
            (a, b), other = d.weights[i, r].astype(float), other / 255
            if d.multiplies[i, r]:
                mixed = (2 * mixed) ** a * np.maximum(2 * other, 1e-37) ** b / 2
            else:
                mixed = (a * (2 * mixed - 1) + b * (2 * other - 1) + 1) / 2
            mixed = np.clip(mixed, 0, 1)
        expected.append(mixed)
    floats = mix(IMAGES.float() / 255, numbers)
    off = np.abs(floats.numpy() - expected)
    assert np.quantile(off, 0.999) < 1e-4  # powers of values near 0 are steep
    assert off.mean() < 1e-6
    bytes_ = mix(IMAGES, 2**8).numpy()  # the call 2^8: its numbers are those above
    assert (np.abs(bytes_ - np.floor(np.array(expected) * 255 + 0.5)) > 0).mean() < 1e-3
    assert d.rounds.max() == 5
    assert (d.rounds == 0).any()


def simulated(count, colour, picture, rng, k, beta, severity):
    """The middle of an image of one colour under the authors' program, with NumPy's generator."""

    def augmented():
        operation = rng.integers(9)
        level = rng.uniform(0.1, severity)
        if operation == 2:
            return int(colour) & ~(255 >> (4 - int(level * 4 / 10)))
        if operation == 4:
            return colour if colour < 256 - int(level * 256 / 10) else 255 - colour
        return colour

    found = np.empty(count)
    for i in range(count):
        mixed = (augmented() if rng.random() < 0.5 else colour) / 255
        for _ in range(rng.integers(k + 1)):
            other = (augmented() if rng.random() < 0.5 else picture) / 255
            multiplies = rng.integers(2)
            if rng.random() < 0.5:
                a, b = rng.beta(beta, 1), rng.beta(1, beta)
            else:
                a, b = 1 + rng.beta(1, beta), -rng.beta(1, beta)
            if multiplies:
                mixed = (2 * mixed) ** a * max(2 * other, 1e-37) ** b / 2
            else:
                mixed = (a * (2 * mixed - 1) + b * (2 * other - 1) + 1) / 2
            mixed = min(max(mixed, 0.0), 1.0)
        found[i] = mixed
    return found


@pytest.mark.parametrize(("colour", "picture"), [(200, 90), (60, 0), (128, 255)])
def test_the_law_of_the_result_is_that_of_the_released_program(colour, picture):
    """Two samples of the value in the middle of a flat image: equal in distribution, with atoms at 0 and 1."""
    n = 3000
    images = torch.full((n, 3, 16, 16), colour, dtype=torch.uint8).float().div(255)
    mix = gr.augment.PixMix(Flat(picture), k=3, beta=2.0, severity=9.0, seed=8)
    ours = np.sort(mix(images, 1)[:, 1, 8, 8].numpy().astype(float))
    theirs = np.sort(simulated(n, colour, picture, np.random.default_rng(3), 3, 2.0, 9.0))
    grid = np.linspace(-0.001, 1.001, 4001)
    gap = np.abs(np.searchsorted(ours, grid) - np.searchsorted(theirs, grid)).max() / n
    assert gap < 2 * (2 / n) ** 0.5
    assert abs(ours.mean() - theirs.mean()) < 4 * theirs.std() * (2 / n) ** 0.5


# -------------------------------------------------------------------------------------------------- pictures, windows


def test_each_image_has_one_fresh_picture_of_its_own():
    pictures = Flat(99)
    gr.augment.PixMix(pictures, k=4)(IMAGES, 0)
    ((indices, ids, fresh),) = pictures.asked
    assert fresh is True
    assert len(ids.unique()) == len(ids)
    assert indices.min() >= 0
    assert indices.max() < 7
    d = draw(np.arange(24, dtype=np.uint64), law(pictures=7, size=(20, 20)))
    wanted = [((d.operations[i, 1 : d.rounds[i] + 1]) == 0).any() for i in range(24)]
    assert len(ids) == sum(wanted) < 24
    assert ids.tolist() == d.picture_ids[wanted].tolist()
    assert indices.tolist() == d.pictures[wanted].tolist()


def test_windows_have_the_shape_of_the_images_and_lie_anywhere():
    ends = np.array([[0, 0], [2**32 - 1, 2**32 - 1], [2**31, 0]])
    assert windows(ends, 256, 0.875, (224, 224)).tolist() == [
        [0, 0, 224, 224], [32, 32, 224, 224], [16, 0, 224, 224],
    ]  # fmt: skip
    assert windows(ends, 36, 8 / 9, (32, 32)).tolist() == [[0, 0, 32, 32], [4, 4, 32, 32], [2, 0, 32, 32]]
    assert windows(ends, 100, 1.0, (50, 200)).tolist() == [[0, 0, 25, 100], [75, 0, 25, 100], [38, 0, 25, 100]]
    assert windows(ends, 100, 0.5, (200, 100)).tolist() == [[0, 0, 50, 25], [50, 75, 50, 25], [25, 0, 50, 25]]
    assert windows(ends, 16, 0.001, (8, 8)).tolist() == [[0, 0, 1, 1], [15, 15, 1, 1], [8, 0, 1, 1]]
    assert windows(ends, 30, 0.05, (10, 10)).tolist()[0] == [0, 0, 2, 2]  # 1.5 pixels
    assert windows(ends, 16, 1.0, (8, 8)).dtype == np.int32


# ------------------------------------------------------------------------------------------------- batches, precision


def test_an_image_depends_on_its_number_not_on_its_batch():
    mix = gr.augment.PixMix(gr.Renderer(SMALL), seed=2)
    whole = mix(IMAGES, 7)
    assert torch.equal(mix(IMAGES, 7), whole)
    for listed in (list, np.array, torch.tensor):
        numbers = listed([(7 << 32) + i for i in (3, 20, 4)])
        assert torch.equal(mix(IMAGES[[3, 20, 4]], numbers), whole[[3, 20, 4]])
    assert not torch.equal(mix(IMAGES, 8), whole)
    assert not torch.equal(gr.augment.PixMix(gr.Renderer(SMALL), seed=3)(IMAGES, 7), whole)
    assert len({image.numpy().tobytes() for image in mix(IMAGES[:1].expand(24, -1, -1, -1), 7)}) > 18


def test_batches_are_mixed_in_parts_of_what_a_cache_holds(monkeypatch):
    mix = gr.augment.PixMix(gr.Renderer(SMALL))
    whole = mix(IMAGES, 0)
    for pixels in (1, 400, 401, 1999):  # of an image: 400
        monkeypatch.setattr("gpurender.augment.pixmix.HOST_PIXELS", pixels)
        assert torch.equal(mix(IMAGES, 0), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_floats_keep_their_dtype_and_bytes_are_rounded(dtype):
    mix = gr.augment.PixMix(gr.Renderer(SMALL))
    images = (IMAGES.float() / 255).to(dtype)
    mixed = mix(images, 0)
    assert mixed.dtype == dtype
    assert mixed.shape == images.shape
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    if dtype in (torch.float32, torch.float64):
        assert torch.equal(mix(IMAGES, 0), (mixed.float() * 255 + 0.5).to(torch.uint8))


def test_nothing_is_mixed_without_rounds_and_the_input_is_left_alone():
    images, before = IMAGES.clone().requires_grad_(False), IMAGES.clone()
    mixed = gr.augment.PixMix(Flat(9), k=0, severity=0.1)(images, 0)
    assert torch.equal(images, before)
    same = (mixed == images).flatten(1).all(1)
    d = draw(np.arange(24, dtype=np.uint64), law(k=0, severity=0.1, pictures=7, size=(20, 20)))
    assert same[torch.from_numpy(d.operations[:, 0] == 0)].all()
    assert not same.all()
    floats = (IMAGES.float() / 255).requires_grad_()
    assert not gr.augment.PixMix(Flat(9))(floats, 0).requires_grad


def test_extreme_images_and_pictures_stay_within_range():
    for colour in (0, 255):
        for level in (0.0, 1.0):
            images = torch.full((64, 3, 16, 16), level)
            mixed = gr.augment.PixMix(Flat(colour), k=8, beta=0.1)(images, 3)
            assert torch.isfinite(mixed).all()
            assert mixed.min() >= 0
            assert mixed.max() <= 1


def test_empty_batches_other_shapes_and_layouts():
    mix = gr.augment.PixMix(gr.Renderer(SMALL))
    assert mix(IMAGES[:0], 0).shape == (0, 3, 20, 20)
    assert mix(IMAGES[:, :, :7], 0).shape == (24, 3, 7, 20)
    last = IMAGES.to(memory_format=torch.channels_last)
    assert torch.equal(mix(last, 0), mix(IMAGES, 0))
    with torch.inference_mode():
        assert not mix(IMAGES, 0).is_inference()


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"k": -1}, r"k must be an integer in \[0, 64\], got -1"),
        ({"k": 65}, r"k must be an integer in \[0, 64\], got 65"),
        ({"beta": 0.05}, r"beta must be a finite number in \[0.1, 100\], got 0.05"),
        ({"beta": 101}, r"beta must be a finite number in \[0.1, 100\], got 101"),
        ({"severity": 0}, r"severity must be a finite number in \[0.1, 10\], got 0"),
        ({"severity": 10.5}, r"severity must be a finite number in \[0.1, 10\], got 10.5"),
        ({"crop": 0}, "crop must be above 0 and at most 1, got 0"),
        ({"crop": 1.1}, r"crop must be a finite number in \[0, 1\], got 1.1"),
        ({"seed": -1}, r"seed must be an integer in \[0, 18446744073709551615\], got -1"),
    ],
)
def test_parameters_out_of_range_are_refused(keywords, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        gr.augment.PixMix(Flat(0), **keywords)


def test_the_ends_of_the_ranges_are_allowed():
    for keywords in ({"k": 64, "beta": 0.1, "severity": 10}, {"k": 0, "beta": 100, "severity": 0.1, "crop": 1}):
        mixed = gr.augment.PixMix(Flat(7), seed=2**64 - 1, **keywords)(IMAGES.float() / 255, 2)
        assert torch.isfinite(mixed).all()


def test_of_more_pictures_than_a_word_chooses_the_first_are_taken():
    pictures = Flat(7)
    pictures.recipe = range(2**40)
    gr.augment.PixMix(pictures)(IMAGES, 0)
    indices = pictures.asked[0][0]
    assert 0 <= indices.min() < 2**31 < indices.max() < 2**32


def test_wrong_pictures_and_keywords_are_refused():
    for wrong in ("colorfractal-1k", gr.Renderer, None):
        with pytest.raises(
            TypeError, match=r"^pictures must be a renderer such as gr.Renderer\('colorfractal-1k'\), got "
        ):
            gr.augment.PixMix(wrong)
    with pytest.raises(TypeError, match=r"did you mean 'severity'"):
        gr.augment.PixMix(Flat(0), sevrity=2)
    with pytest.raises(TypeError, match=r"^all_ops must be True or False, got 1$"):
        gr.augment.PixMix(Flat(0), all_ops=1)


@pytest.mark.parametrize(
    ("images", "error", "got"),
    [
        (np.zeros((1, 3, 8, 8), np.uint8), TypeError, "ndarray"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), TypeError, r"torch.int64 \[1, 3, 8, 8\] on cpu"),
        (torch.zeros(1, 1, 8, 8), ValueError, r"torch.float32 \[1, 1, 8, 8\] on cpu"),
        (torch.zeros(3, 8, 8), ValueError, r"torch.float32 \[3, 8, 8\] on cpu"),
        (torch.zeros(1, 3, 8, 8, device="meta"), ValueError, r"torch.float32 \[1, 3, 8, 8\] on meta"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images, error, got):
    allowed = r"uint8 or floating \[B, 3, H, W\] on cpu, the device of the pictures"
    with pytest.raises(error, match=f"^images must be {allowed}, got {got}$"):
        gr.augment.PixMix(Flat(0))(images, 0)


def test_normalised_images_are_refused():
    mix = gr.augment.PixMix(Flat(0))
    for low, high, got in ((-0.5, 1.0, "-0.5 to 1"), (0.0, 1.25, "0 to 1.25"), (float("nan"), 1.0, "nan to nan")):
        images = torch.tensor([low, high]).repeat(96).view(1, 3, 8, 8)
        with pytest.raises(ValueError, match=rf"^images must lie in \[0, 1\], before any .*, got values from {got}$"):
            mix(images, 0)
    mix(torch.tensor([0.0, 1.0]).repeat(96).view(1, 3, 8, 8), 0)


def test_wrong_numbers_are_refused():
    mix = gr.augment.PixMix(Flat(0))
    mix(IMAGES, 2**32 - 1)
    with pytest.raises(ValueError, match=r"^numbers must be an integer in \[0, 4294967295\], got 4294967296$"):
        mix(IMAGES, 2**32)
    with pytest.raises(ValueError, match=r"^numbers must be an integer in \[0, 4294967295\], got -1$"):
        mix(IMAGES, -1)
    with pytest.raises(TypeError, match=r"^numbers must be an integer in \[0, 4294967295\], got 0.5$"):
        mix(IMAGES, 0.5)
    with pytest.raises(ValueError, match=r"^numbers must be one integer, or one for each of the 24 images, got 3$"):
        mix(IMAGES, [1, 2, 3])
    with pytest.raises(ValueError, match=r"^numbers must be on the host, got a tensor on meta$"):
        mix(IMAGES, torch.zeros(24, dtype=torch.int64, device="meta"))
