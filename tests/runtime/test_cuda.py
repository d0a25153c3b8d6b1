"""How CUDA kernels are compiled, kept and chosen, as far as that shows without a GPU."""

import contextlib
import errno
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.numerics.streams import Stream
from gpurender.runtime import cuda, devices, kernel_cache
from gpurender.util import atomic_files, disk_cache, kernel_sources

needs_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy, whose NVRTC compiles")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An empty cache of the test's own; the folder of the kernels in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return kernel_cache.folder()


@pytest.mark.parametrize("operation", cuda.OPERATIONS)
def test_a_source_is_whole(operation):
    text = cuda.source(operation)
    assert all(f"#define STREAM_{stream.name} {int(stream)}u\n" in text for stream in Stream)
    assert ("philox4x32" in text) == (operation not in ("collage", "warp"))  # which draw nothing
    assert not any(line.lstrip().startswith("#include") for line in text.splitlines())
    assert f"{operation}_" in text


def test_operations_are_found():
    names = (
        "chaos_game",
        "collage",
        "diamond_square",
        "pixel_noise",
        "point_cloud",
        "resized_crop",
        "visual_atom",
        "warp",
    )
    assert names == cuda.OPERATIONS


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A folder of kernels with a family that includes two headers, one of which includes the other."""
    folder = tmp_path / "kernels"
    for name in ("device", "family"):
        (folder / name).mkdir(parents=True)
    (folder / "device/inner.cuh").write_text("int inner;\n")
    (folder / "device/outer.cuh").write_text('#include "device/inner.cuh"\nint outer;\n')
    includes = '  # include "device/outer.cuh"\n#include "device/./inner.cuh"\n// #include "x"\n'
    (folder / "family/gpu.cu").write_text(f"// a kernel\n{includes}int own;\n")
    monkeypatch.setattr(cuda, "KERNELS", folder)
    return folder


def test_a_file_is_included_once_where_it_is_first_named(kernels):
    """What the compiler says of a line names the file and the line as they are on disk."""
    found, line = {}, ("", 0)
    for text in cuda.source("family").splitlines():
        if text.startswith("#line"):
            line = (text.split('"')[1], int(text.split()[1]) - 1)
        else:
            line = (line[0], line[1] + 1)
            found |= {text: line} if text.startswith("int") else {}
    assert list(found) == ["int inner;", "int outer;", "int own;"]
    places = [("device/inner.cuh", 1), ("device/outer.cuh", 2), ("family/gpu.cu", 5)]
    assert list(found.values()) == places


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("device/gone.cuh", "does not exist"),
        ("device", "does not exist"),
        ("", "does not exist"),
        ("inner.cuh", "does not exist"),
        ("../outside.cuh", "is outside"),
        ("device/../device/inner.cuh", "is outside"),
        ("/etc/passwd", "is outside"),
    ],
)
def test_other_includes_are_refused(kernels, name, why):
    (kernels / "../outside.cuh").write_text("int outside;\n")
    (kernels / "device/outer.cuh").write_text(f'int outer;\n#include "{name}"\n')
    said = f'device/outer.cuh:2: #include must name a file in gpurender/kernels, got "{name}", which {why}'
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        cuda.source("family")


@needs_cupy
def test_a_header_is_part_of_the_name_of_machine_code(own, kernels):
    first = cuda.place("family", "sm_90")
    (kernels / "device/inner.cuh").write_text("int changed;\n")
    assert cuda.place("family", "sm_90") != first


@needs_cupy
def test_all_headers_can_be_included_by_one_kernel(kernels, monkeypatch):
    """A new family may take points and lines."""
    home = Path(cuda.__file__).parent.parent / "kernels"
    headers = sorted(str(path.relative_to(home)) for path in home.rglob("*.cuh"))
    assert len(headers) == 12
    for name in headers:
        (kernels / name).parent.mkdir(exist_ok=True)
        (kernels / name).write_text((home / name).read_text())
    for name in headers:
        (kernels / "family/gpu.cu").write_text(f'#include "{name}"\n')  # alone
        assert cuda.compiled("family", "compute_90")
    (kernels / "family/gpu.cu").write_text("".join(f'#include "{name}"\n' for name in headers))
    assert cuda.compiled("family", "compute_90")


@needs_cupy
def test_machine_code_is_compiled_once_by_many_processes(own):
    """Two processes compile the same kernel at once; both find it good, nothing else is left, the next reads it."""
    code = "from gpurender.runtime import cuda; print(cuda.cached('chaos_game', 'sm_90'))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate(timeout=300)[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    (path,) = own.iterdir()
    assert found == {str(path)}
    made = kernel_cache.load(path)
    assert made[:4] == b"\x7fELF"
    assert len(made) % 8 == 0
    sections = int.from_bytes(made[40:48], "little") + 64 * int.from_bytes(made[60:62], "little")
    assert sections <= len(made)  # the ELF header's table of sections, at the end of the file, is all there
    before = path.stat().st_mtime_ns
    assert cuda.cached("chaos_game", "sm_90") == path
    assert path.stat().st_mtime_ns == before


@needs_cupy
def test_whatever_code_depends_on_is_in_its_file_s_name(own, monkeypatch):
    from cupy.cuda import nvrtc

    monkeypatch.setattr(cuda, "compiled", lambda operation, architecture: b"made")
    first = cuda.cached("chaos_game", "sm_90")
    assert kernel_cache.load(first) == b"made"
    others = [cuda.cached("chaos_game", "sm_80"), cuda.cached("visual_atom", "sm_90")]
    assert cuda.cached("chaos_game", "compute_90").suffix == ".ptx"
    for owner, name, changed in (
        (cuda, "source", lambda operation: "another"),
        (cuda, "OPTIONS", (*cuda.OPTIONS[:1], "--fmad=true", *cuda.OPTIONS[2:])),
        (cuda, "OPTIONS", cuda.OPTIONS[:-1]),
        (nvrtc, "getVersion", lambda: (99, 0)),
        (kernel_sources, "fingerprint", lambda: "of other kernels"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, changed)
            others.append(cuda.place("chaos_game", "sm_90"))
    assert len({first, *others}) == 8
    assert cuda.place("chaos_game", "sm_90") == first


@needs_cupy
def test_where_nothing_can_be_kept_nothing_is(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "compiled", lambda operation, architecture: b"made")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cuda.cached("chaos_game", "sm_90") is None
    monkeypatch.setattr(disk_cache, "directory", lambda: None)
    assert cuda.cached("chaos_game", "sm_90") is None


@pytest.fixture
def driver(monkeypatch):
    """A GPU's driver that loads only what NVRTC made, which is ``good``; how often it was compiled."""
    import cupy

    cupy.cuda.nvrtc.getVersion()  # imported with CuPy itself; parts of it are later
    times = []
    monkeypatch.setattr(cuda, "compiled", lambda operation, architecture: times.append(operation) or b"good")
    monkeypatch.setattr(cuda, "architecture_of", lambda device: "sm_90")

    class RawModule:
        def __init__(self, path):
            self.path = path

        def compile(self):
            with open(self.path, "rb") as file:
                self.code = file.read()
            if self.code != b"good":
                raise RuntimeError("CUDA_ERROR_INVALID_IMAGE")

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=RawModule, cuda=cupy.cuda))
    return times


