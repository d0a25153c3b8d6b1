"""Accelerate's states, the end of several processes, precision, and what a lack of memory says."""

import sys

import pytest
import torch

from gpurender.runtime import devices
from gpurender.training import engine
from gpurender.training.stopping import Interrupted

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
accelerate = pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")


CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


def test_a_training_begins_without_what_an_earlier_one_left():
    first = engine.accelerator(CPU, "no", 3)
    assert (first.mixed_precision, first.gradient_accumulation_steps, first.device.type) == ("no", 3, "cpu")
    accelerate.state.GradientState()._set_sync_gradients(False)  # as in the middle of a step
    second = engine.accelerator(CPU, "bf16", 1)
    assert (second.mixed_precision, second.gradient_accumulation_steps, second.sync_gradients) == ("bf16", 1, True)


def test_a_gpu_is_chosen_and_a_cpu_is_kept_to(monkeypatch):
    chosen, made = [], []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(accelerate, "Accelerator", lambda **given: made.append(given))
    for device in (CPU, CUDA):
        engine.accelerator(device, "bf16", 2)
    assert chosen == [CUDA]
    both = {"mixed_precision": "bf16", "gradient_accumulation_steps": 2}
    assert made == [{"cpu": True, **both}, {"cpu": False, **both}]


def test_without_accelerate_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(RuntimeError, match=r"^training needs accelerate: pip install 'gpurender\[train\]' \("):
        engine.accelerator(CPU, "no", 1)


@pytest.mark.parametrize(("there", "open_", "closed"), [(True, True, True), (True, False, False), (False, True, False)])
@pytest.mark.parametrize("end", [None, Interrupted(15, "saved"), ValueError("broken")])
def test_processes_wait_for_each_other_but_after_an_error(monkeypatch, there, open_, closed, end):
    done = []
    monkeypatch.setattr(torch.distributed, "is_available", lambda: there)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: open_)
    monkeypatch.setattr(torch.distributed, "barrier", lambda: done.append("wait"))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: done.append("close"))
    raised = None
    try:
        with engine.together():
            if end is not None:
                raise end
    except BaseException as error:
        raised = error
    assert raised is end
    assert done == (["wait", "close"] if closed and not isinstance(end, ValueError) else [])


@pytest.mark.parametrize(
    ("amp", "device", "bfloat", "found"),
    [
        (None, CPU, True, "no"), (None, CUDA, True, "bf16"), (None, CUDA, False, "fp16"), ("no", CUDA, True, "no"),
        ("fp16", CUDA, True, "fp16"), ("bf16", CPU, False, "bf16"),
    ],
)  # fmt: skip
def test_the_precision(monkeypatch, amp, device, bfloat, found):
    monkeypatch.setattr(devices, "on_gpu", lambda where: where.type == "cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bfloat)
    assert engine.precision(amp, device) == found


def test_a_wrong_precision_is_refused():
    with pytest.raises(ValueError, match=r"^amp must be 'no' or 'bf16' on a CPU, got 'fp16'$"):
        engine.precision("fp16", CPU)
    with pytest.raises(ValueError, match=r"^amp must be one of 'no', 'bf16', 'fp16', got 'half'"):
        engine.precision("half", CUDA)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough")],
)
def test_each_error_of_missing_memory_says_what_helps(error):
    with (
        pytest.raises(
            RuntimeError, match=r"^out of memory on cuda:1 with 7 images per step and process: --acc"
        ) as seen,
        engine.explained(7, CUDA),
    ):
        raise error
    assert seen.value.__cause__ is error
