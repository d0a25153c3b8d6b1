"""How CUDA kernels are compiled, kept and chosen, as far as that shows without a GPU."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import gpurender as gr
from gpurender import cuda, devices
from gpurender.randomness import Stream

needs_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy, whose NVRTC compiles")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An empty cache of the test's own; the folder of the kernels in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gpurender" / "kernels"


@pytest.mark.parametrize("operation", cuda.OPERATIONS)
def test_a_source_is_whole(operation):
    text = cuda.source(operation)
    assert all(f"#define STREAM_{stream.name} {int(stream)}u\n" in text for stream in Stream)
    assert "philox4x32" in text
    assert "#include" not in text
    assert f"{operation}_" in text


@needs_cupy
def test_machine_code_is_compiled_once_by_many_processes(own):
    """Two processes compile the same kernel at once; both find it good, nothing else is left, the next reads it."""
    code = "from gpurender import cuda; print(cuda.cached('chaos_game', 'sm_90'))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate(timeout=300)[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    (path,) = own.iterdir()
    assert found == {str(path)}
    made = path.read_bytes()
    assert made[:4] == b"\x7fELF"
    assert len(made) % 8 == 0
    sections = int.from_bytes(made[40:48], "little") + 64 * int.from_bytes(made[60:62], "little")
    assert sections <= len(made)  # the ELF header's table of sections, at the end of the file, is all there
    before = path.stat().st_mtime_ns
    assert cuda.cached("chaos_game", "sm_90") == path
    assert path.stat().st_mtime_ns == before


@needs_cupy
def test_a_changed_source_has_another_file(own, monkeypatch):
    monkeypatch.setattr(cuda, "compiled", lambda operation, architecture: b"made")
    first = cuda.cached("chaos_game", "sm_90")
    assert first.read_bytes() == b"made"
    assert cuda.cached("chaos_game", "sm_80") != first
    assert cuda.cached("chaos_game", "compute_90").suffix == ".ptx"
    monkeypatch.setattr(cuda, "source", lambda operation: "another")
    assert cuda.cached("chaos_game", "sm_90") != first


@needs_cupy
def test_where_nothing_can_be_kept_nothing_is(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "compiled", lambda operation, architecture: b"made")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cuda.cached("chaos_game", "sm_90") is None
    monkeypatch.setattr(cuda.cache, "directory", lambda: None)
    assert cuda.cached("chaos_game", "sm_90") is None


@needs_cupy
def test_damaged_machine_code_is_made_anew(own, monkeypatch):
    monkeypatch.setattr(cuda, "compiled", lambda operation, architecture: b"good")
    monkeypatch.setattr(cuda, "architecture_of", lambda device: "sm_90")
    path = cuda.cached("chaos_game", "sm_90")
    path.write_bytes(b"cut")

    def load(file):
        if file.read_bytes() != b"good":
            raise RuntimeError("CUDA_ERROR_INVALID_IMAGE")
        return "module"

    monkeypatch.setattr(cuda, "_loaded", load)
    assert cuda._module.__wrapped__("chaos_game", 0) == "module"
    assert not path.exists()


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