def load_module():
    return cuda._module.__wrapped__("chaos_game", 0)


DAMAGE = {
    "empty": lambda path, whole: path.write_bytes(b""),
    "cut": lambda path, whole: path.write_bytes(whole[:-7]),
    "bit": lambda path, whole: path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:]),
    "another's": lambda path, whole: (
        kernel_cache.save(path.with_name("other.cubin"), b"bad") and path.with_name("other.cubin").replace(path)
    ),
    "directory": lambda path, whole: path.unlink() or path.mkdir(),
    "gone": lambda path, whole: path.unlink(),
    "folder gone": lambda path, whole: path.unlink() or path.parent.rmdir(),
    "of another driver": lambda path, whole: kernel_cache.save(path, b"unloadable"),
}


@needs_cupy
@pytest.mark.parametrize("damage", DAMAGE)
def test_machine_code_that_cannot_be_used_is_made_anew(own, driver, damage):
    assert load_module().code == b"good"
    assert load_module().code == b"good"
    assert len(driver) == 1  # the second came from the file
    path = cuda.place("chaos_game", "sm_90")
    DAMAGE[damage](path, path.read_bytes())
    assert load_module().code == b"good"
    assert load_module().code == b"good"
    assert len(driver) == (3 if damage == "directory" else 2)  # nothing takes the place of a directory


