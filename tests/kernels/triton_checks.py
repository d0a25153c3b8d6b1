"""What the Triton kernels must compute, checked on a device: a GPU, or a CPU whose process interprets them.

A process that was started with ``TRITON_INTERPRET=1`` interprets Triton; launchers then take the GPU's path on the CPU.
"""

import traceback

import numpy as np
import torch

import gpurender as gr
from gpurender.kernels.chaos_game import Instances, parts_of
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.resized_crop import crop_resize
from gpurender.kernels.shuffle import addresses, params, permute
from gpurender.kernels.visual_atom import draw_centres
from gpurender.numerics.portable_math import exp
from gpurender.numerics.streams import Stream
from tests.kernels import triton_augment_params, triton_image_ops, triton_mix_erase
from tests.support.triton_paths import CPU, few_programs, gpu_path, refused
from tests.support.triton_races import watched

# Random123's kat_vectors of philox4x32 10: counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def raw_philox(counters, key, device):
    """The device function alone: counters uint32 [n, 4] to words uint32 [n, 4]."""
    from tests.kernels.triton_raw import philox_of

    given = torch.from_numpy(counters.astype(np.int64)).to(device)
    out = torch.empty_like(given)
    philox_of[(1,)](given, out, len(given), key[0], key[1], 64)
    return out.cpu().numpy().astype(np.uint32)


def philox(device):
    """Random123's known answers, and random counters and keys against the Numba implementation."""
    from gpurender.kernels.philox import philox as reference

    for counter, key, answer in KNOWN:
        found = raw_philox(np.array([counter] * 3, np.uint32), key, device)
        assert (found == np.array(answer, np.uint32)).all()
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 2**32, (50, 4), dtype=np.uint32)
    assert (raw_philox(counters, (0x80000001, 5), device) == reference(counters, (0x80000001, 5))).all()


def words_of_tensors(device):
    """Words, uniforms and bounded integers of device tensors are those of NumPy arrays."""
    numbers = np.concatenate([np.arange(300), np.random.default_rng(1).integers(0, 2**63 - 1, 300), [2**63 - 1]])
    for seed, blocks in [(0, 1), (1, 3), (2**31, 11), (2**32 - 1, 2), (2**63 + 12345, 1), (2**64 - 1, 2)]:
        expected = words(seed, Stream.CROP, numbers.astype(np.uint64), blocks)
        with gpu_path(device):
            found = words(seed, Stream.CROP, torch.from_numpy(numbers).to(device), blocks)
        assert (found.dtype, found.device) == (torch.int64, device)
        assert (found.cpu().numpy() == expected).all()
        assert (uniform(found).cpu().numpy() == uniform(expected)).all()
        for n in (1, 7, 2**31):
            assert (bounded(found, n).cpu().numpy() == bounded(expected, n)).all()
    with gpu_path(device):
        assert words(1, 2, torch.empty(0, dtype=torch.int64, device=device), 3).shape == (0, 12)


def placed(device, epoch, position, count, **keywords):
    """Addresses from the device, as arrays."""
    from gpurender.kernels.shuffle import gpu

    with gpu_path(device), few_programs(gpu, device):
        cursor = torch.tensor([epoch, position], device=device)
        found = addresses(cursor, count, **keywords)
    assert all((x.dtype, x.device, x.is_contiguous()) == (torch.int64, device, True) for x in found)
    return [x.cpu().numpy() for x in found]


