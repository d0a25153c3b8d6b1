"""Checkpoints without a training, for the tests of what is done with one."""

from pathlib import Path
from typing import Any

from gpurender.training import checkpoint, models


def untrained(folder: Path, name: str = "test_vit", classes: int = 4, image_size: int = 32, **more: Any) -> Path:
    """Write ``checkpoint.safetensors`` with a model's first weights, of seed 7; ``more`` goes into its description."""
    about = {
        "kind": "pretrain", "model": {"name": name, "classes": classes, "image_size": image_size}, "step": 3,
        "data": {"recipe": "r"}, **more,
    }  # fmt: skip
    path = folder / "checkpoint.safetensors"
    checkpoint.save(path, models.create(name, classes, image_size, seed=7).state_dict(), about)
    return path
