"""``gpurender doctor --warm``: kernels compiled in advance."""

import pytest
import torch

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.checkup import precompile
from gpurender.runtime import cuda


def test_warming_names_the_architectures_it_knows(monkeypatch, capsys):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert cli.main(["doctor", "--warm"]) == 2
    assert "sm_90" in capsys.readouterr().err
    assert cli.main(["doctor", "--warm", "sm_1"]) == 2
    assert "got 'sm_1'" in capsys.readouterr().err


def test_warming_draws_every_kind_of_batch(monkeypatch):
    """On a GPU this compiles what is compiled at first use; that it draws shows on a CPU."""
    seen, loaders = set(), []
    draw = gr.DataLoader.__iter__

    def noted(loader):
        loaders.append(loader)
        seen.add((loader._recipe.family, loader._dtype, loader._memory_format, loader._shuffle))
        return draw(loader)

    monkeypatch.setattr(gr.DataLoader, "__iter__", noted)
    few = {name: gr.Recipe.families[name] for name in ("onepfrac", "visualatom", "multifractal", "mixture")}
    monkeypatch.setattr(gr.Recipe, "families", few)  # all of them take minutes
    precompile.draw_everything(torch.device("cpu"))
    rendered = [name for name, family in gr.Recipe.families.items() if family.smallest() is not None]
    assert len(seen) == len(rendered) * 3 * 2 * 2
    assert {loader.batch_size % 16 for loader in loaders} == {0}  # as training batches are: Triton compiles by this
    assert {loader._recipe.image_size for loader in loaders} == {gr.Recipe.families[n].image_size for n in rendered}


def test_warming_draws_with_every_choice_of_a_policy(monkeypatch):
    """Each value that makes other machine code or other launches occurs in some policy."""
    policies = {}

    class Noted:
        def __init__(self, recipe, *, augment, **options):
            policies[repr(augment)] = augment

        def __iter__(self):
            return iter([None])

    monkeypatch.setattr("gpurender.loading.data_loader.DataLoader", Noted)
    precompile.draw_everything(torch.device("cpu"))
    assert policies.pop("None", "missing") is None
    crops = {name for name, policy in policies.items() if type(policy) is gr.augment.Crop}
    assert {policies[name].interpolation for name in crops} == {"bicubic", "bilinear", "random"}
    whole = [policy for name, policy in policies.items() if name not in crops]
    named = (gr.augment.DeiT(), gr.augment.DeiT.onepfrac(), gr.augment.DeiT.visualatom(), gr.augment.DeiT.resnet())
    assert {repr(policy) for policy in named} <= set(policies)
    assert {policy.re_mode for policy in whole} == {"pixel", "rand", "const"}
    assert {"batch", "elem"} <= {policy.mixup_mode for policy in whole}
    assert {policy.interpolation for policy in whole} == {"bicubic", "random"}
    assert {policy.re_count for policy in whole} == {1, (1, 2)}  # one box, and a number that is drawn
    assert {policy.force_color_jitter for policy in whole} == {False, True}


def test_warming_keeps_the_machine_code(monkeypatch, tmp_path, capsys):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("gpurender.runtime.cuda.compiled", lambda operation, architecture: operation.encode())
    assert cli.main(["doctor", "--warm", "sm_80", "sm_90"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kept = sorted(path.name for path in (tmp_path / "gpurender").glob("kernels-*/*"))
    assert len(kept) == 2 * len(cuda.OPERATIONS)
    assert len(lines) == 2 * len(cuda.OPERATIONS) + 1
    assert all(any(name in line for line in lines) for name in kept)
    assert "first use" in lines[-1]
