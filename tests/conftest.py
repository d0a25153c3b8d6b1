"""What every test shares: a cache of its own, the GPU marker, the folder of shared data."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
    """A cache directory for the session, subprocesses included: no test reads or leaves anything in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
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
