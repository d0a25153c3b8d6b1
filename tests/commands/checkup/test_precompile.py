"""``gpurender doctor --warm``: kernels compiled in advance."""

from typing import ClassVar

import pytest
import torch

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.checkup import precompile
from gpurender.runtime import cuda
from tests.support.bars import Bars


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
    few = {name: gr.Recipe.families[name] for name in ("onepfrac", "multifractal", "mixture")}
    monkeypatch.setattr(gr.Recipe, "families", few)
    drawn, draw = [], gr.DataLoader.__iter__
    monkeypatch.setattr(gr.DataLoader, "__iter__", lambda loader: drawn.append(loader) or draw(loader))
    precompile.draw_everything(torch.device("cpu"))
    assert len(drawn) == 2 * 3 * 2 * 2 * 10


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


@pytest.fixture
def machine(monkeypatch):
    """Two GPUs of sm_90 and one that only PTX serves; what is compiled, drawn and waited for."""
    done = []
    monkeypatch.setattr(precompile, "require_compilers", lambda: done.append("compilers"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda index: done.append(("wait", index)))
    monkeypatch.setattr(cuda, "architecture_of", lambda gpu: ("sm_90", "sm_90", "compute_120")[gpu.index])
    monkeypatch.setattr(cuda, "supported_architectures", lambda: ("sm_80", "sm_90", "sm_120"))
    monkeypatch.setattr(cuda, "OPERATIONS", ("a", "b"))
    monkeypatch.setattr(cuda, "cached", lambda operation, name: done.append((operation, name)) or f"{operation}.{name}")
    monkeypatch.setattr(precompile, "draw_everything", lambda device: done.append(str(device)))
    return done


def test_architectures_are_those_of_the_gpus_or_the_given_ones(machine, monkeypatch):
    assert precompile.architectures([]) == ["sm_90", "compute_120"]
    assert machine == ["compilers"]
    assert precompile.architectures(["sm_80", "sm_120", "sm_80"]) == ["sm_80", "sm_120"]
    for wrong in ("compute_120", "sm_75"):
        with pytest.raises(ValueError, match=rf"^--warm must name .* sm_80, sm_90, sm_120, got '{wrong}'$"):
            precompile.architectures(["sm_80", wrong])
    monkeypatch.setattr(cuda, "architecture_of", lambda gpu: "sm_35")
    with pytest.raises(ValueError, match="got 'sm_35'"):
        precompile.architectures([])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"where torch sees no GPU, some of sm_80, sm_90, sm_120$"):
        precompile.architectures([])


def test_all_is_compiled_and_then_drawn_on_each_gpu(machine, monkeypatch):
    bars = Bars()
    monkeypatch.setattr(precompile, "progress", bars)
    assert list(precompile.warm(["sm_80", "sm_90"])) == [
        (operation, name, f"{operation}.{name}") for name in ("sm_80", "sm_90") for operation in ("a", "b")
    ]
    drawn = [step for index in range(3) for step in (f"cuda:{index}", ("wait", index))]
    assert machine == ["compilers", ("a", "sm_80"), ("b", "sm_80"), ("a", "sm_90"), ("b", "sm_90"), *drawn]
    assert bars.made == [{"total": 4, "desc": "compile", "unit": "kernel"}]
    assert bars.steps == [1] * 4


def test_each_policy_that_is_drawn_is_one_of_these(made):
    """In the order in which they are drawn; on a GPU each makes machine code of its own."""
    deit, everything = gr.augment.DeiT, {
        "force_color_jitter": True, "grayscale_prob": 0.5, "gaussian_blur_prob": 0.5, "re_count": (1, 2),
    }  # fmt: skip
    wanted = [
        None, gr.augment.Crop(), gr.augment.Crop(interpolation="bilinear"), gr.augment.Crop(interpolation="random"),
        deit(), deit.onepfrac(), deit.visualatom(), deit.resnet(),
        deit(auto_augment="3a", re_mode="rand", interpolation="random"),
        deit(re_mode="const", mixup_mode="elem", **everything),
    ]  # fmt: skip
    first = [each["augment"] for each in made if not each["shuffle"]][:10]
    assert first == wanted
    assert {each["device"] for each in made} == {torch.device("cpu")}
    assert {each["batch_size"] for each in made} == {32}
