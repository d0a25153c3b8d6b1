"""What the Triton kernels of image operations must compute, checked on a device as in ``triton_checks.py``.

Expected are the bytes of Pillow, through the functions of timm and torchvision that training scripts call, and those
of the Numba implementation.
"""

import contextlib
from unittest import mock

import numpy as np
import torch
from PIL import Image, ImageFilter
from timm.data import auto_augment
from torchvision.transforms import functional

from gpurender.kernels.image_ops import Kind, Operation, apply_ops, cpu_matrices
from gpurender.numerics.portable_math import exp
from tests.support import triton_paths

FILL = (124, 116, 104)
MODES = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
MOVES = {
    Operation.ROTATE: auto_augment.rotate,
    Operation.SHEAR_X: auto_augment.shear_x,
    Operation.SHEAR_Y: auto_augment.shear_y,
    Operation.TRANSLATE_X: auto_augment.translate_x_abs,
    Operation.TRANSLATE_Y: auto_augment.translate_y_abs,
    Operation.TRANSLATE_X_REL: auto_augment.translate_x_rel,
    Operation.TRANSLATE_Y_REL: auto_augment.translate_y_rel,
}
CHANGES = {
    Operation.IDENTITY: lambda image, _: image,
    Operation.AUTO_CONTRAST: lambda image, _: auto_augment.auto_contrast(image),
    Operation.EQUALIZE: lambda image, _: auto_augment.equalize(image),
    Operation.INVERT: lambda image, _: auto_augment.invert(image),
    # timm cannot keep 0 bits with recent versions of Pillow, whose formula makes black of them.
    Operation.POSTERIZE: lambda image, x: auto_augment.posterize(image, int(x)) if x >= 1 else image.point(lambda _: 0),
    Operation.SOLARIZE: auto_augment.solarize,
    Operation.SOLARIZE_ADD: lambda image, x: auto_augment.solarize_add(image, int(x)),
    Operation.BRIGHTNESS: auto_augment.brightness,
    Operation.CONTRAST: auto_augment.contrast,
    Operation.COLOR: auto_augment.color,
    Operation.HUE: functional.adjust_hue,
    Operation.SHARPNESS: auto_augment.sharpness,
    Operation.GAUSSIAN_BLUR: lambda image, x: image.filter(ImageFilter.GaussianBlur(x)),
    Operation.GAUSSIAN_KERNEL: lambda image, x: functional.gaussian_blur(image, 23, x),
}
ARGUMENTS = {
    Operation.POSTERIZE: [0, 0.9, 1, 3, 4.7, 8],
    Operation.SOLARIZE: [-3, 0, 26, 99.5, 128, 255, 256, 1000],
    Operation.SOLARIZE_ADD: [0, 1, 99, 127, 128, 1e6],
    Operation.BRIGHTNESS: [0, 0.19, 0.3333, 1, 1.81, 7, 1e6],
    Operation.CONTRAST: [0, 0.19, 0.3333, 1, 1.81, 7, 1e6],
    Operation.COLOR: [0, 0.19, 0.3333, 1, 1.81, 7, 1e6],
    Operation.SHARPNESS: [0, 0.19, 0.3333, 1, 1.81, 7, 1e6],
}


def pillow(image, code, argument, interpolation, fill=FILL):
    """One operation on an image uint8 [3, H, W], through Pillow."""
    before = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if code in MOVES:
        after = MOVES[code](before, argument, resample=MODES[interpolation], fillcolor=fill)
    else:
        after = CHANGES[code](before, argument)
    return np.asarray(after).transpose(2, 0, 1)


@contextlib.contextmanager
def gpu_path(device, pixels):
    """The launchers take the way of GPUs on this device; the interpreter, whose time goes by programs, gets few.

    There a program has as many pixels at once as an image. With None it has as many as on a GPU.
    """
    from gpurender.kernels.image_ops import gpu

    names = ("CHANGED", "CHANGED_SPAN", "MOVED", "MOVED_SPAN")
    few = {name: getattr(gpu, name) for name in names}
    if device == triton_paths.CPU and pixels:
        many, side = max(1 << (pixels - 1).bit_length(), 16), 1 << 6
        few = {"CHANGED": many, "CHANGED_SPAN": many, "MOVED": (side, side), "MOVED_SPAN": side}
    with (
        triton_paths.gpu_path(device),
        mock.patch.multiple(gpu, **few),
    ):
        yield


