"""Crops of bits and of bytes in CUDA C against Numba and Pillow, byte for byte: built by g++, and on a GPU.

Boxes, flips, filters and orientations are random; the axes come in both orders, and a line of taps ends in every byte
of a word.
"""

import ctypes
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpurender.kernels.resized_crop import (
    BitCanvases,
    begin_crop_resize_normalise,
    cpu,
    crop_resize,
    crop_resize_normalise,
    gpu_room,
    takes_bits,
)
from gpurender.runtime import cuda
from tests.kernels.test_resized_crop import FILTERS, pillow
from tests.loading.test_bit_canvases import as_bytes, random_bits, random_crops
from tests.support.emulation import ADA, HOPPER, TINY, emulated_gpu, library, require_compiler

SIDES = {(5, 9): 60, (40, 17): 60, (100, 100): 40, (224, 224): 12, (1, 1): 60, (9, 250): 20}
NONE = TINY._replace(shared_a_block=256)  # too little for any size
TABLES = r"""
extern "C" int taps_of(int n_in, int n_out, int flipped, int filter, int origin, Taps* table) {
    Axis axis;
    axis.set(n_in, n_out, flipped, filter);
    host_threads(1), host_block(0, 1);
    fill(axis, 0, n_out, origin, n_out, table);
    return axis.words;
}
"""
CASES = [(size, side) for size in (1, 2, 16, 31, 97, 200) for side in SIDES] + [(362, (224, 224)), (512, (224, 224))]


SHAPES = [  # rows and columns, height and width, channels
    ((20, 30), (20, 30), 1),
    ((47, 30), (20, 44), 3),
    ((61, 9), (7, 40), 1),
    ((90, 40), (35, 34), 2),  # y is first for many boxes
    ((130, 52), (8, 48), 1),  # many taps; rows of whole words
    ((1, 1), (3, 2), 3),
    ((33, 65), (1, 1), 1),
    ((2, 3), (100, 90), 3),
    ((3, 200), (9, 250), 1),
    ((256, 256), (96, 96), 3),
]


def random_bytes(rng, shape, channels, n):
    return torch.from_numpy(rng.integers(0, 256, (n, channels, *shape), dtype=np.uint8))


def random_boxes(rng, shape, n):
    """As random_crops, of canvases of any shape."""
    sides = np.stack([rng.integers(1, side + 1, n) for side in shape], axis=1)
    corners = (rng.random((n, 2)) * (np.array(shape) - sides + 1)).astype(np.int64)
    boxes = torch.from_numpy(np.concatenate([corners, sides], axis=1))
    boxes[:2] = torch.tensor([[0, 0, *shape], [shape[0] - 1, 0, 1, shape[1]]])[: len(boxes)]
    return boxes, torch.from_numpy(rng.random((n, 2)) < 0.5), torch.from_numpy(rng.integers(0, 3, n, np.uint8))


def cropped(limits, canvases, crops, side, threads=1, kernel=None):
    """The crops by the emulated GPU, which launches one kernel."""
    with emulated_gpu(limits, threads) as gpu:
        found = crop_resize(canvases, *crops, side)
    kernel = kernel or ("resized_crop_bits" if isinstance(canvases, BitCanvases) else "resized_crop_bytes")
    assert [launch[1] for launch in gpu.launches] == [kernel]
    return found


@pytest.mark.parametrize(("size", "side"), CASES)
def test_any_crop_is_the_cpu_s(size, side):
    require_compiler()
    rng = np.random.default_rng([size, *side])
    count = SIDES[side]
    bits, crops = random_bits(rng, size, count), random_crops(rng, size, count)
    wanted = crop_resize(bits, *crops, side)
    for limits in (HOPPER, ADA):
        if gpu_room.shared_room(size, size, *side, limits) is not None:
            assert torch.equal(cropped(limits, bits, crops, side), wanted)


