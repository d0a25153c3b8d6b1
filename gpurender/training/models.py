"""timm's models by name: made, checked, and without their heads."""

import contextlib
from typing import Any

import torch
from torch import nn

from gpurender.util import checks


def require_timm() -> Any:
    """Return timm.

    Raises:
        RuntimeError: timm cannot be imported.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision is built for another torch
        raise RuntimeError(
            f"training needs timm, with torch and torchvision from one index: pip install 'gpurender[train]' ({error})"
        ) from None
    return timm


def check_model(name: Any) -> str:
    """Return the name of one of timm's models.

    Raises:
        ValueError: timm has no such model; the error suggests one.
    """
    timm = require_timm()
    if not isinstance(name, str):
        raise TypeError(f"model must be the name of one of timm's models, got {checks.shown(name)}")
    if not timm.is_model(name):
        raise ValueError(
            f"model must be one of timm.list_models(), got {checks.shown(name)}"
            f"{checks.did_you_mean(name, timm.list_models())}"
        )
    return name


def create(name: str, classes: int, image_size: int, drop_path: float = 0.0, seed: int = 0) -> nn.Module:
    """Return a timm model with random weights that only the seed decides; torch's generators are as before.

    Args:
        name: timm's name.
        classes: number of outputs.
        image_size: side of the images in pixels; a model of a fixed input size (a ViT) is made for it.
        drop_path: stochastic depth; without effect for a model that has none.
        seed: of the weights.

    Raises:
        ValueError: timm has no such model, or cannot make it for this image size.
    """
    timm = require_timm()
    config = timm.get_pretrained_cfg(check_model(name))
    given: dict[str, Any] = {"num_classes": classes}
    if config is not None and config.fixed_input_size:
        given["img_size"] = image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = _made(name, given, drop_path)
            with torch.inference_mode():  # an image too small, or of a side that no patches fill
                model.eval()(next(model.parameters()).new_zeros(1, 3, image_size, image_size))
        except (AssertionError, RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise ValueError(f"image_size must suit the model {name}, got {image_size}: {text}") from None
    return model.train()


def _made(name: str, given: dict[str, Any], drop_path: float) -> nn.Module:
    timm = require_timm()
    if drop_path:
        with contextlib.suppress(TypeError):  # a model without stochastic depth
            return timm.create_model(name, drop_path_rate=drop_path, **given)
    return timm.create_model(name, **given)


def arranged(model: nn.Module) -> nn.Module:
    """Put the weights of a model into the memory format in which most models of its kind train faster; return it.

    That is channels_last for a model with a convolution whose windows overlap. The activations follow the weights, so
    the images may come in any format. Models whose only convolutions cut an image into patches stay as they are. Images
    per second before and after, best of four, one core, 64 pixels, bfloat16: resnet10t 199, 237; levit_128s 371, 384;
    efficientnet_b0 57, 55 (in float32 73, 103); of those that stay, swin_tiny 34, 33; vit_tiny 135, 131.
    """
    if _overlaps(model):
        for weight in model.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return model


def _overlaps(model: nn.Module) -> bool:
    """Return whether the window of some 2-D convolution is larger than its step."""
    found = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(size > step for one in found for size, step in zip(one.kernel_size, one.stride, strict=True))


def body(weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights without those of the classifier, by the names that timm gives it."""
    heads = model.default_cfg.get("classifier") or ()  # type: ignore[operator, union-attr]
    names = (heads,) if isinstance(heads, str) else tuple(heads)
    return {name: value for name, value in weights.items() if not any(name.startswith(f"{head}.") for head in names)}
