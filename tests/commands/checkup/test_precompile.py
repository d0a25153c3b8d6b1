"""``gpurender doctor --warm``: kernels compiled in advance."""

import pytest
import torch

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.checkup import precompile


def test_warming_names_the_architectures_it_knows(monkeypatch, capsys):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert cli.main(["doctor", "--warm"]) == 2
    assert "sm_90" in capsys.readouterr().err
    assert cli.main(["doctor", "--warm", "sm_1"]) == 2
    assert "got 'sm_1'" in capsys.readouterr().err


def test_warming_draws_every_kind_of_batch(monkeypatch):
    """On a GPU this compiles what is compiled at first use; that it draws shows on a CPU."""
    seen = set()
    draw = gr.DataLoader.__iter__

    def noted(loader):
        seen.add((loader._recipe.family, loader._dtype, loader._memory_format, loader._shuffle))
        return draw(loader)

    monkeypatch.setattr(gr.DataLoader, "__iter__", noted)
    precompile.draw_everything(torch.device("cpu"))
    assert len(seen) == 3 * 3 * 2 * 2


def test_warming_keeps_the_machine_code(monkeypatch, tmp_path, capsys):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("gpurender.runtime.cuda.compiled", lambda operation, architecture: operation.encode())
    assert cli.main(["doctor", "--warm", "sm_80", "sm_90"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kept = sorted(path.name for path in (tmp_path / "gpurender").glob("kernels-*/*"))
    assert len(kept) == 4
    assert len(lines) == 5
    assert all(any(name in line for line in lines) for name in kept)
    assert "first use" in lines[-1]