@pytest.mark.parametrize(("shape", "side", "channels"), SHAPES)
def test_any_crop_of_bytes_is_the_cpu_s(shape, side, channels):
    """In shared memory; in device memory, of which a block has only as much as a strip needs; of an odd address."""
    require_compiler()
    rng = np.random.default_rng([*shape, *side])
    n = 40 if math.prod(shape) < 10_000 else 8
    canvases, crops = random_bytes(rng, shape, channels, n), random_boxes(rng, shape, n)
    wanted = crop_resize(canvases, *crops, side)
    assert torch.equal(cropped(HOPPER, canvases, crops, side), wanted)
    assert torch.equal(cropped(NONE, canvases, crops, side, kernel="resized_crop_large"), wanted)
    moved = torch.cat([torch.zeros(1, dtype=torch.uint8), canvases.flatten()])[1:].view_as(canvases)
    assert moved.data_ptr() % 4
    assert torch.equal(cropped(ADA, moved, crops, side), wanted)


@pytest.mark.parametrize("size", [33, 63, 64, 224, 362, 1024])
@pytest.mark.parametrize("side", [(1, 1), (224, 224), (383, 384)])
def test_training_sizes_of_bytes_are_the_cpu_s(size, side):
    require_compiler()
    rng = np.random.default_rng([size, *side])
    canvases, crops = random_bytes(rng, (size, size), 1, 3), random_boxes(rng, (size, size), 3)
    crops[2].copy_(torch.tensor([2, 1, 2]))
    assert torch.equal(cropped(HOPPER, canvases, crops, side), crop_resize(canvases, *crops, side))


def y_first(boxes, side):
    h, w = boxes[:, 2:].unbind(1)
    return ((h > side[0]) & (h - side[0] > 2 * (w - side[1]))).tolist()


def test_both_orders_of_axes_are_frequent():
    """In the cases above."""
    bits, canvases = [], []
    for size, side in CASES:
        rng = np.random.default_rng([size, *side])
        random_bits(rng, size, SIDES[side])
        bits += y_first(random_crops(rng, size, SIDES[side])[0], side)
    for shape, side, channels in SHAPES:
        rng = np.random.default_rng([*shape, *side])
        random_bytes(rng, shape, channels, 40)
        canvases += y_first(random_boxes(rng, shape, 40)[0], side)
    assert 0.1 < np.mean(bits) < 0.9
    assert 0.1 < np.mean(canvases) < 0.9


def test_the_axes_are_swapped_where_pillow_swaps_them():
    """The height shrinks by twice what the width does, and by one pixel more."""
    require_compiler()
    canvases = random_bytes(np.random.default_rng(7), (92, 60), 1, 2)
    boxes = torch.tensor([[0, 0, 91, 60], [0, 0, 92, 60]])
    crops = boxes, torch.zeros(2, 2, dtype=torch.bool), torch.full((2,), 2, dtype=torch.uint8)
    assert y_first(boxes, (31, 30)) == [False, True]
    for n, canvas in enumerate(canvases):
        wanted = pillow(canvas[0].numpy(), boxes[n].tolist(), (31, 30), "bicubic")
        assert torch.equal(cropped(HOPPER, canvases, crops, (31, 30))[n], wanted)


def test_nearest_neighbours_are_pillow_s():
    """At sizes among which are some where products round otherwise than the sum of steps."""
    require_compiler()
    ramp = torch.arange(251, dtype=torch.uint8).reshape(1, 1, 1, 251)
    flips, code = torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.uint8)
    for n_in, n_out in [(2, 63), (2, 203), (100, 106), (100, 291), (251, 127), (49, 329)]:
        crops = torch.tensor([[0, 0, 1, n_in]]), flips, code
        wanted = pillow(ramp[0, 0].numpy(), (0, 0, 1, n_in), (1, n_out), "nearest")
        assert torch.equal(cropped(HOPPER, ramp, crops, (1, n_out))[0], wanted)


