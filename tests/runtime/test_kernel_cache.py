"""Compiled kernels on disk: kept once for all processes, never stale, and never a reason to fail."""

import ast
import contextlib
import errno
import fcntl
import os
import pickle
import pty
import runpy
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pytest

import gpurender
from gpurender.numerics import streams
from gpurender.runtime import cuda, kernel_cache, numba_cache
from gpurender.runtime.numba_jit import kernel
from gpurender.util import disk_cache, kernel_sources


def twice_and_one(x):
    return x * 2 + 1


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of compiled kernels in a cache of the test's own, which is not there yet."""
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "own"))
    return kernel_cache.folder()


def call(argument=20):
    """Whether a kernel that this process has not compiled yet was found on disk; its result is tested."""
    compiled = kernel(twice_and_one)
    assert compiled(argument) == 2 * argument + 1
    stats = compiled.stats
    assert sum(stats.cache_hits.values()) + sum(stats.cache_misses.values()) == 1
    return bool(stats.cache_hits)


@contextlib.contextmanager
def powerless():
    """Without root's right to read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:  # root of a user namespace that has no other
        pytest.skip("there is no other user here")
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_kernel_is_compiled_once(place):
    assert not call()
    assert [path.name.rpartition("-")[0] for path in place.iterdir()] == [f"{__name__}.twice_and_one"]
    assert call()
    assert not call(0.5)  # another type is another version
    assert call(0.5)
    assert call()
    assert len(list(place.iterdir())) == 2


def test_versions_differ_by_cpu_and_options(place, monkeypatch):
    from numba.core import config
    from numba.core.registry import cpu_target

    codegen = type(cpu_target.target_context.codegen())
    assert not call()
    with monkeypatch.context() as patch:
        patch.setattr(codegen, "magic_tuple", lambda self: ("x86_64-unknown-linux-gnu", "another", "-avx2"))
        assert not call()
    with monkeypatch.context() as patch:
        patch.setattr(config, "BOUNDSCHECK", 1)
        assert not call()
    assert call()
    assert len(list(place.iterdir())) == 3


def garbage(path, contents):
    assert kernel_cache.save(path, contents)


def exchange(path):
    """Put a whole file of the version for floats there."""
    assert not call(0.5)
    (other,) = {*path.parent.iterdir()} - {path}
    other.replace(path)


DAMAGE = {
    "empty": lambda path, whole: path.write_bytes(b""),
    "short": lambda path, whole: path.write_bytes(whole[:20]),
    "cut": lambda path, whole: path.write_bytes(whole[:-100]),
    "longer": lambda path, whole: path.write_bytes(whole + b"\0"),
    "a bit in the middle": lambda path, whole: path.write_bytes(
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 16]) + whole[len(whole) // 2 + 1 :]
    ),
    "a bit of the checksum": lambda path, whole: path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1])),
    "no pickle": lambda path, whole: garbage(path, b"garbage"),
    "a pickle of something else": lambda path, whole: garbage(path, pickle.dumps([1, 2])),
    "a pickle of a class that is gone": lambda path, whole: garbage(path, b"cgpurender.nowhere\nGone\n."),
    "of another version": lambda path, whole: exchange(path),
    "gone": lambda path, whole: path.unlink(),
    "folder gone": lambda path, whole: shutil.rmtree(path.parent),
    "cache gone": lambda path, whole: shutil.rmtree(path.parent.parent),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_compiled_anew(place, damage):
    assert not call()
    (path,) = place.iterdir()
    DAMAGE[damage](path, path.read_bytes())
    assert not call()
    assert call()
    assert [found.name for found in place.iterdir()] == [path.name]


def test_a_directory_in_the_place_of_a_file_is_left_alone(place):
    assert not call()
    (path,) = place.iterdir()
    path.unlink()
    path.mkdir()
    assert not call()
    assert not call()
    assert list(place.iterdir()) == [path]


@pytest.fixture
def public(monkeypatch):
    """As ``place``, but in a folder that every user may look into: pytest's own is closed to others."""
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setenv("GPURENDER_CACHE_DIR", os.path.join(folder, "own"))
        yield kernel_cache.folder()


