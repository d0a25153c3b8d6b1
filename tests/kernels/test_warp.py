"""Warps against SciPy's interpolation of the same coordinates, and the CUDA C against Numba, byte for byte."""

import numpy as np
import pytest
import torch

from gpurender.kernels.warp import warped
from tests.kernels.test_chaos_game_cuda import Emulated, Real
from tests.support.emulation import HOPPER, require_compiler
from tests.support.optional import optional

interpolate, ndimage = optional("scipy.interpolate"), optional("scipy.ndimage")


def random_case(rng, n, size, channels, points):
    """An image, coefficients of maps that leave the canvas here and there, and a field."""
    image = rng.integers(0, 256, (channels, size, size)).astype(np.uint8)
    laws = rng.uniform(-0.3, 0.3, (n, 2, 6)) * size
    laws[:, 0, 1] += size / 2
    laws[:, 1, 2] += size / 2
    laws[:, :, 0] += size / 2
    field = rng.uniform(-0.2, 0.2, (n, 2, points, points)) * size
    given = image, laws.astype(np.float32), field.astype(np.float32)
    return [torch.from_numpy(each) for each in given][: 3 if points else 2]


def coordinates(law, field, size):
    """Columns and rows that a copy shows, in float64."""
    i = (2 * np.arange(size) + 1) / size - 1
    x, y = i[None, :], i[:, None]
    terms = np.stack(np.broadcast_arrays(1.0, x, y, x * x, x * y, y * y))
    u, v = np.tensordot(law.astype(float), terms, 1)
    if field is not None:
        count = field.shape[-1]
        knots = np.arange(-3, count + 1) / (count - 3)
        basis = interpolate.BSpline.design_matrix((i + 1) / 2, knots, 3).toarray()  # [size, count]
        u, v = u + basis @ field[0].astype(float) @ basis.T, v + basis @ field[1].astype(float) @ basis.T
    return u, v


@pytest.mark.parametrize(("channels", "points"), [(1, 0), (3, 0), (1, 11), (3, 5)])
@pytest.mark.parametrize("size", [16, 45])
def test_copies_are_those_of_scipy(size, channels, points):
    rng = np.random.default_rng([size, channels, points])
    given = random_case(rng, 4, size, channels, points)
    found = warped(*given).numpy()
    image, laws, *field = (each.numpy() for each in given)
    black = 0
    for n, copy in enumerate(found):
        u, v = coordinates(laws[n], field[0][n] if field else None, size)
        for channel, wanted in zip(image.astype(float), copy, strict=True):
            exact = ndimage.map_coordinates(np.pad(channel, 2), [v + 2, u + 2], order=1)
            assert np.abs(exact - wanted).max() < 0.51
        black += (exact == 0).mean()
    assert 0.05 < black / 4 < 0.8  # some of the canvas shows what is beyond the edge


def test_the_identity_is_the_image():
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 40, 40)).astype(np.uint8))
    law = torch.tensor([[[19.5, 20, 0, 0, 0, 0], [19.5, 0, 20, 0, 0, 0]]])
    assert torch.equal(warped(image, law)[0], image)
    assert torch.equal(warped(image, law, torch.zeros(1, 2, 7, 7))[0], image)
    one_right = torch.ones(1, 2, 7, 7) * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    moved = warped(image, law, one_right)[0]
    assert torch.equal(moved[:, :, :-1], image[:, :, 1:])
    assert not moved[:, :, -1].any()


def compare(gpu, n, size, channels, points):
    given = random_case(np.random.default_rng([size, channels, points]), n, size, channels, points)
    expected = warped(*given)
    with gpu as move:
        found = warped(*map(move, given))
    assert torch.equal(expected, found.cpu())
    assert expected.unique().numel() > 100


SHAPES = [(1, 0), (3, 0), (1, 11), (3, 4)]


@pytest.mark.parametrize(("channels", "points"), SHAPES)
@pytest.mark.parametrize(("size", "threads"), [(16, 1), (70, 1), (33, 7)])
def test_one_or_several_threads_a_block_draw_the_reference(size, threads, channels, points):
    require_compiler()
    compare(Emulated(HOPPER, threads), 5, size, channels, points)


@pytest.mark.gpu
@pytest.mark.parametrize(("channels", "points"), SHAPES)
@pytest.mark.parametrize("size", [16, 70, 512])
def test_the_gpu_draws_the_reference(size, channels, points):
    compare(Real(), 40, size, channels, points)


@pytest.mark.parametrize(
    ("image", "laws", "field", "message"),
    [
        (torch.zeros(1, 9, 8, dtype=torch.uint8), torch.zeros(2, 2, 6), None, "image must be square"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(2, 2, 3), None, "coefficients must be"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(2, 2, 6), torch.zeros(2, 2, 3, 3), "at least 4"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(2, 2, 6), torch.zeros(2, 2, 5, 6), "as many rows"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(2, 2, 6), torch.zeros(1, 2, 5, 5), "field must be"),
    ],
)
def test_wrong_arguments_are_refused(image, laws, field, message):
    with pytest.raises(ValueError, match=message):
        warped(image, laws, field)
