"""DeiT's draws on a device: what the reference in torch computes on the CPU, bit for bit."""

import contextlib
import dataclasses
from unittest import mock

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gpurender as gr
from gpurender.augment.rand_augment import parsed
from gpurender.kernels.augment_params import ErasingParams, MixParams, draw_erasing, draw_layers, draw_mixing
from gpurender.kernels.image_ops import Operation, cpu_matrices
from tests.support.triton_paths import few_programs, gpu_path

SEEDS = (0, 2**64 - 1)


def numbers_of(n):
    """Draw numbers of all sizes, int64."""
    drawn = np.random.default_rng(1).integers(-(2**63), 2**63, n)
    return torch.from_numpy(np.concatenate([drawn[: n // 2], np.arange(n - n // 2)]))


@contextlib.contextmanager
def wide(device):
    """A GPU's path, in few programs where they are interpreted."""
    from gpurender.kernels.augment_params import gpu_crop, gpu_erasing, gpu_layers, gpu_mixup

    with contextlib.ExitStack() as stack:
        stack.enter_context(gpu_path(device))
        for module in (gpu_crop, gpu_erasing, gpu_layers, gpu_mixup):
            stack.enter_context(few_programs(module, device, 128))
        yield


def agree(found, wanted, device):
    """Whether tensors on the device are those of the CPU, bit for bit."""
    for a, b in zip(found, wanted, strict=True):
        assert (a.device, a.dtype, a.shape) == (device, b.dtype, b.shape)
        assert a.is_contiguous()
        assert torch.equal(a.cpu(), b), (a.cpu() != b).nonzero()[:5]


def layers(device):
    """RandAugment, AutoAugment and 3-Augment strings."""
    numbers = numbers_of(200)
    strings = (
        "rand-m9-mstd0.5-inc1", "rand-m15-n3-mmax20-mstd3-p0.8", "rand-mstd101-n1", "rand-n4-tweights-mstd1",
        "rand-m6-w0-p1.0", "rand-t3aw-n14", "original-mstd0.5", "v0r", "3a-mstd1",
    )  # fmt: skip
    for i, string in enumerate(strings):
        params = dataclasses.replace(parsed(string), interpolation=(None, 1, 2)[i % 3])
        for seed in SEEDS:
            wanted = draw_layers(numbers, seed, params)
            with wide(device):
                agree(draw_layers(numbers.to(device), seed, params), wanted, device)
                assert draw_layers(numbers[:0].to(device), seed, params)[0].shape[0] == 0


def erased_boxes(device):
    """One box, several, large ones, none; sizes of images."""
    numbers = numbers_of(150)
    everything = [
        ErasingParams(0.25, (1, 1), (0.02, 1 / 3), (0.3, 1 / 0.3)),
        ErasingParams(0.9, (1, 5), (0.02, 1 / 3), (0.3, 1 / 0.3)),
        ErasingParams(1.0, (2, 2), (0.5, 1.0), (0.05, 9.0)),
    ]
    for params in everything:
        for size, seed in zip((224, 7, 1), (*SEEDS, 3), strict=True):
            wanted = draw_erasing(numbers, seed, size, params)
            with wide(device):
                agree(draw_erasing(numbers.to(device), seed, size, params), wanted, device)


def mixing(device):
    """Every mode, with and without each of the two, corrected or not, patches by weight or by range."""
    everything = [
        MixParams(0.8, 1.0, None, 1.0, 0.5, "batch", True),
        MixParams(0.2, 0.0, None, 0.7, 0.5, "pair", True),
        MixParams(0.0, 2.0, None, 0.9, 0.5, "elem", False),
        MixParams(0.4, 0.0, (0.1, 0.9), 1.0, 0.6, "elem", True),
        MixParams(1.0, 0.5, None, 1.0, 0.6, "elem", True),
        MixParams(1.0, 0.5, None, 1.0, 0.6, "pair", False),
        MixParams(0.0, 1.0, (0.2, 0.6), 0.5, 0.6, "batch", True),
        MixParams(0.0, 1.0, (0.2, 0.6), 1.0, 0.5, "elem", False),  # a range of sides is always corrected
    ]
    for params in everything:
        for n, size in ((200, 224), (7, 30), (1, 2)):
            if params.cutmix_minmax and size < 30:
                continue
            for seed in SEEDS:
                numbers = numbers_of(n)
                wanted = draw_mixing(numbers, seed, size, params)
                with wide(device):
                    agree(draw_mixing(numbers.to(device), seed, size, params), wanted, device)


def affine_coefficients(device):
    """Of every operation; angles of all sizes."""
    from gpurender.kernels.image_ops import gpu_matrices

    rng = np.random.default_rng(2)
    degrees = [
        *rng.uniform(-30, 30, 500),
        *rng.uniform(-1e6, 1e6, 200),
        *range(-720, 721, 15),
        1e-9,
        -1e-20,
        360 - 1e-13,
    ]
    angles = torch.tensor(degrees, dtype=torch.float64)[:, None]
    others = torch.from_numpy(rng.uniform(-1, 1, (len(Operation) * 5, 3)))
    codes = torch.arange(len(others) * 3, dtype=torch.int32).view(-1, 3) % len(Operation)
    for operations, arguments in (
        (torch.full_like(angles, Operation.ROTATE, dtype=torch.int32), angles),
        (codes, others),
    ):
        for height, width in ((224, 224), (37, 51)):
            wanted = cpu_matrices.coefficients(operations, arguments, height, width)
            with wide(device):
                found = gpu_matrices.coefficients(operations.to(device), arguments.to(device), height, width)
            agree([found], [wanted], device)


def whole_policies(device):
    """Everything together, through ``DeiT.draw``."""
    numbers = torch.arange(90, 150)
    policies = (
        gr.augment.DeiT.onepfrac(),
        gr.augment.DeiT.visualatom(
            force_color_jitter=True, grayscale_prob=0.3, gaussian_blur_prob=0.4, re_count=(2, 3)
        ),
        gr.augment.DeiT(
            auto_augment="3a", color_jitter=(0.3, 0.0, 0.2, 0.1), mixup_mode="pair", interpolation="random"
        ),
        gr.augment.TwoViews(gr.augment.DeiT.resnet(auto_augment="v0")),
    )
    for policy in policies:
        wanted = policy.draw(numbers, seed=5, canvas_size=200, image_size=50)
        with wide(device):
            found = policy.draw(numbers.to(device), seed=5, canvas_size=200, image_size=50)
            assert list(found) == list(wanted)
            agree(found.values(), wanted.values(), device)


WAITS = ("_local_scalar_dense", "nonzero", "lift_fresh", "masked_select", "unique", "is_nonzero", "equal.")


class Refusing(TorchDispatchMode):
    """Refuses what waits for a GPU: values read back, tensors made of Python's numbers, masks as indices."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        assert not any(name in str(function) for name in WAITS), function
        indices = arguments[1] if str(function).startswith("aten.index.") else ()
        assert not any(x is not None and x.dtype == torch.bool for x in indices), "a mask as an index"
        return function(*arguments, **keywords or {})


def nothing_waits(device):
    """Of the whole of a batch, at its second time: tables have been made. A captured graph could not wait.

    The crop is CUDA C: without a GPU it is prepared, but not launched.
    """
    from gpurender.kernels.resized_crop import gpu as crops

    prepared = mock.patch.multiple(crops, kernel_for=lambda *_: None, launch=lambda *_, **__: None)
    crop = prepared if device.type == "cpu" else contextlib.nullcontext()
    numbers, labels = torch.arange(4, device=device), torch.tensor([0, 1, 2, 0], device=device)
    canvases = torch.zeros((4, 1, 20, 20), dtype=torch.uint8, device=device)
    policies = (
        gr.augment.DeiT.visualatom(
            force_color_jitter=True, color_jitter=(0.1, 0.0, 0.1, 0.1), grayscale_prob=0.5, gaussian_blur_prob=0.5,
            re_count=2, cutmix_minmax=(0.2, 0.8),
        ),
        gr.augment.DeiT(auto_augment="rand-tweights-mstd1", mixup_mode="pair", re_mode="rand", interpolation="random"),
        gr.augment.DeiT(mixup_mode="elem", label_smoothing=0.0),
        gr.augment.TwoViews(gr.augment.DeiT.resnet(auto_augment="3a")),
    )  # fmt: skip
    for policy in policies:
        for mode in (contextlib.nullcontext(), Refusing()):
            with wide(device), crop, mode:
                drawn = policy.draw(numbers, seed=1, canvas_size=20, image_size=9)
                policy.apply(canvases, drawn, image_size=9)
                policy.targets(labels, drawn, 3)


CHECKS = (nothing_waits, layers, erased_boxes, mixing, affine_coefficients, whole_policies)