def operated(device, images, operations, arguments, interpolations, fill=FILL, many=False, **keywords):
    """The Triton kernels' bytes of NumPy arrays or lists: uint8 [N, C, H, W]. many: in programs of a GPU's size."""
    from gpurender.kernels.image_ops import gpu

    chain = (
        torch.as_tensor(np.asarray(operations, np.int32)),
        torch.as_tensor(np.asarray(arguments, np.float64)),
        torch.as_tensor(np.asarray(interpolations, np.uint8)),
    )
    given = [torch.from_numpy(np.ascontiguousarray(images)), *chain]
    with gpu_path(device, None if many else images[0, 0].size):
        found = gpu.apply_ops(*(x.to(device) for x in given), fill, **keywords)
    assert (found.dtype, found.device, tuple(found.shape)) == (torch.uint8, device, np.shape(images))
    return found.cpu().numpy()


def same_as_pillow(device, cases, slack=0, many=False):
    """Cases (image [3, H, W], code, argument, interpolation), images of one shape, against Pillow; and of every third,
    the last band as an image of one band, against three equal ones.
    """
    for grey in (False, True):
        images, codes, arguments, modes = zip(*cases[:: 3 if grey else 1], strict=True)
        chain = [[[x] for x in values] for values in (codes, arguments, modes)]
        fill = (77, 77, 77) if grey else FILL
        given = np.repeat(np.stack(images)[:, 2:], 3, axis=1) if grey else np.stack(images)
        found = operated(device, given[:, :1] if grey else given, *chain, fill, many, possible=set(codes))
        for image, code, argument, mode, bytes_found in zip(given, codes, arguments, modes, found, strict=True):
            expected = pillow(image, code, argument, mode, fill)[: len(bytes_found)]
            worst = np.abs(bytes_found.astype(int) - expected).max()
            assert worst <= slack, (image.shape, code.name, argument, mode, fill, worst)


def pictures(rng, height, width):
    """Noise, a gradient, a sparse drawing, a flat colour, few levels, and a low contrast: uint8 [6, 3, H, W]."""
    shape = (3, height, width)
    ramp = np.linspace(0, 255, 3 * height * width).reshape(shape)
    drawing = np.broadcast_to((rng.random((1, height, width)) < 0.1) * 127, shape)
    flat = np.broadcast_to(np.array([3, 250, 128])[:, None, None], shape)
    kinds = [
        rng.integers(0, 256, shape),
        ramp,
        drawing,
        flat,
        rng.integers(0, 3, shape) * 100,
        rng.integers(90, 99, shape),
    ]
    return np.stack(kinds).astype(np.uint8)


def operations_by_table(device):
    """AUTO_CONTRAST to CONTRAST, COLOR, SHARPNESS and IDENTITY, on images that are read in one go and in several."""
    rng = np.random.default_rng(20)
    for height, width in [(20, 32), (1, 1), (1, 7), (2, 5), (91, 47)]:
        images, few = pictures(rng, height, width), height != 20
        cases = [(images[0], Operation.IDENTITY, 0, 0)]
        tables = [operation for operation in Operation if operation.spec.kind is Kind.LUT]
        for code in (*tables, Operation.COLOR, Operation.SHARPNESS):
            arguments = ARGUMENTS.get(code, [0] * len(images))
            cases += [(images[i % 6], code, x, 0) for i, x in enumerate(arguments[few:4] if few else arguments)]
        same_as_pillow(device, cases, many=height > 20)


def hues(device):
    """Every hue and saturation that bytes have, and random colours, turned by several angles."""
    largest, other = (x.ravel() for x in np.meshgrid(np.arange(256), np.arange(256)))
    largest, other = largest[other <= largest], other[other <= largest]
    sides = np.stack([largest, other, 0 * other])
    colours = [sides[list(order)] for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0))]
    colours.append(np.random.default_rng(21).integers(0, 256, (3, 626)))
    image = np.concatenate(colours, axis=1).astype(np.uint8).reshape(3, 2, -1)
    cases = [(image, Operation.HUE, x, 0) for x in (0.0, 0.37, -0.5, -0.1)]
    images, codes, arguments, modes = zip(*cases, strict=True)
    chain = [[[x] for x in values] for values in (codes, arguments, modes)]
    found = operated(device, np.stack(images), *chain, possible=set(codes))
    for (given, code, argument, mode), turned in zip(cases, found, strict=True):
        assert (turned == pillow(given, code, argument, mode)).all(), argument
    same_as_pillow(device, [(image[:, :, :9], Operation.HUE, 0.4, 0)])  # of one band: as it is