def test_weights_are_the_cpu_s():
    """Which a byte seldom shows: their three digits, their places, and zeros around them."""
    build = library("resized_crop", TABLES)
    rng = np.random.default_rng(6)
    for number in range(300):
        n_in, n_out = (int(side) for side in rng.integers(1, 300, 2))
        filter_code, flipped, shift = number % 3, number % 2, int(rng.integers(0, 4))
        table = np.full((math.ceil(n_in / n_out) * 2 + 9, n_out, 16), 77, np.int8)
        words = build.taps_of(n_in, n_out, flipped, filter_code, -shift, ctypes.c_void_p(table.ctypes.data))
        firsts, counts, weights = cpu.filter_taps(n_in, n_out, filter_code)
        assert (table[words:] == 77).all()
        digits = table[:words, :, :12].reshape(words, n_out, 3, 4).astype(np.int64)
        sums = digits[:, :, 0] + (digits[:, :, 1] << 8) + (digits[:, :, 2] << 16)  # [words, n_out, 4]
        for i in range(n_out):
            place = n_out - 1 - i if flipped else i
            begin = int(table[0, place, 12:].view(np.int32)[0])
            wanted = np.zeros(4 * words, np.int64)
            wanted[firsts[i] + shift - 4 * begin :][: counts[i]] = weights[: counts[i], i]
            assert (sums[:, place].flatten() == wanted).all(), (n_in, n_out, filter_code, i)


@pytest.mark.parametrize("interpolation", FILTERS)
def test_crops_are_pillow_s(interpolation):
    require_compiler()
    rng = np.random.default_rng(7)
    bits, (boxes, flips, codes) = random_bits(rng, 150, 30), random_crops(rng, 150, 30)
    codes[:] = list(FILTERS).index(interpolation)
    for canvases in (bits, random_bytes(rng, (150, 150), 1, 30)):
        found = cropped(HOPPER, canvases, (boxes, flips, codes), (64, 48))
        for n, canvas in enumerate(as_bytes(bits) if canvases is bits else canvases):
            wanted = pillow(canvas[0].numpy(), boxes[n].tolist(), (64, 48), interpolation)
            assert torch.equal(found[n], wanted.flip([axis for axis in (1, 2) if flips[n, 2 - axis]]))


@pytest.mark.parametrize("threads", [2, 7, 64])
def test_several_threads_a_block_agree(threads):
    """Barriers that are missing or not reached by all show here."""
    require_compiler()
    rng = np.random.default_rng(threads)
    for size, side in ((97, (40, 17)), (33, (70, 70))):
        crops = random_crops(rng, size, 8)
        for canvases in (random_bits(rng, size, 8), random_bytes(rng, (size, size), 3, 8)):
            assert torch.equal(cropped(ADA, canvases, crops, side, threads), crop_resize(canvases, *crops, side))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_looked_up_crops_have_every_type_and_layout(dtype, memory_format):
    require_compiler()
    rng = np.random.default_rng(3)
    crops = random_crops(rng, 70, 30)
    canvases = random_bits(rng, 70, 30), random_bytes(rng, (70, 70), 1, 30), random_bytes(rng, (70, 70), 3, 30)
    sides = (24, 32), (25, 33)  # rows of whole fours, which are stored at once, and others
    for some, side, tables in itertools.product(canvases, sides, (1, 3)):
        lut = torch.rand(tables, 256).to(dtype)
        wanted = crop_resize_normalise(some, *crops, lut, side, memory_format)
        with emulated_gpu() as gpu:
            found = crop_resize_normalise(some, *crops, lut, side, memory_format)
        assert torch.equal(found, wanted)
        assert found.is_contiguous(memory_format=memory_format)
        assert len(gpu.launches) == 1


def test_boxes_are_moved_into_the_canvas_and_codes_above_two_are_two():
    """On a GPU nobody reads their values."""
    require_compiler()
    rng = np.random.default_rng(5)
    given = [[-5, 7, 60, 20], [30, 30, 20, 20], [0, 0, 0, -3], [2**40, 0, 9, 2**50], [-(2**63), 39, 2**62, 1]]
    meant = [[0, 7, 40, 20], [20, 20, 20, 20], [0, 0, 1, 1], [31, 0, 9, 40], [0, 39, 40, 1]]
    flips = torch.zeros(6, 2, dtype=torch.bool)
    codes, two = torch.tensor([0, 1, 2, 3, 255, 2], dtype=torch.uint8), torch.tensor([0, 1, 2, 2, 2, 2]).to(torch.uint8)
    for canvases in (random_bits(rng, 40, 6), random_bytes(rng, (40, 40), 3, 6)):
        wanted = crop_resize(canvases, torch.tensor([*meant, [3, 4, 5, 6]]), flips, two, (13, 14))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gpurender.kernels.resized_crop.readable", lambda boxes: False)
            found = cropped(HOPPER, canvases, (torch.tensor([*given, [3, 4, 5, 6]]), flips, codes), (13, 14))
        assert torch.equal(found, wanted)


