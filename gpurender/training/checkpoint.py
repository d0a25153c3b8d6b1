"""Checkpoints: a model's weights as safetensors, with what they are and what they were trained on.

The file's metadata has one entry, ``gpurender``: JSON with the kind of the training, the model (timm's name and
arguments), the data (for a pre-training the recipe, its fingerprint, the seed, the policy and the range of samples),
the settings, the steps done, and the versions of the packages. Equal trainings leave equal files.

``timm.create_model(name, num_classes=..., checkpoint_path="checkpoint.safetensors")`` reads it, as :func:`load` does.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpurender.training import models
from gpurender.util import checks
from gpurender.util.atomic_files import replacing
from gpurender.util.file_hash import sha256_of

KEY = "gpurender"
VERSION = 1


def save(path: Path, weights: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write a checkpoint; a kill or a power cut leaves the old file or the new one.

    Args:
        path: the file.
        weights: of the model, on any device.
        about: what they are, as JSON values.
    """
    from safetensors.torch import save as as_bytes

    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    text = json.dumps({"version": VERSION, **about}, sort_keys=True)
    with replacing(path, durable=True) as temporary, open(temporary, "wb") as file:
        for part in _ordered(as_bytes(tensors, {"format": "pt", KEY: text})):
            file.write(part)


def describe(path: str | os.PathLike[str], name: str = "checkpoint") -> dict[str, Any]:
    """Return what a checkpoint says of itself: ``kind``, ``model``, ``data``, ``settings``, ``step``, ``versions``.

    Args:
        path: the file.
        name: of the argument that the path was given by, for errors.

    Raises:
        ValueError: there is no such file, it is no safetensors file, or it was not written by gpurender.
    """
    return _about(checks.path(name, path), name)


def _ordered(data: bytes) -> tuple[bytes, memoryview]:
    """Return the header and the tensors of a safetensors file, with its metadata in the order of their names.

    safetensors writes them in another order each time, so equal checkpoints would have different digests. The header is
    padded to a multiple of eight bytes, as safetensors does.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(data)[8 + length :]


def origin(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return what a later training says of the checkpoint that it began with.

    Args:
        path: of the checkpoint.
        about: of :func:`describe`.
    """
    return {name: about[name] for name in ("kind", "data", "step")} | {"sha256": sha256_of(path)}


def load(path: str | os.PathLike[str], *, classes: int | None = None, image_size: int | None = None) -> nn.Module:
    """Return the timm model of a checkpoint, on the CPU, in evaluation mode.

    Args:
        path: a ``checkpoint.safetensors`` of ``pretrain`` or ``finetune``.
        classes: outputs of a new, randomly initialised head; ``None``: the checkpoint's own head.
        image_size: side of the images in pixels for a model of a fixed input size, whose position embeddings are then
            resampled; ``None``: that of the checkpoint.

    Raises:
        ValueError: the file is missing, damaged or not of gpurender, or its weights do not fit the model it names.
    """
    place = checks.path("checkpoint", path)
    about = _about(place, "checkpoint")
    return restored(place, about, classes, image_size)


def restored(
    path: Path,
    about: dict[str, Any],
    classes: int | None,
    image_size: int | None,
    drop_path: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    """Return the model of a checkpoint; see :func:`load`. ``drop_path``, ``seed``: of :func:`models.create`."""
    made = about["model"]
    side = made["image_size"] if image_size is None else image_size
    model = models.create(made["name"], made["classes"] if classes is None else classes, side, drop_path, seed)
    weights = read_weights(path)
    if side != made["image_size"]:
        weights = _resampled(weights, model)
    if classes is not None:
        weights = models.body(weights, model)
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"checkpoint {str(path)!r} does not fit the model {made['name']}: {text}") from None
    own = models.body(dict(model.state_dict()), model) if classes is not None else model.state_dict()
    if unexpected or set(missing) & set(own):
        odd = (list(unexpected) + [name for name in missing if name in own])[0]
        raise ValueError(f"checkpoint {str(path)!r} does not fit the model {made['name']}: {odd} differs")
    return model.eval()


def _resampled(weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Return weights whose position embeddings suit the model's image size, by timm's own conversion."""
    import importlib

    module = importlib.import_module(type(model).__module__)
    convert = getattr(module, "checkpoint_filter_fn", None)
    return weights if convert is None else convert(weights, model)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"checkpoint {str(path)!r} cannot be read: {error}") from None


def _about(path: Path, name: str) -> dict[str, Any]:
    models.require_timm()  # which brings safetensors
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"{name} must be a file, and there is none at {str(path)!r}")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{name} {str(path)!r} cannot be read: {error}") from None
    if text is None:
        raise ValueError(f"{name} {str(path)!r} was not written by gpurender: its metadata has no entry {KEY!r}")
    about = json.loads(text)
    if about.get("version") != VERSION:
        raise ValueError(f"{name} {str(path)!r} has version {about.get('version')!r}; this gpurender reads {VERSION}")
    return about


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a training."""
    import timm

    from gpurender.util.version import __version__

    return {"gpurender": __version__, "torch": torch.__version__, "timm": timm.__version__}
