"""Hugging Face Accelerate: a loop with gradient accumulation that stops within an epoch and continues.

    pip install 'gpurender[accelerate]'
    python examples/accelerate_loop.py
    accelerate launch --num-processes 2 examples/accelerate_loop.py

One line differs from the usual script: the loader. ``gr.DataLoader`` itself also works; this loader also reports to
Accelerate where an epoch ends, which gradient accumulation needs, and is part of Accelerate's checkpoints
(``gpurender.interop.accelerate``).
"""

import tempfile

import torch
from accelerate import Accelerator
from torch import nn

import gpurender as gr
from gpurender.interop.accelerate import DataLoader

RECIPE = "onepfrac-1k"


def run(folder: str, stop: int | None) -> None:
    """Train an epoch: up to batch ``stop``, or (``None``) from the place saved in ``folder``."""
    accelerator = Accelerator(gradient_accumulation_steps=3)
    # The line that changes:
    loader = DataLoader(accelerator, RECIPE, batch_size=50, shuffle=True, image_size=32, augment=gr.augment.Crop())

    model = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 1000))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if stop is None:
        accelerator.load_state(folder)

    steps = batches = 0
    for images, targets in loader:  # float32 [50, 3, 32, 32], int64 [50], on accelerator.device
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(images), targets)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        batches += 1
        steps += accelerator.sync_gradients
        if batches == stop:
            accelerator.save_state(folder)
            break
    accelerator.print(f"{batches} batches, {steps} optimizer steps, loss {loss.item():.4f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(folder, stop=7)
        run(folder, stop=None)


if __name__ == "__main__":
    main()
