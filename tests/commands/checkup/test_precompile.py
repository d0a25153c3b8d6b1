"""``gpurender doctor --warm``: kernels compiled in advance."""

from typing import ClassVar

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


class Noted:
    """Stands for the loader: notes what it is made with, and has one batch."""

    made: ClassVar[list[dict]] = []

    def __init__(self, recipe, **options):
        Noted.made.append({"recipe": recipe, **options})

    def __iter__(self):
        return iter([None])


@pytest.fixture
def made(monkeypatch):
    """What the loaders of ``draw_everything`` are made with."""
    monkeypatch.setattr(Noted, "made", [])
    monkeypatch.setattr("gpurender.loading.data_loader.DataLoader", Noted)
    precompile.draw_everything(torch.device("cpu"))
    return Noted.made


def test_warming_draws_every_kind_of_batch(made):
    rendered = {name for name, family in gr.Recipe.families.items() if family.smallest() is not None}
    kinds = {(each["recipe"].family, each["dtype"], each["memory_format"], each["shuffle"]) for each in made}
    assert {kind[0] for kind in kinds} == rendered
    assert len(kinds) == len(rendered) * 3 * 2 * 2
    assert {each["batch_size"] % 16 for each in made} == {0}  # as training batches are: Triton compiles by this
    assert all(each["recipe"].image_size == type(each["recipe"]).image_size for each in made)


def test_what_warming_draws_can_be_drawn(monkeypatch):
    """On a GPU this compiles what is compiled at first use; of all families it would take minutes."""
    few = {name: gr.Recipe.families[name] for name in ("onepfrac", "visualatom", "multifractal", "mixture")}
    monkeypatch.setattr(gr.Recipe, "families", few)
    drawn, draw = [], gr.DataLoader.__iter__
    monkeypatch.setattr(gr.DataLoader, "__iter__", lambda loader: drawn.append(loader) or draw(loader))
    precompile.draw_everything(torch.device("cpu"))
    assert len(drawn) == 3 * 3 * 2 * 2 * 10


def test_warming_draws_with_every_choice_of_a_policy(made):
    """Each value that makes other machine code or other launches occurs in some policy."""
    policies = {repr(each["augment"]): each["augment"] for each in made}
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