def box_blurs(device):
    """GAUSSIAN_BLUR of all sizes, of images that its box does not fit, too."""
    rng = np.random.default_rng(22)
    for height, width, radii in [
        (21, 30, [0, 0.1, 0.5, 1, 1.37, 2, 5.5]),
        (33, 65, [2.2]),
        (1, 7, [0.8, 64]),
        (40, 1, [1, 9]),
    ]:
        images = pictures(rng, height, width)
        cases = [(images[i % 3], Operation.GAUSSIAN_BLUR, x, 0) for i, x in enumerate(radii)]
        same_as_pillow(device, cases, many=height == 33)


def kernel_blurs(device):
    """GAUSSIAN_KERNEL within a level of torchvision, whose sums have another order; the image mirrored at its edge."""
    rng = np.random.default_rng(23)
    for height, width, sigmas in [(13, 34, [0.1, 0.4, 1.1, 2.0]), (40, 12, [0.7])]:
        images = pictures(rng, height, width)
        cases = [(images[i % 3], Operation.GAUSSIAN_KERNEL, x, 0) for i, x in enumerate(sigmas)]
        same_as_pillow(device, cases, slack=1)


def moves(device):
    """Rotations, shears and translations, by all interpolations."""
    rng = np.random.default_rng(24)
    arguments = {
        Operation.ROTATE: [27, -13.3, 90, 180, -360],
        Operation.SHEAR_X: [0.27, -0.3, 33.3],
        Operation.SHEAR_Y: [0.27, -0.3, 33.3],
        Operation.TRANSLATE_X: [2.5, -4.6, 100],
        Operation.TRANSLATE_Y: [9.99, -3, 100],
        Operation.TRANSLATE_X_REL: [0.405, -0.2],
        Operation.TRANSLATE_Y_REL: [0.405, -0.2],
    }
    for height, width in [(16, 28), (1, 1), (1, 7), (97, 45), (8, 3), (2, 4)]:
        images = pictures(rng, height, width)
        cases = [
            (images[i % 4], code, x, mode)
            for code, values in arguments.items()
            for i, x in enumerate(values if height == 16 else values[:1])
            for mode in range(3)
        ]
        step = {16: 1, 97: 6}.get(height, 2)
        same_as_pillow(device, cases[::step], many=height == 97)


def moves_estimated(device):
    """Moves as where float64 is slow, against Pillow and the Numba implementation: of half a million bytes, many at
    coordinates whose fractions make integers of the values, or lie beside those that do.
    """
    from gpurender.kernels.image_ops import gpu

    rng = np.random.default_rng(31)
    near = [np.nextafter(x, y) for x in (0.0, 0.5, 1.0) for y in (-1.0, 2.0)]
    shifts = [0.0, 1.0, 0.5, 0.25, 1 / 3, -2 / 3, 1 / 255, 0.2, -7 / 5, 1e-9, -1e-9, *near]
    cases = [(code, x) for x in shifts for code in (Operation.TRANSLATE_X, Operation.TRANSLATE_Y)]
    cases += [(code, x) for x in (1 / 3, 0.25, -0.3, 1e-9) for code in (Operation.SHEAR_X, Operation.SHEAR_Y)]
    cases += [(Operation.ROTATE, x) for x in (0, 45, 90, 30, 180, 1e-7, *rng.uniform(-180, 180, 9))]
    kinds = ((3, 64, (0, 256, 1)), (3, 63, (0, 256, 3)), (1, 64, (0, 256, 255)))
    for first, (channels, side, spread) in enumerate(kinds):
        some = cases[first :: len(kinds)]
        size = (len(some), channels, side, side)
        images = torch.from_numpy(rng.choice(np.arange(*spread), size).astype(np.uint8))
        images[:, :, :20, 10:40] = images[:, :, :1, 10:11]  # flat, and flat along one axis
        images[:, :, 30:, :20] = images[:, :, 30:, :1]
        codes, arguments = (torch.tensor(x)[:, None] for x in zip(*some, strict=True))
        for mode in (1, 2):
            given = [images, codes.int(), arguments.double(), torch.full_like(codes, mode).byte()]
            wanted = apply_ops(*given, (9, 9, 9))
            with gpu_path(device, side**2), mock.patch.object(gpu, "fast_double", return_value=False):
                found = apply_ops(*(x.to(device) for x in given), (9, 9, 9))
            for case, a, b in zip(some, found.cpu(), wanted, strict=True):
                assert torch.equal(a, b), (case, mode, spread)
    with mock.patch.object(gpu, "fast_double", return_value=False):
        pictured = pictures(rng, 16, 28)
        same_as_pillow(device, [(pictured[i % 4], code, x, 1 + i % 2) for i, (code, x) in enumerate(cases[::6])])


