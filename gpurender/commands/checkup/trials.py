"""A small case of every kernel, which a doctor runs on a device."""

import sys
from collections.abc import Callable
from typing import Any


def _philox(device: Any) -> Any:
    import torch

    from gpurender.kernels.philox import words
    from gpurender.numerics.streams import Stream

    return words(7, Stream.POINTS, torch.arange(40, device=device), blocks=2)


def _chaos_game(device: Any) -> Any:
    from gpurender.recipes import OnePFrac
    from gpurender.renderer import Renderer

    return Renderer(OnePFrac.smallest(), device)(0)


def _visual_atom(device: Any) -> Any:
    from gpurender.recipes import VisualAtom
    from gpurender.renderer import Renderer

    return Renderer(VisualAtom.smallest(), device)(0)


def _point_cloud(device: Any) -> Any:
    from gpurender.recipes import ExFractalDB
    from gpurender.renderer import Renderer

    return Renderer(ExFractalDB.smallest(), device)(0)


def _diamond_square(device: Any) -> Any:
    import torch

    from gpurender.kernels.diamond_square import textures

    law = torch.tensor([[0.5, 200.0, 30.0, 60.0, 120.0, 100.0, 120.0]], dtype=torch.float32, device=device)
    return textures(law, torch.zeros(1, dtype=torch.int64, device=device), seed=1, size=33, hue_unit=1 / 30)


def _collage(device: Any) -> Any:
    from gpurender.recipes import ColorFractal
    from gpurender.renderer import Renderer

    return Renderer(ColorFractal.smallest(), device)([0, 1])


def _pixel_noise(device: Any) -> Any:
    from gpurender.recipes import Noise
    from gpurender.renderer import Renderer

    return Renderer(Noise.smallest(), device)(0)


def _warp(device: Any) -> Any:
    from gpurender.recipes import SingleImage
    from gpurender.renderer import Renderer

    return Renderer(SingleImage.smallest(), device)([0, 1])


def _shuffle(device: Any) -> Any:
    import torch

    from gpurender.kernels.shuffle import addresses

    cursor = torch.tensor([3, 5], device=device)
    return torch.stack(addresses(cursor, 20, length=99, seed=1, instances=4, shuffle=True))


def _augment_params(device: Any) -> Any:
    import torch

    from gpurender.augment import DeiT

    policy = DeiT(interpolation="random", re_prob=0.5, re_count=(1, 2), mixup_mode="elem", force_color_jitter=True)
    drawn = policy.draw(torch.arange(32, device=device), seed=5, canvas_size=64, image_size=48)
    return torch.cat([_bits(drawn[name]) for name in sorted(drawn)])


def _bits(values: Any) -> Any:
    """Return a tensor's values as int64 ``[N]``, floating ones as their bits."""
    import torch

    flat = values.reshape(-1)
    return flat.view(torch.int64) if flat.dtype == torch.float64 else flat.to(torch.int64)


def _resized_crop(device: Any) -> Any:
    import torch

    from gpurender.augment import Crop
    from gpurender.kernels.resized_crop import BitCanvases

    policy = Crop()
    numbers = torch.arange(32 * 32, device=device)
    which = torch.zeros(1, dtype=torch.int64, device=device)
    bits = BitCanvases(numbers[:32].to(torch.int32).view(1, 32, 1) * 54321, which, which.to(torch.uint8))
    drawn = policy.draw(which, canvas_size=32)
    canvases: Any = (numbers.to(torch.uint8).view(1, 1, 32, 32), bits)  # each has its own kernel on a GPU
    return torch.cat([policy.apply(each, drawn, image_size=16) for each in canvases])


def _image_ops(device: Any) -> Any:
    import torch

    from gpurender.kernels.image_ops import Operation, apply_ops

    numbers = torch.arange(3 * 32 * 32, device=device)
    images = (numbers * 7 % 251).to(torch.uint8).view(1, 3, 32, 32).expand(len(Operation), -1, -1, -1)
    codes = torch.arange(len(Operation), dtype=torch.int32, device=device)[:, None]
    half = torch.full_like(codes, 0.5, dtype=torch.float64)
    return apply_ops(images, codes, half, torch.ones_like(codes, dtype=torch.uint8), (9, 99, 199))


def _mix_erase(device: Any) -> Any:
    import torch

    from gpurender.augment import DeiT

    policy = DeiT(auto_augment=None, color_jitter=None, re_prob=1.0)
    canvases = torch.arange(4 * 32 * 32, device=device).to(torch.uint8).view(4, 1, 32, 32)
    drawn = policy.draw(torch.arange(4, device=device), canvas_size=32, image_size=16)
    return policy.apply(canvases, drawn, image_size=16)


TRIALS: dict[str, Callable[[Any], Any]] = {
    "philox": _philox,
    "chaos_game": _chaos_game,
    "visual_atom": _visual_atom,
    "point_cloud": _point_cloud,
    "diamond_square": _diamond_square,
    "collage": _collage,
    "pixel_noise": _pixel_noise,
    "warp": _warp,
    "shuffle": _shuffle,
    "augment_params": _augment_params,
    "resized_crop": _resized_crop,
    "image_ops": _image_ops,
    "mix_erase": _mix_erase,
}


if __name__ == "__main__":  # python -m gpurender.commands.checkup.trials NAME DEVICE
    import torch

    TRIALS[sys.argv[1]](torch.device(sys.argv[2]))
