"""That every barrier of the crop of bits is there: its threads run as threads under ThreadSanitizer."""

import numpy as np
import pytest

from gpurender.kernels.resized_crop import crop_resize, gpu_bits
from gpurender.runtime import cuda
from tests.kernels.test_chaos_game_races import MAIN, Written, sanitized
from tests.loading.test_bit_canvases import random_bits, random_crops
from tests.support.emulation import ADA, emulated_gpu, require_compiler


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Crops in several strips and batches of lines, C++ calls of them, and their data."""
    require_compiler()
    folder = tmp_path_factory.mktemp("races")
    data, rng = folder / "data", np.random.default_rng(0)
    limits = ADA._replace(shared_a_block=6 << 10, shared_a_multiprocessor=7 << 10)
    assert gpu_bits.room_for(60, 28, 24, limits).between < 28 // 4 * 60 // 4  # less than all lines of a crop
    bits, crops = random_bits(rng, 60, 8), random_crops(rng, 60, 8)
    crops[0][:4] = crops[0].new_tensor([[0, 0, 60, 60], [0, 30, 60, 20], [3, 1, 20, 57], [50, 50, 9, 8]])
    with open(data, "wb") as file, emulated_gpu(limits) as emulator:
        written = Written(file)
        written.found = emulator.found
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda, "launch", written.launch)
            crop_resize(bits, *crops, (28, 24))
    (call,) = written.calls
    assert "resized_crop_bits" in call
    return folder, MAIN.replace("CALLS", call), data


def test_no_two_threads_meet_without_a_barrier(program):
    folder, main, data = program
    report = sanitized(folder, cuda.source("resized_crop"), main, data)
    assert "data race" not in report, report[:4000]


def test_a_missing_barrier_is_noticed(program):
    """The one between the bytes of a batch of lines and their sums."""
    folder, main, data = program
    before, barrier, after = cuda.source("resized_crop").partition("__syncthreads();\n            sum_along(")
    assert barrier
    assert "data race" in sanitized(folder, before + "sum_along(" + after, main, data)