def orders(device):
    """Addresses against ``permute``: tiny, ordinary and the longest epochs; seeds and epochs of all sizes."""
    cases = [(length, seed, epoch) for length in range(1, 7) for seed, epoch in [(0, 0), (2**64 - 1, 3)]]
    cases += [(17, 5, 2**35), (1000, 2**33 + 1, 9), (21_000_000, 42, 7), (2**32, 2**31, 1), (2**40 + 1, 2**63, 2**20)]
    cases += [(params.MAX_LENGTH, 1, 1), (params.MAX_LENGTH - 1, 2**63 + 1, 0)]
    for length, seed, epoch in cases:
        for position in {length // 2, length - 1} if length > 10**6 else {length - 1}:
            count, instances = 70, max(length // 7, 1)
            expected = (position + np.arange(count)) % length
            keywords = {"length": length, "seed": seed, "instances": instances}
            for shuffle in (True, False):
                samples, numbers, labels = placed(device, epoch, position, count, shuffle=shuffle, **keywords)
                drawn = permute(expected, length, seed, epoch) if shuffle else expected
                assert (samples == drawn).all(), (length, seed, epoch)
                assert (numbers == drawn + epoch * length).all()
                assert (labels == drawn // instances).all()


def repeated_orders(device):
    """Some positions in a row have one sample: those of the epoch without repeats, each as often."""
    for length, repeats in [(10, 3), (1000, 2), (1000, 1000), (21_000_000, 3)]:
        keywords = {"length": length, "seed": 3, "instances": 10, "shuffle": True}
        positions = (length - 7 + np.arange(30)) % length
        drawn = permute(positions // repeats, length, 3, 2)
        found = placed(device, 2, length - 7, 30, repeats=repeats, **keywords)
        slow = addresses(torch.tensor([2, length - 7]), 30, repeats=repeats, **keywords)
        for samples, numbers, labels in (found, [x.numpy() for x in slow]):
            assert (samples == drawn).all()
            assert (numbers == drawn + 2 * length).all()
            assert (labels == drawn // 10).all()
    with refused(ValueError, "repeats"):
        placed(device, 0, 0, 1, length=10, seed=0, instances=1, shuffle=False, repeats=0)


def order_references(device):
    """The CPU's launcher returns the same; an empty batch is empty; a cursor from elsewhere ends, too."""
    keywords = {"length": 1000, "seed": 3, "instances": 10, "shuffle": True}
    slow = addresses(torch.tensor([4, 990]), 40, **keywords)
    with gpu_path(device):  # in more than one program
        fast = addresses(torch.tensor([4, 990], device=device), 40, **keywords)
    for a, b in zip(slow, fast, strict=True):
        assert torch.equal(a, b.cpu())
    assert all(len(x) == 0 for x in placed(device, 0, 0, 0, **keywords))
    for cursor in [(-5, -5), (0, 2**63 - 1), (2**63 - 1, 1000), (-(2**63), -(2**63))]:
        samples, _, labels = placed(device, *cursor, 40, **keywords)
        assert samples.min() >= 0
        assert samples.max() < 1000
        assert (labels == samples // 10).all()


POLICIES = [
    gr.augment.Crop(),
    gr.augment.Crop(interpolation="random", vflip=0.3, hflip=0.25),
    gr.augment.Crop(scale=(0.6, 1.0), ratio=(1.0, 3.0), interpolation="bilinear"),  # one attempt in two does not fit
    gr.augment.Crop(scale=(0.9, 1.0), ratio=(0.4, 0.5), interpolation="nearest", hflip=1.0),  # none fits
    gr.augment.Crop(scale=(1e-5, 1.0), ratio=(1 / 8192, 8192.0)),
    gr.augment.Crop(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0),
    gr.augment.Resize(interpolation="bilinear"),
]


def same_parameters(device, policy, numbers, seed, side):
    """Parameters drawn on the device against those drawn with NumPy."""
    expected = policy.draw(numbers, seed=seed, canvas_size=side)
    with gpu_path(device):
        found = policy.draw(torch.from_numpy(numbers.astype(np.int64)).to(device), seed=seed, canvas_size=side)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value.device == device
        assert value.dtype == expected[key].dtype
        assert torch.equal(value.cpu(), expected[key]), (policy, seed, side, key)


def crops(device):
    """Thousands of crops, flips and interpolations, bit for bit, for ordinary and for odd settings."""
    from gpurender.kernels.augment_params import gpu_crop

    numbers = np.concatenate([np.arange(2000), np.random.default_rng(5).integers(0, 2**63, 2000)])
    with few_programs(gpu_crop, device):
        for policy in POLICIES:
            for seed, side in [(0, 512), (2**64 - 1, 33), (2**31, 1), (1, 65535)]:
                same_parameters(device, policy, numbers, seed, side)
    for policy in POLICIES:
        same_parameters(device, policy, numbers[:11], 9, 224)
        same_parameters(device, policy, numbers[:0], 9, 224)


def rounding_of_odd_settings(device):
    """Ranges at random: products and quotients that a fused multiply-add or another order would round otherwise."""
    from gpurender.kernels.augment_params import gpu_crop

    rng = np.random.default_rng(11)
    with few_programs(gpu_crop, device):
        for _ in range(12):
            policy = gr.augment.Crop(
                scale=tuple(sorted(rng.random(2))), ratio=tuple(sorted(np.exp(rng.normal(0, 1, 2))))
            )
            same_parameters(
                device, policy, rng.integers(0, 2**63, 3000), int(rng.integers(2**63)), int(rng.integers(2, 4096))
            )


def exp_bits(device):
    """The exponential, of which boxes show only what survives rounding to pixels."""
    from tests.kernels.triton_raw import exp_of

    x = np.concatenate([np.random.default_rng(8).uniform(-9.1, 9.1, 4000), np.linspace(-20, 20, 81) * np.log(2) / 2])
    given = torch.from_numpy(x).to(device)
    out = torch.empty_like(given)
    exp_of[(1,)](given, out, len(x), 8192, num_warps=4, enable_fp_fusion=False)
    assert (out.cpu().numpy() == exp(x)).all()


def flips_at_the_very_chance(device):
    """A flip whose number equals its probability does not happen."""
    for number in (3, 2**40):
        u = uniform(words(5, Stream.FLIP, np.array([number], np.uint64))[0])
        policy = gr.augment.Crop(hflip=float(u[0]), vflip=float(u[1]))
        same_parameters(device, policy, np.array([number, number + 1]), 5, 100)


def refusals(device):
    """What needs no look at the device's memory is refused as on the CPU."""
    policy = gr.augment.Crop()
    with gpu_path(device):
        numbers = torch.arange(4, device=device)
        for wrong in (numbers.float(), numbers[None], numbers > 1):
            for each in (policy, gr.augment.Resize()):
                with refused(TypeError, "numbers"):
                    each.draw(wrong)
        drawn = policy.draw(numbers, canvas_size=20)
        images = torch.zeros(4, 1, 20, 20, dtype=torch.uint8, device=device)
        with refused(TypeError, "canvases"):
            policy.apply(images.float(), drawn)
        with refused(ValueError, "boxes"):
            policy.apply(images[:3], drawn)
        with refused(ValueError, "flips"):
            crop_resize(images, drawn["boxes"], drawn["flips"].to("meta"), drawn["interpolations"], (8, 8))
        with refused(ValueError, "memory_format"):
            policy.apply(images, drawn, memory_format=torch.preserve_format)
        with refused(ValueError, "boxes"):
            gr.augment.resized_crop(images[:1], [[0, 0, 21, 20]], 8)
        with refused(ValueError, "canvases"):
            policy.apply(images[:, :, :0], drawn)


def instances(device):
    """What instances are made of: of one flip and of four, sharing their masks or not, of large datasets."""
    rng = np.random.default_rng(8)
    for per_class, flips, patches, weights, count in [
        (1000, 4, 10, 25, 10**6), (1, 1, 1, 1, 7), (5, 1, 5, 1, 45), (7, 3, 1, 25, 700), (999, 2, 10**6, 25, 2**50)
    ]:  # fmt: skip
        indices = torch.from_numpy(rng.integers(0, count, 300))
        draw_ids = indices + 3 * count
        table = torch.from_numpy(rng.integers(0, 8, flips).astype(np.uint8))
        for shares in (True, False):
            law = Instances(per_class, flips, patches, weights, shares)
            expected = parts_of(indices, draw_ids, table, law)
            with gpu_path(device):
                found = parts_of(indices.to(device), draw_ids.to(device), table.to(device), law)
            for a, b in zip(found, expected, strict=True):
                assert (a.device, a.dtype) == (device, b.dtype)
                assert torch.equal(a.cpu(), b), law


def centres(device):
    """Centres of atoms, both rules, bit for bit."""
    numbers = torch.from_numpy(np.concatenate([np.arange(150), np.random.default_rng(9).integers(0, 2**63, 150)]))
    for seed, size, low, high, whole in [
        (0, 512, -512, 512, True), (2**64 - 1, 33, 5, 5, True), (7, 8192, -1.0, 1.0, False), (9, 224, 0.1, 0.37, False)
    ]:  # fmt: skip
        keywords = {"seed": seed, "size": size, "low": low, "high": high, "whole": whole}
        expected = draw_centres(numbers, **keywords)
        with gpu_path(device):
            found = draw_centres(numbers.to(device), **keywords)
        assert (found.device, found.dtype) == (device, torch.float32)
        assert torch.equal(found.cpu(), expected), keywords


CHECKS = (
    instances,
    centres,
    philox,
    words_of_tensors,
    orders,
    repeated_orders,
    order_references,
    crops,
    exp_bits,
    flips_at_the_very_chance,
    rounding_of_odd_settings,
    refusals,
    *triton_augment_params.CHECKS,
    *triton_mix_erase.CHECKS,
    *triton_image_ops.OPERATION_CHECKS,
)


def outcome(check):
    """Return the traceback of a check on the CPU, whose launches have no race, empty if it passes."""
    with watched():
        return trace(check, CPU)


def trace(check, *arguments):
    """Return the traceback of a check, empty if it passes."""
    try:
        check(*arguments)
    except Exception:
        return traceback.format_exc()
    return ""
