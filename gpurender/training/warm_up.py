"""A warm-up in a box: minutes of formula-driven images before a model's real training."""

import contextlib
import math
import time
from typing import Any

import torch
from torch import nn

from gpurender.augment.adapter import PolicyLike
from gpurender.loading.data_loader import DataLoader
from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.training import models, policies
from gpurender.training.loss import loss_of
from gpurender.util import checks, keywords
from gpurender.util.progress import progress

__all__ = ["warm_up"]

RAMP = 0.1  # part of the time in which the rate rises


@keywords.checked
def warm_up(
    model: nn.Module,
    recipe: RecipeLike = "onepfrac-1k",
    minutes: float = 10.0,
    *,
    augment: PolicyLike | str = "deit",
    image_size: int = 224,
    batch_size: int = 256,
    lr: float = 5e-4,
    weight_decay: float = 0.05,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> nn.Module:
    """Train a model on rendered images for some minutes, and return it with its own head untouched.

    The model's last linear layer is replaced by one for the recipe's classes while the training lasts. Everything
    before it is trained in place: AdamW, a rate that rises for a tenth of the time and falls as half a cosine, in
    bfloat16 on a GPU. torch's generators, and the mode, the gradients' flags and the memory format of the model are as
    before.

    >>> model = gr.warm_up(timm.create_model("vit_tiny_patch16_224"), minutes=10)

    Args:
        model: a model of timm, torchvision or your own, from images float32 ``[B, 3, H, W]``, whose last linear layer
            is its head.
        recipe: any argument of ``gr.recipe``.
        minutes: length of the training; at least one step is taken.
        augment: a policy of one view, or its name.
        image_size: side of the images in pixels.
        batch_size: images per step, at most those of the recipe.
        lr, weight_decay: of AdamW.
        device: where to train; ``None``: where the model is. The model comes back to where it was.
        seed: of the replaced head, order, augmentation and the model's randomness.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; or the model has no linear layer.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {checks.shown(model)}")
    chosen = as_recipe(recipe)
    seconds = 60.0 * checks.real("minutes", minutes, 0.0, 1e6)
    checks.real("lr", lr, 0.0, 1e6)
    checks.real("weight_decay", weight_decay, 0.0, 1e6)
    checks.integer("seed", seed, 0, checks.UINT64_MAX)
    name = _head(model)
    home = next(model.parameters()).device
    target = home if device is None else torch.device(device)
    loader = DataLoader(
        chosen, batch_size=min(checks.integer("batch_size", batch_size, 1, 2**31 - 1), len(chosen)), shuffle=True,
        drop_last=True, image_size=image_size, augment=policies.one_view(augment), device=target, seed=seed,
    )  # fmt: skip
    with _as_before(model, target), _replaced(model, name, chosen.classes, seed):
        models.arranged(model.to(target)).train()
        _train(model, loader, loss_of(chosen), seconds, lr, weight_decay, target, seed)
    return model.to(home)


def _train(
    model: nn.Module, loader: Any, criterion: nn.Module, seconds: float, lr: float, weight_decay: float,
    device: torch.device, seed: int,
) -> None:  # fmt: skip
    flags = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(flags, lr=lr, weight_decay=weight_decay)
    torch.manual_seed(seed)
    begin, passed, step = time.monotonic(), 0.0, 0
    with progress(total=math.ceil(seconds), desc="warm-up", unit="s") as bar:
        while step == 0 or passed < seconds:
            for images, targets in loader:
                part = min(1.0, passed / seconds) if seconds else 0.0
                rate = min((part + 1e-3) / RAMP, 0.5 * (1.0 + math.cos(math.pi * max(0.0, part - RAMP) / (1.0 - RAMP))))
                for group in optimizer.param_groups:
                    group["lr"] = lr * rate
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = criterion(model(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step, passed = step + 1, time.monotonic() - begin
                bar.update(min(math.ceil(seconds), int(passed)) - bar.n)
                if passed >= seconds:
                    break
    optimizer.zero_grad()


def _head(model: nn.Module) -> str:
    """Return the name of the model's head: timm's classifier, else the last linear layer."""
    named = (getattr(model, "default_cfg", None) or {}).get("classifier")
    modules = dict(model.named_modules())
    if isinstance(named, str) and isinstance(modules.get(named), nn.Linear):
        return named
    layers = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(f"model must have a linear layer as its head, and {type(model).__name__} has none")
    return layers[-1]


@contextlib.contextmanager
def _replaced(model: nn.Module, name: str, classes: int, seed: int) -> Any:
    """Put a new head for so many classes into the model while the block lasts."""
    parent_name, _, last = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    own = getattr(parent, last)
    torch.manual_seed(seed)
    place = {"dtype": own.weight.dtype, "device": own.weight.device}
    setattr(parent, last, nn.Linear(own.in_features, classes, bias=own.bias is not None, **place))
    try:
        yield
    finally:
        setattr(parent, last, own)


@contextlib.contextmanager
def _as_before(model: nn.Module, device: torch.device) -> Any:
    """Restore torch's generators, the modes of the model's parts and the layout of its weights after the block."""
    modes = {module: module.training for module in model.modules()}
    strides = {weight: weight.stride() for weight in model.parameters()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            for weight, stride in strides.items():
                if weight.stride() != stride:
                    weight.data = torch.empty_strided(
                        weight.shape, stride, dtype=weight.dtype, device=weight.device
                    ).copy_(weight.data)