def errors_of_estimates(device):
    """Within the bound that gpu_affine.py derives, also at the bytes and fractions that make the largest errors."""
    from gpurender.kernels.image_ops import cpu_affine, gpu_affine
    from tests.kernels.triton_raw import estimate_of

    rng = np.random.default_rng(32)
    count = 1 << 16
    pixels = rng.integers(0, 256, (4, 4, count))
    pixels[:, :, ::2] = rng.choice([0, 1, 254, 255], (4, 4, count // 2))
    fractions = rng.random((2, count))
    fractions[:, ::3] = 1.0 - rng.random((2, len(fractions[0, ::3]))) * 0.5
    words = (pixels << np.array([0, 8, 16, 24])[:, None]).sum(1).astype(np.uint32).view(np.int32)  # [4 rows, count]
    found = torch.zeros(count, device=device)
    given = [torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in (words, fractions)]
    for bicubic in (False, True):
        grid, size = (count >> 10,), 1 << 10
        estimate_of[grid](*given, found, count, int(bicubic), size, num_warps=4, enable_fp_fusion=False)
        rows = [p.astype(np.float64) for p in pixels]
        if bicubic:
            rows = [cpu_affine.cubic.py_func(*row, fractions[1]) for row in rows]
            exact = cpu_affine.cubic.py_func(*rows, fractions[0])
        else:
            upper, lower = (row[1] + (row[2] - row[1]) * fractions[1] for row in rows[1:3])
            exact = upper + (lower - upper) * fractions[0]
        worst = np.abs(found.cpu().numpy() - exact).max()
        assert 1e-5 < worst < 4565 * 2.0**-24 < gpu_affine.MARGIN.value, worst


def nearest_steps(device):
    """Where Pillow's nearest neighbour, which adds steps up, shows another pixel than a product would."""
    rng = np.random.default_rng(25)
    image = pictures(rng, 9, 70)[0]
    below, above = np.nextafter(2.5, 0), np.nextafter(-0.5, 0)
    shifts = [float.fromhex(x) for x in ("0x1.ffffffffffff6p-2", "0x1.fffffffffffd8p-2")]  # rounded up, on the way
    shifts += [below, 2.5, np.nextafter(2.5, 3), above, -0.5, np.nextafter(0.5, 0), 1e-17, -1e-17, 5e-16]
    cases = [(image, code, x, 0) for x in shifts for code in (Operation.TRANSLATE_X, Operation.TRANSLATE_Y)]
    far = [1000.1, -2345.6, 4e5, 1e6]  # coordinates that Pillow's fixed point does not hold
    cases += [
        (image, code, x, 0) for x in far for code in (Operation.SHEAR_X, Operation.SHEAR_Y, Operation.TRANSLATE_X)
    ]
    same_as_pillow(device, cases)


def argument_at_random(rng, code):
    """A usual argument of an operation."""
    if code in (Operation.TRANSLATE_X_REL, Operation.TRANSLATE_Y_REL):
        return rng.uniform(-0.45, 0.45)
    ranges = {
        Operation.POSTERIZE: (0, 8.99),
        Operation.SOLARIZE: (0, 256),
        Operation.SOLARIZE_ADD: (0, 110),
        Operation.HUE: (-0.5, 0.5),
        Operation.GAUSSIAN_BLUR: (0.1, 3),
        Operation.GAUSSIAN_KERNEL: (0.1, 2),
        Operation.ROTATE: (-180, 180),
        Operation.SHEAR_X: (-0.3, 0.3),
        Operation.SHEAR_Y: (-0.3, 0.3),
        Operation.TRANSLATE_X: (-20, 20),
        Operation.TRANSLATE_Y: (-20, 20),
    }
    return min(float(rng.uniform(*ranges.get(code, (0.1, 1.9)))), 8.0 if code == Operation.POSTERIZE else 1e6)


def drawn_chains(rng, n, layers):
    """Chains of any operations, half of them IDENTITY: operations, arguments, interpolations [n, layers]."""
    codes = rng.integers(1, len(Operation), (n, layers)) * (rng.random((n, layers)) < 0.5)
    arguments = [[argument_at_random(rng, code) for code in row] for row in codes]
    return codes.astype(np.int32), np.array(arguments), rng.integers(0, 3, (n, layers)).astype(np.uint8)


def chains(device):
    """Chains of up to four operations, some empty, against Pillow's one after the other."""
    rng = np.random.default_rng(26)
    for layers, n in [(1, 3), (2, 12), (3, 6), (4, 10)]:
        images = pictures(rng, 18, 27)[rng.integers(0, 3, n)]
        codes, arguments, modes = drawn_chains(rng, n, layers)
        codes[codes == Operation.GAUSSIAN_KERNEL] = Operation.GAUSSIAN_BLUR  # exact
        codes[0], codes[1] = Operation.IDENTITY, Operation.INVERT
        before = images.copy()
        found = operated(device, images, codes, arguments, modes)
        assert (images == before).all()
        for i in range(n):
            expected = images[i]
            for chain in zip(codes[i], arguments[i].tolist(), modes[i], strict=True):
                expected = pillow(expected, *chain)
            assert (found[i] == expected).all(), (codes[i], arguments[i], modes[i])


def operations_as_in_numba(device):
    """The launcher's bytes on the device and on the CPU: every operation, chains at random, small images, too."""
    rng = np.random.default_rng(27)
    for channels, height, width, n, layers in [
        (3, 19, 26, 21, 1),
        (3, 30, 17, 12, 3),
        (1, 17, 33, 21, 2),
        (3, 5, 4, 21, 1),
    ]:
        images = torch.from_numpy(rng.integers(0, 256, (n, channels, height, width)).astype(np.uint8))
        codes, arguments, modes = drawn_chains(rng, n, layers)
        if layers == 1:
            codes[:, 0] = np.arange(n) % len(Operation)
            arguments = np.array([[argument_at_random(rng, code) for code in row] for row in codes])
        given = [images, *(torch.from_numpy(x) for x in (codes, arguments, modes))]
        fill = FILL if channels == 3 else (9, 9, 9)
        expected = apply_ops(*given, fill)
        with gpu_path(device, height * width):
            found = apply_ops(*(x.to(device) for x in given), fill)
        for i in range(n):
            assert torch.equal(found[i].cpu(), expected[i]), (channels, codes[i], arguments[i], modes[i])


def operations_out_of_range(device):
    """Codes, arguments and interpolations that a GPU does not look at are forced into their ranges."""
    image = pictures(np.random.default_rng(28), 14, 19)[0]
    nan, far = float("nan"), float("inf")
    given = [
        ((-7, 1.0, 0), (Operation.IDENTITY, 0, 0)),
        ((len(Operation), 0.1, 1), (Operation.IDENTITY, 0, 0)),
        ((2**31 - 1, 0.1, 1), (Operation.IDENTITY, 0, 0)),
        ((Operation.POSTERIZE, 11.0, 0), (Operation.POSTERIZE, 8, 0)),
        ((Operation.POSTERIZE, -far, 0), (Operation.POSTERIZE, 0, 0)),
        ((Operation.SOLARIZE_ADD, -1.0, 0), (Operation.SOLARIZE_ADD, 0, 0)),
        ((Operation.SOLARIZE_ADD, far, 0), (Operation.SOLARIZE_ADD, 1e6, 0)),
        ((Operation.BRIGHTNESS, nan, 0), (Operation.BRIGHTNESS, 0, 0)),
        ((Operation.COLOR, 1e300, 0), (Operation.COLOR, 1e6, 0)),
        ((Operation.HUE, far, 0), (Operation.HUE, 0.5, 0)),
        ((Operation.GAUSSIAN_BLUR, nan, 0), (Operation.GAUSSIAN_BLUR, 0, 0)),
        ((Operation.ROTATE, 30.0, 255), (Operation.ROTATE, 30.0, 2)),
    ]
    found = operated(
        device,
        np.stack([image] * len(given)),
        *([[x] for x in row] for row in zip(*(a for a, _ in given), strict=True)),
    )
    for bytes_found, (_, forced) in zip(found, given, strict=True):
        assert (bytes_found == pillow(image, *forced)).all(), forced
    large = operated(device, image[None, :1], [[Operation.GAUSSIAN_BLUR]], [[1e9]], [[0]])
    assert (large == pillow(image[[0, 0, 0]], Operation.GAUSSIAN_BLUR, 64, 0)[:1]).all()
    # Numbers that are none, and coordinates beyond all integers: anything, but nothing else is read or written.
    wild = [(code, x, mode) for code in MOVES for x in (nan, far, -1e300) for mode in range(3)]
    wild += [(Operation.GAUSSIAN_KERNEL, x, 0) for x in (nan, far, -1.0)]
    chain = [[[x] for x in row] for row in zip(*wild, strict=True)]
    operated(device, np.stack([image[:1]] * len(wild)), *chain, possible={code for code, _, _ in wild})
    lost = operated(device, image[None], [[Operation.TRANSLATE_X]], [[nan]], [[2]])
    assert (lost == np.array(FILL)[:, None, None]).all()


def operations_among_few(device):
    """Told that only some operations occur, the kernels take others for IDENTITY and do those."""
    rng = np.random.default_rng(29)
    codes, arguments, modes = drawn_chains(rng, 24, 2)
    images = pictures(rng, 15, 22)[rng.integers(0, 3, 24)]
    kinds = [
        {Operation.INVERT, Operation.EQUALIZE, Operation.SOLARIZE},
        {Operation.COLOR, Operation.SHARPNESS, Operation.IDENTITY},
        {Operation.GAUSSIAN_BLUR, Operation.HUE},
        {Operation.GAUSSIAN_KERNEL},
        set(MOVES),
        set(),
    ]
    for possible in kinds:
        left = np.where(np.isin(codes, list(possible)), codes, 0)
        expected = operated(device, images, left, arguments, modes)
        assert (operated(device, images, codes, arguments, modes, possible=possible) == expected).all(), possible


def operations_of_nothing(device):
    """No images, no layers, and chains of IDENTITY alone: new tensors, equal to those given."""
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 2, 2).to(device)
    with gpu_path(device, 4):
        for n, layers in [(2, 0), (2, 2), (0, 2)]:
            chain = [torch.zeros(n, layers, dtype=x, device=device) for x in (torch.int32, torch.float64, torch.uint8)]
            found = apply_ops(images[:n], *chain, FILL)
            assert torch.equal(found, images[:n])
            assert not n or found.data_ptr() != images.data_ptr()


def matrices_of_moves(device):
    """Coefficients, of which bytes show little, bit for bit those that torch computes."""
    from gpurender.kernels.image_ops import gpu_matrices

    rng = np.random.default_rng(30)
    codes = torch.from_numpy(rng.integers(0, len(Operation), (3000, 2)).astype(np.int32))
    codes[:1000] = Operation.ROTATE
    arguments = torch.from_numpy(rng.normal(0, 10.0 ** rng.integers(-2, 5, (3000, 2))))
    arguments[:81, 0] = torch.arange(-40, 41) * 22.5
    expected = cpu_matrices.coefficients(codes, arguments, 224, 131)
    found = gpu_matrices.coefficients(codes.to(device), arguments.to(device), 224, 131)
    assert torch.equal(found.cpu(), expected)


def weights_of_blurs(device):
    """Weights of the blurs by a kernel, of which bytes show little, bit for bit those of the Numba implementation."""
    from gpurender.kernels.image_ops.cpu_filters import kernel_weights
    from gpurender.kernels.image_ops.gpu_filters import weigh
    from gpurender.kernels.image_ops.gpu_plan import CODE

    sigmas = np.linspace(0.1, 2, 200)
    words = torch.full((200,), Operation.GAUSSIAN_KERNEL * CODE.value, dtype=torch.int32, device=device)
    found = torch.zeros(200, 16, device=device)
    weigh[(1,)](words, torch.from_numpy(sigmas).to(device), found, 200, 256, num_warps=4, enable_fp_fusion=False)
    for sigma, weights in zip(sigmas, found.cpu().numpy(), strict=True):
        assert (weights[:12] == kernel_weights(float(exp(-1.0 / (2.0 * sigma * sigma))))).all(), sigma


OPERATION_CHECKS = (
    operations_by_table,
    hues,
    box_blurs,
    kernel_blurs,
    moves,
    moves_estimated,
    errors_of_estimates,
    nearest_steps,
    chains,
    operations_as_in_numba,
    operations_out_of_range,
    operations_among_few,
    operations_of_nothing,
    matrices_of_moves,
    weights_of_blurs,
)
