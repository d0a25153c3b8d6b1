"""``gpurender doctor``: its exit status, and what it says of files."""

from pathlib import Path

import pytest
import torch

from gpurender.commands import cli
from gpurender.commands.checkup import cache, examine, precompile


@pytest.mark.parametrize(("available", "status"), [([False, True], 0), ([False, False], 1)])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_status_is_whether_something_renders(monkeypatch, capsys, available, status, words):
    report = {"kernels": [{"available": each} for each in available]}
    monkeypatch.setattr(examine, "examine", lambda: report)
    monkeypatch.setattr(examine, "table", lambda given: f"table of {len(given)}")
    assert cli.main(["doctor", *words]) == status
    out = capsys.readouterr().out
    assert out.startswith("{") if words else out == "table of 1\n"


@pytest.mark.parametrize(
    ("files", "status"),
    [([Path("a"), Path("b")], 0), ([None, Path("b")], 1), ([Path("a"), None], 1)],
)
@pytest.mark.parametrize("gpu", [False, True])
def test_compiling_fails_where_a_kernel_cannot_be_kept(monkeypatch, capsys, files, status, gpu):
    asked = []

    def warm(names):
        asked.append(names)
        yield from (("warp", "sm_90", file) for file in files)

    monkeypatch.setattr(precompile, "warm", warm)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert cli.main(["doctor", "--warm", "sm_90"]) == status
    assert asked == [["sm_90"]]
    *kept, last = capsys.readouterr().out.splitlines()
    assert kept == [f"warp        sm_90    {file or 'compiled, but there is no place to keep it'}" for file in files]
    assert last == f"Triton kernels: compiled {'for the GPUs here' if gpu else 'at first use on a GPU'}"
    assert cli.main(["doctor", "--warm"]) == status
    assert asked[1] == []


def test_one_file_that_stays_is_enough_to_fail(monkeypatch, capsys):
    """Of the first folder; the second is clean."""
    stuck = [PermissionError(13, "Permission denied", f"/a/{number}") for number in range(3)]
    done = [cache.Cleaned(Path("/a"), 1, 1_260_000, stuck), cache.Cleaned(Path("/b"), 2, 40_000)]
    monkeypatch.setattr(cache, "clean", lambda: iter(done))
    assert cli.main(["doctor", "--clean-cache"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "/a: 1 file removed, 1.3 MB",
        "  not removed: 3 files, such as '/a/0': Permission denied",
        "/b: 2 files removed, 0.0 MB",
    ]
