"""What every test shares: a cache of its own, the GPU marker, the folder of shared data."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support import ROOT

CACHE = "GPURENDER_TESTS_CACHE"  # names a folder for what tests compile, on a GPU as well
LONGEST = (  # files that take a minute or more; they begin first, so that no process is left alone with one at the end
    "promises/test_gpu_path.py", "search/test_ray_engine.py", "kernels/test_triton.py", "interop/test_stacks.py",
    "interop/test_timm.py", "bench/test_acceptance.py", "commands/test_cli.py", "commands/checkup/test_precompile.py",
    "promises/test_packaging.py", "test_examples.py", "bench/test_machine_code.py", "trials/test_kill_training.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled kernels in a folder that all processes of a run share: compiling all of them takes a minute.

    It is ``$GPURENDER_TESTS_CACHE``, by default pytest's own folder, so that the next run has them, too; without that
    one (``-p no:cacheprovider``, a tree that cannot be written) it is a temporary one. Their names are hashes of all
    that they are made of.
    """
    if hasattr(config, "workerinput"):  # a process of pytest-xdist, which has the environment of the first
        return
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist would begin with the files of the most tests
        config.option.loadscopereorder = False
    try:
        shared = Path(os.environ[CACHE]).absolute() if CACHE in os.environ else config.cache.mkdir("kernels")
        shared.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=shared).close()  # it may be there, and another user's
    except (AttributeError, OSError):
        shared = Path(tempfile.mkdtemp(prefix="gpurender-tests-"))
        config.add_cleanup(lambda: shutil.rmtree(shared, ignore_errors=True))
    os.environ["NUMBA_CACHE_DIR"] = str(shared / "numba")
    os.environ["TRITON_CACHE_DIR"] = str(shared / "triton")
    os.environ["CUPY_CACHE_DIR"] = str(shared / "cupy")  # made when CuPy is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    places = {str(ROOT / "tests" / name): place for place, name in enumerate(LONGEST)}
    gone = [path for path in places if not os.path.exists(path)]
    if gone:
        raise pytest.UsageError(f"LONGEST in tests/conftest.py names files that are not there: {', '.join(gone)}")
    items.sort(key=lambda item: places.get(str(item.path), len(places)))  # stable: else the order stays


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``gpu`` where there is no CUDA device; fail it where one was promised."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        reason = "needs a CUDA device, and torch sees none"
        if os.environ.get("GPURENDER_REQUIRE_CUDA") == "1":
            pytest.fail(f"{reason}, but GPURENDER_REQUIRE_CUDA=1", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache directory for the session, subprocesses included: no test reads or leaves anything in the user's.

    With ``$GPURENDER_TESTS_CACHE`` compiled kernels, of the GPU as well, lie there and outlive the session; results of
    searches never do, as some tests replace the search.

    That some test is the first to compile a kernel is nothing to say, in logs that tests look at.
    """
    from gpurender.runtime import compiling, kernel_cache

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("GPURENDER_CACHE_DIR", raising=False)
        if CACHE in os.environ:
            place = kernel_cache.folder()
            lasting = Path(os.environ[CACHE]).absolute() / place.name
            lasting.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(lasting)
        patch.setattr(compiling, "announce", lambda place: None)
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of shared data beside the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared, the data beside the repository")
    return folder