def test_no_images_are_none():
    require_compiler()
    rng = np.random.default_rng(0)
    crops, lut = random_crops(rng, 20, 0), torch.rand(3, 256)
    for canvases in (random_bits(rng, 20, 0), random_bytes(rng, (20, 20), 3, 0)):
        with emulated_gpu() as gpu:
            assert crop_resize(canvases, *crops, (8, 9)).shape == (0, canvases.shape[1], 8, 9)
            assert crop_resize_normalise(canvases, *crops, lut, (8, 9)).shape == (0, 3, 8, 9)
        assert not gpu.launches


@pytest.mark.parametrize(("size", "side"), [(40, (300, 300)), (300, (1, 2))])
def test_sizes_that_need_too_much_shared_memory_take_device_memory(size, side):
    """Large images, and large factors. Bits become bytes before."""
    require_compiler()
    rng = np.random.default_rng(1)
    bits, crops = random_bits(rng, size, 5), random_crops(rng, size, 5)
    crops[0][0] = torch.tensor([0, 0, size, size])
    assert gpu_room.shared_room(size, size, *side, TINY) is None
    wanted, lut = crop_resize(bits, *crops, side), torch.rand(3, 256)
    with emulated_gpu(TINY) as gpu:
        assert torch.equal(crop_resize(bits, *crops, side), wanted)
        assert torch.equal(crop_resize(as_bytes(bits), *crops, side), wanted)
        found = crop_resize_normalise(bits, *crops, lut, side)
    kernels = [launch[1] for launch in gpu.launches if launch[1] != "chaos_game_paint"]
    assert kernels == ["resized_crop_large"] * 3
    assert torch.equal(found, crop_resize_normalise(bits, *crops, lut, side))


def test_the_last_launch_may_be_repeated():
    require_compiler()
    rng = np.random.default_rng(2)
    canvases, crops, lut = random_bytes(rng, (50, 50), 1, 4), random_crops(rng, 50, 4), torch.rand(1, 256)
    wanted = crop_resize_normalise(canvases, *crops, lut, (20, 20))
    with emulated_gpu() as gpu:
        last = begin_crop_resize_normalise(canvases, *crops, lut, (20, 20))
        assert not gpu.launches
        first, second = last(), last()
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(first, wanted)
    assert torch.equal(second, wanted)


def test_both_kinds_of_devices_take_bits():
    assert takes_bits(torch.device("cpu"))
    assert takes_bits(torch.device("cuda", 0))
    with pytest.raises(ValueError, match="device must be of type cpu or cuda"):
        takes_bits(torch.device("meta"))


# ------------------------------------------------------------------------------------------------------ shared memory


