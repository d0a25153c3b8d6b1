"""That every barrier of the chaos game's CUDA C is there: its threads run as threads under ThreadSanitizer.

A missing barrier shows in an image only if the threads meet badly. ThreadSanitizer reports two accesses of which
nothing says which comes first, however they meet. (A visual atom's threads write equal bytes to one place without an
order, which their source explains; it would report that.)
"""

import os
import shutil
import subprocess

import numpy as np
import pytest
import torch

from gpurender.kernels.chaos_game import occupancy, render_bitmaps, render_systems
from gpurender.recipes import ifs
from gpurender.runtime import cuda
from tests.golden import DIVERGENT, TRIANGLE
from tests.support.emulation import HEADER, HOPPER, TINY, Emulator, emulated_gpu, require_compiler

THREADS = 4
FLAGS = ("-std=c++20", "-O1", "-g", "-ffp-contract=off", "-pthread", "-w", "-fsanitize=thread")
MAIN = r"""
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

static void run(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
    host_threads(threads);
    for (unsigned block = 0; block < blocks; ++block) {
        host_block(block, blocks);
        std::vector<std::thread> running;
        for (unsigned thread = 0; thread < threads; ++thread)
            running.emplace_back([&, thread] { host_thread(thread); kernel(); });
        for (std::thread& one : running) one.join();
    }
}

static unsigned char* load(std::FILE* file) {  // never freed: the process ends soon
    long long bytes;
    if (std::fread(&bytes, 8, 1, file) != 1) std::abort();
    unsigned char* memory = new unsigned char[bytes + 16];
    if (std::fread(memory, 1, bytes, file) != (size_t)bytes) std::abort();
    return memory;
}

int main(int, char** arguments) {
    std::FILE* file = std::fopen(arguments[1], "rb");
CALLS
    std::puts("done");
}
"""
C_NAMES = {"int32": "int", "uint32": "unsigned", "int64": "long long", "uint64": "unsigned long long"}


class Written(Emulator):
    """Writes launches down as C++ calls, and what their arguments held before."""

    def __init__(self, file):
        super().__init__()
        self.file, self.calls = file, []

    def launch(self, operation, name, *, device, blocks, threads, shared=0, arguments):
        """Write a launch down, then run it."""
        types, values = [], []
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                content = argument.numpy().tobytes()
                self.file.write(np.int64(len(content)).tobytes() + content)
                types.append("void*")
                values.append("load(file)")
            elif argument is None:
                types.append("void*")
                values.append("nullptr")
            else:
                types.append(C_NAMES[argument.dtype.name])
                values.append(f"({types[-1]}){int(argument)}LL")
        given = "".join(f"auto a{i} = {value}; " for i, value in enumerate(values))  # in order, which a call's are not
        call = f"((void (*)({', '.join(types)})){name})({', '.join(f'a{i}' for i in range(len(values)))})"
        self.calls.append(f"    {{ {given} run({blocks}, {THREADS}, [&] {{ {call}; }}); }}")
        super().launch(
            operation, name, device=device, blocks=blocks, threads=threads, shared=shared, arguments=arguments
        )


def launches(folder):
    """C++ calls of every kernel on systems that diverge and one that does not, whole and in bands, and their data."""
    maps = np.zeros((2, 3, 6))
    maps[0, :2], maps[1] = DIVERGENT, TRIANGLE
    shares = np.array([[0.5, 0.5, 0.0], [0.3, 0.3, 0.4]])
    systems = ifs.systems(maps, shares, np.array([2, 3]))
    numbers, turned = torch.tensor([5, 6]), torch.tensor([7, 2], dtype=torch.uint8)
    data = folder / "data"
    with open(data, "wb") as file, emulated_gpu() as emulator:
        written = Written(file)
        for seed, limits in ((1, HOPPER), (2, HOPPER), (3, TINY._replace(shared_a_block=6 << 10))):
            emulator.found = written.found = limits
            emulator.launch = written.launch
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cuda, "launch", written.launch)
                common = {"seed": seed, "points": 2000, "size": 96}
                kept = occupancy(systems, numbers, **common)
                render_bitmaps(kept, torch.tensor([1, 0]), numbers, turned, seed=seed, patch=True, mask=True)
                for color in (False, True):
                    render_systems(systems, numbers, numbers, turned, color=color, patch=True, mask=True, **common)
    names = {call.partition("chaos_game_")[2].partition(")")[0] for call in written.calls}
    assert names == {"cover", "paint", "grey", "color"}
    return MAIN.replace("CALLS", "\n".join(written.calls)), data


def sanitized(folder, source, main, data):
    """What ThreadSanitizer says of a program that launches the kernels."""
    text, program = folder / "races.cpp", folder / "races"
    text.write_text(HEADER.read_text() + source + main)
    words = ["g++", *FLAGS, str(text), "-o", str(program)]
    english = {**os.environ, "LC_ALL": "C"}  # for what is looked for in its messages
    done = subprocess.run(words, env=english, capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr:
        pytest.skip("needs g++'s ThreadSanitizer")
    assert done.returncode == 0, done.stderr
    command = [str(program), str(data)]
    if shutil.which("setarch"):  # older ones do not know where newer Linux puts a program's memory
        command = ["setarch", "-R", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "unexpected memory mapping" in done.stderr or "setarch" in done.stderr:
        pytest.skip("ThreadSanitizer does not run on this machine")
    assert "done" in done.stdout, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    require_compiler()
    folder = tmp_path_factory.mktemp("races")
    return folder, *launches(folder)


def test_no_two_threads_meet_without_a_barrier(program):
    folder, main, data = program
    report = sanitized(folder, cuda.source("chaos_game"), main, data)
    assert "data race" not in report, report[:4000]


def test_a_missing_barrier_is_noticed(program):
    """That of the frame which is looked for again, because a system left the range of float32."""
    folder, main, data = program
    source = cuda.source("chaos_game")
    spoiled = source.replace("__syncthreads();  // all have read before the first thread starts again", "")
    assert spoiled != source
    assert "data race" in sanitized(folder, spoiled, main, data)