def test_another_user_s_cache_is_as_good_as_may_be_read(public):
    """Nothing of it can be written; then its file, its folder and the whole cache cannot be read either."""
    assert not call()
    (path,) = public.iterdir()
    for closed, mode, found in (
        (public, 0o555, True),
        (path, 0o000, False),
        (public, 0o000, False),
        (public.parent, 0o000, False),
    ):
        usual = closed.stat().st_mode
        closed.chmod(mode)
        try:
            with powerless():
                if mode == 0o555 and not os.access(path, os.R_OK, effective_ids=True):
                    pytest.skip("needs a temporary folder that other users can reach")
                assert call() == found
                assert mode == 0 or not call(0.5)  # another version is not there, and cannot be kept
                assert mode == 0 or not call(0.5)
        finally:
            closed.chmod(usual)
    assert [found.name for found in public.iterdir()] == [path.name]
    assert call()  # whole, or whole again: its owner may replace a file that cannot be read


def test_a_full_disk_keeps_nothing_and_stops_nothing(place, monkeypatch):
    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert not call()
    assert not call()
    assert list(place.iterdir()) == []


def test_without_a_place_every_process_compiles(place, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "file"))
    assert not call()
    assert not call()
    monkeypatch.setattr(disk_cache, "directory", lambda: None)
    assert not call()
    assert not call()
    assert kernel_cache.folder() is None
    assert not kernel_cache.writable(None)
    assert not (tmp_path / "own").exists()