@pytest.mark.parametrize("limits", [HOPPER, ADA, cuda.Limits(108, 163 << 10, 164 << 10)])
@pytest.mark.parametrize(("size", "side"), [(512, 224), (362, 224), (512, 384), (512, 192), (256, 224), (512, 512)])
def test_training_sizes_fit_several_blocks_a_multiprocessor(size, side, limits):
    room = gpu_room.shared_room(size, size, side, side, limits)
    shared = 16 * room.units + gpu_room.STATIC_SHARED
    assert limits.shared_a_multiprocessor // (shared + gpu_room.RESERVED) >= (2 if limits is ADA else 3)
    assert shared <= limits.shared_a_block


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.integers(1, 1500),
    st.integers(1, 1500),
    st.sampled_from([HOPPER, ADA, TINY, NONE]),
    st.data(),
)
def test_every_window_fits_the_memory(rows, columns, height, width, limits, data):
    """The kernel's own arithmetic, for a window of any place and sides."""
    room = gpu_room.shared_room(rows, columns, height, width, limits)
    if room is None:
        room = gpu_room.device_room(rows, columns, height, width)
    else:
        assert 16 * room.units + gpu_room.STATIC_SHARED <= limits.shared_a_block
    h, w = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    shift = data.draw(st.integers(0, columns - w)) % 4
    y_first = h > height and h - height > 2 * (w - width)
    (n_in, n_out), (lines, places) = ((h, height), (w, width)) if y_first else ((w, width), (h, height))
    stride = (n_in + (0 if y_first else shift) + 31) // 32 * 8 + 1
    batch = room.source // stride // 2 * 8
    column = (room.between // (-(-n_out // 8) * 2) - 1) | 1
    assert batch >= 8
    assert batch // 4 * stride <= room.source
    assert -(-n_out // 8) * 2 * column <= room.between
    scale = Fraction(lines, places)
    taps = math.floor(4 * max(scale, 1)) + 1
    assert (taps + 6) // 4 <= room.words
    assert ((math.floor(4 * max(Fraction(n_in, n_out), 1)) + 7) // 4) * n_out <= room.table
    outputs = min(1 + int((4 * (column - 1) - taps - 2) / float(scale)), room.strip)
    assert outputs >= 1
    assert (outputs - 1) * scale + taps + 1 <= 4 * (column - 1)
    pairs = -(-n_out // 8)
    for items, divisor in ((batch // 8 * n_out, n_out), (pairs * outputs, pairs), (pairs * outputs, outputs)):
        assert items * (divisor + 1) < 2**32  # what its division by a product is exact for


@pytest.mark.parametrize("size", [1, 512, 200_000])
def test_divisions_are_exact_for_the_largest_image(size):
    room = gpu_room.device_room(size, size, 65_535, 65_535)
    batch, pairs = room.source // ((size + 31) // 32 * 8 + 1) // 2 * 8, 8192
    assert batch // 8 * 65_535 * 65_536 < 2**32
    assert pairs * room.strip * (max(pairs, room.strip) + 1) < 2**32


@pytest.mark.parametrize(("limits", "same", "to_224", "to_one"), [(ADA, 1761, 2720, 968), (HOPPER, 4104, 6720, 2230)])
def test_shared_memory_is_enough_for_the_sizes_that_the_header_names(limits, same, to_224, to_one):
    for size, images in ((same, None), (to_224, 224), (to_one, 1)):
        for more, fits in ((0, True), (1, False)):
            side = images or size + more
            assert (gpu_room.shared_room(size + more, size + more, side, side, limits) is not None) == fits


# -------------------------------------------------------------------------------------------------------------- a GPU


@pytest.mark.gpu
@pytest.mark.parametrize(("size", "side"), [*CASES, (1024, (224, 224)), (512, (384, 384))])
def test_on_a_gpu_any_crop_is_the_cpu_s(size, side):
    rng = np.random.default_rng([size, *side])
    bits, crops = random_bits(rng, size, 200), random_crops(rng, size, 200)
    there = BitCanvases(bits.rows.cuda(), bits.which.cuda(), bits.orientations.cuda())
    found = crop_resize(there, *(tensor.cuda() for tensor in crops), side)
    assert torch.equal(found.cpu(), crop_resize(bits, *crops, side))
    lut = torch.rand(3, 256).to(torch.float16)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        found = crop_resize_normalise(there, *(x.cuda() for x in crops), lut.cuda(), side, memory_format)
        assert torch.equal(found.cpu(), crop_resize_normalise(bits, *crops, lut, side, memory_format))


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "side", "channels"), [*SHAPES, ((512, 512), (224, 224), 1), ((9, 4000), (2, 3), 1)])
def test_on_a_gpu_any_crop_of_bytes_is_the_cpu_s(shape, side, channels):
    rng = np.random.default_rng([*shape, *side])
    canvases, crops = random_bytes(rng, shape, channels, 100), random_boxes(rng, shape, 100)
    there = [tensor.cuda() for tensor in crops]
    found = crop_resize(canvases.cuda(), *there, side)
    assert torch.equal(found.cpu(), crop_resize(canvases, *crops, side))
    odd = crop_resize(canvases.cuda()[1:], there[0][1:].int(), there[1][1:], there[2][1:], side)  # of any address
    assert torch.equal(odd, found[1:])
    if channels in (1, 3):
        lut = torch.rand(3, 256).to(torch.float16)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            found = crop_resize_normalise(canvases.cuda(), *there, lut.cuda(), side, memory_format)
            assert torch.equal(found.cpu(), crop_resize_normalise(canvases, *crops, lut, side, memory_format))