@needs_cupy
@pytest.mark.parametrize(
    "use",
    [
        lambda: cuda.compiled("philox", "sm_90"),
        lambda: cuda.supported_architectures(),
        lambda: cuda.place("chaos_game", "sm_90"),
        lambda: cuda.limits.__wrapped__(torch.device("cuda", 0)),
        lambda: cuda._loaded(b"good"),
        lambda: cuda.launch("a", "b", device=torch.device("cuda", 0), blocks=1, threads=1, arguments=()),
    ],
)
def test_cupy_s_cache_is_made_usable_before_cupy_is_imported(monkeypatch, use):
    """Its import fails where its own folder cannot be made."""

    class NotYetError(Exception):
        pass

    def not_yet():
        raise NotYetError

    monkeypatch.setattr(cuda.cupy_cache, "make_usable", not_yet)
    with pytest.raises(NotYetError):
        use()


@needs_cupy
def test_machine_code_is_loaded_where_no_disk_takes_a_file(own, driver, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_files, "replacing", full)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    first, second = load_module(), load_module()
    assert first.code == second.code == b"good"
    assert first.path != second.path  # CuPy would take the second for the first
    assert len(driver) == 2


@pytest.mark.parametrize("version", [13, 14])
def test_a_kernel_is_launched_on_torch_s_current_stream(monkeypatch, version):
    """CuPy 14 takes a stream by a protocol, earlier ones by its address; either is entered around the launch."""
    log = []

    class Stream:
        def __init__(self, handle):
            self.handle = handle

        def __enter__(self):
            log.append(f"on stream {self.handle}")

        def __exit__(self, *error):
            log.append("off")

    if version == 14:
        Stream.from_external = classmethod(lambda cls, given: cls(given.__cuda_stream__()))
    streams = SimpleNamespace(Stream=Stream, ExternalStream=lambda handle, device: Stream((device, handle)))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=streams))
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=77))
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: SimpleNamespace(cuda_stream=0))
    raw = lambda blocks, threads, arguments, shared_mem: log.append((blocks, threads, arguments, shared_mem))  # noqa: E731
    monkeypatch.setattr(cuda, "_kernel", lambda *which: cuda._Kernel(raw))
    given = {"device": torch.device("cuda", 1), "threads": 64, "arguments": [None, np.int32(5)]}
    cuda.launch("chaos_game", "walk", blocks=0, **given)
    assert log == []
    cuda.launch("chaos_game", "walk", blocks=3, shared=100, **given)
    place = (0, 77) if version == 14 else (1, 77)
    assert log == [f"on stream {place}", ((3,), (64,), (0, 5), 100), "off"]


def test_shared_memory_is_asked_for_once_where_a_launch_needs_more_than_is_free():
    """32 KiB beside 16 KiB of the kernel's own; a smaller launch after a larger one changes nothing."""

    class Raw:
        def __setattr__(self, name, value):
            asked.append((name, value))

    asked = []
    kernel = cuda._Kernel(Raw())
    for shared in (0, 32 << 10):
        kernel.allow(shared)
    assert asked == []
    for shared in ((32 << 10) + 1, 40_000, 40_000, 39_999, 200_000):
        kernel.allow(shared)
    sizes = [(32 << 10) + 1, 40_000, 200_000]
    names = "max_dynamic_shared_size_bytes", "preferred_shared_memory_carveout"
    assert asked == [pair for size in sizes for pair in zip(names, (size, 100), strict=True)]


