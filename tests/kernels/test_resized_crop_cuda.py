"""The crop of one-bit canvases in CUDA C against Numba and Pillow, byte for byte: built by g++, and on a GPU.

Boxes, flips, filters and orientations are random; the axes come in both orders, and a line of taps ends in every byte
of a word.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpurender.kernels.resized_crop import BitCanvases, crop_resize, crop_resize_normalise, gpu_bits, takes_bits
from gpurender.runtime import cuda
from tests.kernels.test_resized_crop import FILTERS, pillow
from tests.loading.test_bit_canvases import as_bytes, random_bits, random_crops
from tests.support.emulation import ADA, HOPPER, TINY, emulated_gpu, require_compiler

SIDES = {(5, 9): 60, (40, 17): 60, (100, 100): 40, (224, 224): 12, (1, 1): 60, (9, 250): 20}
CASES = [(size, side) for size in (1, 2, 16, 31, 97, 200) for side in SIDES] + [(362, (224, 224)), (512, (224, 224))]


def cropped(limits, bits, crops, side, threads=1):
    """The crops by the emulated GPU, which launches one kernel."""
    with emulated_gpu(limits, threads) as gpu:
        found = crop_resize(bits, *crops, side)
    assert [launch[1] for launch in gpu.launches] == ["resized_crop_bits"]
    return found


@pytest.mark.parametrize(("size", "side"), CASES)
def test_any_crop_is_the_cpu_s(size, side):
    require_compiler()
    rng = np.random.default_rng([size, *side])
    count = SIDES[side]
    bits, crops = random_bits(rng, size, count), random_crops(rng, size, count)
    wanted = crop_resize(bits, *crops, side)
    for limits in (HOPPER, ADA):
        if gpu_bits.room_for(size, *side, limits) is not None:
            assert torch.equal(cropped(limits, bits, crops, side), wanted)


def test_both_orders_of_axes_are_frequent():
    """In the cases above."""
    first = []
    for size, side in CASES:
        rng = np.random.default_rng([size, *side])
        random_bits(rng, size, SIDES[side])
        h, w = random_crops(rng, size, SIDES[side])[0][:, 2:].unbind(1)
        first += ((h > side[0]) & (h - side[0] > 2 * (w - side[1]))).tolist()
    assert 0.1 < np.mean(first) < 0.9


@pytest.mark.parametrize("interpolation", FILTERS)
def test_crops_are_pillow_s(interpolation):
    require_compiler()
    rng = np.random.default_rng(7)
    bits, (boxes, flips, codes) = random_bits(rng, 150, 30), random_crops(rng, 150, 30)
    codes[:] = list(FILTERS).index(interpolation)
    found = cropped(HOPPER, bits, (boxes, flips, codes), (64, 48))
    for n, canvas in enumerate(as_bytes(bits)):
        wanted = pillow(canvas[0].numpy(), boxes[n].tolist(), (64, 48), interpolation)
        assert torch.equal(found[n], wanted.flip([axis for axis in (1, 2) if flips[n, 2 - axis]]))


@pytest.mark.parametrize("threads", [2, 7, 64])
def test_several_threads_a_block_agree(threads):
    """Barriers that are missing or not reached by all show here."""
    require_compiler()
    rng = np.random.default_rng(threads)
    for size, side in ((97, (40, 17)), (33, (70, 70))):
        bits, crops = random_bits(rng, size, 8), random_crops(rng, size, 8)
        assert torch.equal(cropped(ADA, bits, crops, side, threads), crop_resize(bits, *crops, side))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_looked_up_crops_have_every_type_and_layout(dtype, memory_format):
    require_compiler()
    rng = np.random.default_rng(3)
    lut = torch.rand(3, 256).to(dtype)
    for side in ((24, 32), (25, 33)):  # rows of whole fours, which are stored at once, and others
        bits, crops = random_bits(rng, 70, 30), random_crops(rng, 70, 30)
        wanted = crop_resize_normalise(bits, *crops, lut, side, memory_format)
        with emulated_gpu() as gpu:
            found = crop_resize_normalise(bits, *crops, lut, side, memory_format)
        assert torch.equal(found, wanted)
        assert found.is_contiguous(memory_format=memory_format)
        assert [launch[1] for launch in gpu.launches] == ["resized_crop_bits"]


def test_boxes_are_moved_into_the_canvas_and_codes_above_two_are_two():
    """On a GPU nobody reads their values; as the kernel for canvases of bytes, which test_triton.py tries."""
    require_compiler()
    rng = np.random.default_rng(5)
    bits = random_bits(rng, 40, 6)
    given = [[-5, 7, 60, 20], [30, 30, 20, 20], [0, 0, 0, -3], [2**40, 0, 9, 2**50], [-(2**63), 39, 2**62, 1]]
    meant = [[0, 7, 40, 20], [20, 20, 20, 20], [0, 0, 1, 1], [31, 0, 9, 40], [0, 39, 40, 1]]
    flips = torch.zeros(6, 2, dtype=torch.bool)
    codes, two = torch.tensor([0, 1, 2, 3, 255, 2], dtype=torch.uint8), torch.tensor([0, 1, 2, 2, 2, 2]).to(torch.uint8)
    wanted = crop_resize(bits, torch.tensor([*meant, [3, 4, 5, 6]]), flips, two, (13, 14))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpurender.kernels.resized_crop.readable", lambda boxes: False)
        found = cropped(HOPPER, bits, (torch.tensor([*given, [3, 4, 5, 6]]), flips, codes), (13, 14))
    assert torch.equal(found, wanted)


def test_no_images_are_none():
    require_compiler()
    bits, crops = random_bits(np.random.default_rng(0), 20, 0), random_crops(np.random.default_rng(0), 20, 0)
    with emulated_gpu() as gpu:
        assert crop_resize(bits, *crops, (8, 9)).shape == (0, 1, 8, 9)
    assert not gpu.launches


def test_sizes_that_need_too_much_memory_are_painted_first(monkeypatch):
    """Then the kernels for bytes go on."""
    require_compiler()
    from gpurender.kernels.resized_crop import gpu

    rng = np.random.default_rng(1)
    bits, crops = random_bits(rng, 40, 5), random_crops(rng, 40, 5)
    assert gpu_bits.room_for(40, 300, 300, TINY) is None
    seen = []
    monkeypatch.setattr(gpu_bits, "launch", None)
    monkeypatch.setattr(gpu, "tap_tables", {(5, 2, 5): lambda *arguments, **options: None})

    class Passes:
        def __getitem__(self, grid):
            return lambda canvases, *arguments, **options: seen.append(canvases)

    monkeypatch.setattr(gpu, "resample", Passes())
    with emulated_gpu(TINY) as emulator:
        crop_resize(bits, *crops, (300, 300))
    assert torch.equal(seen[0], as_bytes(bits))
    assert {launch[1] for launch in emulator.launches} == {"chaos_game_paint"}


def test_both_kinds_of_devices_take_bits():
    assert takes_bits(torch.device("cpu"))
    assert takes_bits(torch.device("cuda", 0))
    with pytest.raises(ValueError, match="device must be of type cpu or cuda"):
        takes_bits(torch.device("meta"))


# ------------------------------------------------------------------------------------------------------ shared memory


@pytest.mark.parametrize("limits", [HOPPER, ADA, cuda.Limits(108, 163 << 10, 164 << 10)])
@pytest.mark.parametrize(("size", "side"), [(512, 224), (362, 224), (512, 384), (512, 192), (256, 224), (512, 512)])
def test_training_sizes_fit_several_blocks_a_multiprocessor(size, side, limits):
    room = gpu_bits.room_for(size, side, side, limits)
    shared = 16 * room.units + gpu_bits.STATIC_SHARED
    assert limits.shared_a_multiprocessor // (shared + gpu_bits.RESERVED) >= (2 if limits is ADA else 3)
    assert shared <= limits.shared_a_block


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4096),
    st.integers(1, 1500),
    st.integers(1, 1500),
    st.sampled_from([HOPPER, ADA, TINY]),
    st.data(),
)
def test_every_window_fits_the_memory(size, height, width, limits, data):
    """The kernel's own arithmetic, for a window of any sides."""
    room = gpu_bits.room_for(size, height, width, limits)
    if room is None:
        return
    assert 16 * room.units + gpu_bits.STATIC_SHARED <= limits.shared_a_block
    h, w = data.draw(st.integers(1, size)), data.draw(st.integers(1, size))
    y_first = h > height and h - height > 2 * (w - width)
    (n_in, n_out), (lines, places) = ((h, height), (w, width)) if y_first else ((w, width), (h, height))
    stride = (n_in + 31) // 32 * 8 + 1
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