def test_numba_s_own_variable_is_honoured(place, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    assert not call()
    assert call()
    assert (tmp_path / "numba/gpurender" / place.name).is_dir()
    assert not place.exists()


@pytest.mark.parametrize("missing", ["_reduce", "_rebuild"])
def test_another_numba_compiles_in_every_process(place, monkeypatch, missing):
    with monkeypatch.context() as patch:
        patch.delattr(numba_cache.CompileResult, missing)
        assert not call()
        assert not call()
    assert not place.exists()


@pytest.mark.parametrize("module", ["numba_cache", "compiling"])
def test_a_numba_whose_parts_lie_elsewhere_compiles_in_every_process(place, monkeypatch, module):
    monkeypatch.setitem(sys.modules, f"gpurender.runtime.{module}", None)
    monkeypatch.delattr(gpurender.runtime, module)
    assert not call()
    assert not call()
    assert not place.exists()


def test_errors_of_numba_s_parts_are_misses(place, monkeypatch):
    def fails(*arguments):
        raise TypeError("it takes more arguments since")

    for part in (numba_cache.CompileResult, "_reduce"), (numba_cache.serialize, "dumps"):
        with monkeypatch.context() as patch:
            patch.setattr(*part, fails)
            assert not call()
    assert not place.exists()
    assert not call()
    monkeypatch.setattr(numba_cache.CompileResult, "_rebuild", fails)
    assert not call()


def test_a_cache_is_switched_off_as_numba_s(place):
    compiled = kernel(twice_and_one)
    assert compiled._cache.cache_path == str(place)
    compiled._cache.disable()
    assert compiled(1) == 3
    assert not place.exists()
    compiled._cache.enable()
    compiled.recompile()
    assert len(list(place.iterdir())) == 1
    assert call(1)


# --- what the folder is named after ---------------------------------------------------------------------------------


@pytest.fixture
def copied(root, tmp_path, monkeypatch):
    """A copy of the package, which the hash is taken of."""
    package = tmp_path / "gpurender"
    shutil.copytree(root / "gpurender", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kernel_sources, "PACKAGE", package)
    return package


def test_the_folder_changes_with_every_source_and_version(copied, monkeypatch):
    seen = {kernel_sources.current_fingerprint()}
    assert seen == {kernel_sources.fingerprint()}  # the same sources elsewhere
    assert {len(name) for name in seen} == {32}
    changes = ["kernels/philox/cpu.py", "kernels/device/common.cuh", "kernels/chaos_game/gpu.cu", "numerics/streams.py"]
    changes += ["kernels/image_ops/gpu_plan.py", "numerics/quantiles.py", kernel_sources.DECORATOR]
    for name in changes:
        path = copied / name
        path.write_text(path.read_text()[:-1] + " ")  # of the same length
        seen.add(kernel_sources.current_fingerprint())
    (copied / "kernels/visual_atom/cpu.py").rename(copied / "kernels/visual_atom/cpu_of_old.py")
    seen.add(kernel_sources.current_fingerprint())
    for name, changed in (("__version__", "0.0.0"), ("_version", lambda package: "0.0.0")):
        monkeypatch.setattr(kernel_sources, name, changed)
        seen.add(kernel_sources.current_fingerprint())
    monkeypatch.setattr(kernel_sources.platform, "python_version", lambda: "3.99.0")
    seen.add(kernel_sources.current_fingerprint())
    assert len(seen) == 1 + len(changes) + 4
    (copied / "loading/data_loader.py").write_text("# no kernel")
    assert kernel_sources.current_fingerprint() in seen
    shutil.rmtree(copied)
    assert kernel_sources.current_fingerprint() is None


def test_sources_that_change_under_way_are_not_mixed(place, monkeypatch):
    """What was imported before a change must not be kept as what the changed files are."""
    monkeypatch.setattr(kernel_sources, "current_fingerprint", lambda: "changed since")
    assert not call()
    assert not place.exists()


def test_whatever_kernels_take_from_elsewhere_is_part_of_the_hash(root):
    """Names that compiled functions use and that are imported from outside of the kernels' folders."""
    taken = set()
    for path in (root / "kernels").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        homes = {
            alias.asname or alias.name: node.module if node.module != "gpurender" else f"gpurender.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        decorated = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.decorator_list]
        compiled = [f for f in decorated if "device_tables" not in ast.unparse(f.decorator_list[0])]
        constants = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
        for part in (*compiled, *constants):
            names = {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
            taken |= {homes[name] for name in names if name in homes}
    ours = {module for module in taken if module.startswith("gpurender.") and ".kernels" not in module}
    assert {"gpurender.runtime.numba_jit", "gpurender.numerics.streams"} <= ours
    files = {module.removeprefix("gpurender.").replace(".", "/") + ".py" for module in ours}
    assert {file for file in files if not file.startswith("numerics")} == {kernel_sources.DECORATOR}


# --- whole processes --------------------------------------------------------------------------------------------------

DRAW = """
import gpurender as gr
canvases = gr.Renderer(gr.OnePFrac(classes=4, points=500, image_size=32))(range(4))
print(canvases.numpy().tobytes().hex())
"""


def draw(package, home, code=DRAW, **variables):
    """Standard output and error of a process that draws with a package's copy and keeps everything below a home."""
    unset = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "GPURENDER_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(home), "PYTHONPATH": str(package.parent), **variables}
    done = subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


LINE = "gpurender: compiling the kernels that this needs, once on this machine (up to a minute)...\n"


@pytest.fixture(scope="module")
def drawn(root, tmp_path_factory):
    """A copy of the package, a home in which it has drawn for the first time, the picture, and what was said."""
    folder = tmp_path_factory.mktemp("drawn")
    package = folder / "gpurender"
    shutil.copytree(root / "gpurender", package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "home").mkdir()
    sources = {path for path in package.rglob("*") if path.is_file()}
    picture, said = draw(package, folder / "home")
    there = {path for path in package.rglob("*") if path.suffix != ".pyc" and path.is_file()}
    assert there == sources  # nothing but Python's own bytecode is written beside them
    assert os.listdir(folder / "home") == [".cache"]
    return package, folder / "home", picture, said


def test_compiling_is_said_once_and_damage_costs_time_only(drawn, tmp_path):
    package, used, picture, said = drawn
    assert said == LINE
    assert len(set(picture)) > 2
    home = tmp_path / "home"
    shutil.copytree(used, home)
    assert draw(package, home) == (picture, "")
    kept = sorted((home / ".cache/gpurender").rglob("*.numba"))
    assert len(kept) > 5
    for number, path in enumerate(kept):
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :]
        path.write_bytes((b"", whole[:-1], flipped)[number % 3])
    assert draw(package, home) == (picture, LINE)
    assert draw(package, home) == (picture, "")


PICKS = """
import numpy as np
from gpurender.kernels.chaos_game import cpu_walk
picks = np.empty((4, 2), np.uint32)
cpu_walk.draw_eight(0, *np.arange(4, dtype=np.uint32).reshape(2, 2), picks)
print(picks.tolist())
"""
FULL = "import resource; import gpurender.kernels.chaos_game.cpu; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"


@pytest.fixture
def package(root, tmp_path):
    """A copy of the package, which may be changed."""
    shutil.copytree(root / "gpurender", tmp_path / "gpurender", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "gpurender"


def home(tmp_path, name):
    """A home in which nothing is kept yet."""
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_changed_source_of_another_file_is_drawn_with(package, tmp_path):
    """chaos_game inlines the generator of philox: another number of rounds is another picture, at once.

    The second of them is drawn without a cache, on a disk that takes files but nothing in them.
    """
    used, full = home(tmp_path, "used"), home(tmp_path, "full")
    before, _ = draw(package, used, PICKS)
    source = package / "kernels/philox/cpu.py"
    text = source.read_text()
    assert "ROUNDS = 10\n" in text
    source.write_text(text.replace("ROUNDS = 10\n", "ROUNDS = 7\n"))
    after, said = draw(package, used, PICKS)
    assert said == LINE
    assert after != before
    alone, said = draw(package, full, FULL + PICKS)
    assert alone == after
    assert "in every process" in said
    assert str(full) in said
    assert not [path for path in full.rglob("*") if path.is_file()]


EDITED = """
from pathlib import Path
import gpurender as gr
gr.DataLoader, gr.OnePFrac  # have imported what the kernels inline, and no kernel of the chaos game
source = Path(gr.__file__).with_name("numerics") / "streams.py"
text = source.read_text()
assert "    POINTS = 1 " in text
source.write_text(text.replace("    POINTS = 1 ", "    POINTS = 77 "))
"""


def test_a_source_that_changes_before_the_first_kernel_leaves_no_kernel_of_the_old_one(package, tmp_path):
    """A process that has imported a source and compiles after an edit keeps nothing under the edited source's name."""
    used = home(tmp_path, "used")
    old, _ = draw(package, used, EDITED + PICKS)
    new, said = draw(package, used, PICKS)
    assert new != old
    assert said == LINE
    assert draw(package, home(tmp_path, "empty"), PICKS) == (new, LINE)


def test_without_numba_s_compiler_nothing_is_kept(root, tmp_path):
    code = "from gpurender.kernels.philox import words; from gpurender.numerics.streams import Stream; "
    code += "print(words(1, Stream.POINTS, range(2)).tolist())"
    expected, said = draw(root / "gpurender", tmp_path, code)
    assert said == LINE
    shutil.rmtree(tmp_path / ".cache")
    plain, said = draw(root / "gpurender", tmp_path, code, NUMBA_DISABLE_JIT="1")
    assert plain == expected
    assert "compiling" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_has_a_bar_that_goes_before_the_batch_comes(root, tmp_path):
    """Without its delay, in a terminal: it counts, and is wiped out when a kernel is called."""
    code = """
import numpy as np
from gpurender.runtime import compiling
compiling.DELAY = 0.0
from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
import sys
words(1, Stream.POINTS, np.arange(2))
sys.stderr.write("batch")
"""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(root), "GPURENDER_CACHE_DIR": str(tmp_path)}
    del environment["NUMBA_CACHE_DIR"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, stderr=follower, timeout=300, check=True)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says so when the other end is closed
        while part := os.read(leader, 1000):
            shown += part
    os.close(leader)
    assert done.returncode == 0
    lines = shown.decode().replace("\r\n", "\n").partition("\n")
    assert lines[0] + "\n" == LINE
    assert "compiling: 1 kernels" in lines[2]
    wiped = lines[2].rpartition("\r")
    assert wiped[2] == "batch"
    assert wiped[0].rpartition("\r")[2].strip() == ""


def test_files_of_the_cuda_kernels_lie_in_the_same_folder(place):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    assert cuda.place("visual_atom", "sm_90").parent == place


def test_the_sources_are_read_when_the_first_that_kernels_import_is(monkeypatch):
    """They may be changed on the disk afterwards, before a kernel is compiled."""
    read = []
    monkeypatch.setattr(kernel_sources, "fingerprint", lambda: read.append(1))
    runpy.run_path(streams.__file__)
    assert read == [1]