def test_limits_are_those_of_the_device_and_a_kernel_is_that_of_its_module(monkeypatch):
    found = {
        "MultiProcessorCount": 132, "MaxSharedMemoryPerBlock": 49_152, "MaxSharedMemoryPerBlockOptin": 232_448,
        "MaxSharedMemoryPerMultiprocessor": 233_472,
    }  # fmt: skip
    devices_of = {3: SimpleNamespace(attributes=found)}
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=devices_of.__getitem__))
    monkeypatch.setattr(cuda.cupy_cache, "imported", lambda: cupy)
    assert cuda.limits.__wrapped__(torch.device("cuda", 3)) == cuda.Limits(132, 232_448, 233_472)
    module = SimpleNamespace(get_function=lambda name: f"function {name}")
    monkeypatch.setattr(cuda, "_module", lambda *which: module if which == ("chaos_game", 3) else None)
    assert cuda._kernel.__wrapped__("chaos_game", "walk", 3).raw == "function walk"


@needs_cupy
@pytest.mark.parametrize("wrong", ["sm_9", "90", "sm_12345", "", "gfx90a"])
def test_an_unknown_architecture_is_refused(wrong):
    with pytest.raises(ValueError, match="architecture must be one of sm_"):
        cuda.compiled("chaos_game", wrong)


@needs_cupy
def test_a_kernel_that_does_not_compile_says_why(monkeypatch):
    monkeypatch.setattr(cuda, "source", lambda operation: "__global__ void f() { undeclared = 1; }")
    with pytest.raises(RuntimeError, match="undeclared"):
        cuda.compiled("chaos_game", "sm_90")


@needs_cupy
def test_a_device_newer_than_the_compiler_takes_portable_code(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert cuda.architecture_of(torch.device("cuda", 0)) == "sm_90"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (99, 0))
    newest = cuda.architecture_of(torch.device("cuda", 0))
    assert newest == cuda.supported_architectures()[-1].replace("sm_", "compute_")


@pytest.fixture
def two_gpus(monkeypatch):
    """A torch that sees two GPUs, of which the second is the current one, and CuPy is installed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))


def test_the_default_is_the_current_gpu(two_gpus):
    assert devices.resolve() == devices.resolve("cuda") == torch.device("cuda:1")
    assert devices.resolve("cuda:0") == devices.resolve(torch.device("cuda", 0)) == torch.device("cuda:0")
    assert devices.resolve("cpu") == torch.device("cpu")
    assert gr.DataLoader("onepfrac-1k")._renderer.device == torch.device("cuda:1")
    assert gr.Renderer("onepfrac-1k", "cuda:0").device == torch.device("cuda:0")
    assert gr.Renderer("onepfrac-1k").device == torch.device("cpu")


@pytest.mark.parametrize("wrong", ["cuda:2", "cuda:9", "meta", "gpu", 7.5, "tpu9", "cuda:-1"])
def test_other_devices_are_refused(two_gpus, wrong):
    with pytest.raises(ValueError, match="device must be"):
        devices.resolve(wrong)


@pytest.mark.parametrize(("version", "extra"), [("12.8", "cuda12"), ("13.0", "cuda13")])
def test_a_gpu_without_cupy_names_what_to_install(two_gpus, monkeypatch, version, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cupy" else SimpleNamespace())
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(RuntimeError, match=rf"pip install 'gpurender\[{extra}\]'") as caught:
        gr.DataLoader("onepfrac-1k")
    assert "\n" not in str(caught.value)
    assert devices.resolve("cpu") == torch.device("cpu")


def test_out_of_memory_names_batch_and_canvas(monkeypatch):
    renderer = gr.Renderer("visualatom-1k")

    def full(*arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.\nmore")

    monkeypatch.setattr(gr.VisualAtom, "canvases", full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"batch of 3 canvases of 1 x 512 x 512 bytes.*8\.00 GiB"):
        renderer([1, 2, 3])
