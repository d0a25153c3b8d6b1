"""That every barrier of the crops is there: their threads run as threads under ThreadSanitizer."""

import numpy as np
import pytest

from gpurender.kernels.resized_crop import crop_resize, gpu_room
from gpurender.runtime import cuda
from tests.kernels.test_chaos_game_races import MAIN, Written, sanitized
from tests.kernels.test_resized_crop_cuda import random_bytes
from tests.loading.test_bit_canvases import random_bits, random_crops
from tests.support.emulation import ADA, emulated_gpu, require_compiler


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Crops in several strips and batches of lines, C++ calls of them, and their data."""
    require_compiler()
    folder = tmp_path_factory.mktemp("races")
    data, rng = folder / "data", np.random.default_rng(0)
    limits = ADA._replace(shared_a_block=6 << 10, shared_a_multiprocessor=7 << 10)
    assert gpu_room.shared_room(60, 60, 28, 24, limits).between < 28 // 4 * 60 // 4  # less than all lines of a crop
    bits, crops = random_bits(rng, 60, 8), random_crops(rng, 60, 8)
    crops[0][:4] = crops[0].new_tensor([[0, 0, 60, 60], [0, 30, 60, 20], [3, 1, 20, 57], [50, 50, 9, 8]])
    with open(data, "wb") as file, emulated_gpu(limits) as emulator:
        written = Written(file)
        written.found = emulator.found
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda, "launch", written.launch)
            crop_resize(bits, *crops, (28, 24))
            crop_resize(random_bytes(rng, (60, 60), 2, 3), *(each[:3] for each in crops), (28, 24))
    one, other = written.calls
    assert "resized_crop_bits" in one
    assert "resized_crop_bytes" in other
    return folder, MAIN.replace("CALLS", "\n".join(written.calls)), data


def test_no_two_threads_meet_without_a_barrier(program):
    folder, main, data = program
    report = sanitized(folder, cuda.source("resized_crop"), main, data)
    assert "data race" not in report, report[:4000]


def test_a_missing_barrier_is_noticed(program):
    """The one between the bytes of a batch of lines and their sums."""
    folder, main, data = program
    before, barrier, after = cuda.source("resized_crop").partition("__syncthreads();\n                sum_along(")
    assert barrier
    assert "data race" in sanitized(folder, before + "sum_along(" + after, main, data)
