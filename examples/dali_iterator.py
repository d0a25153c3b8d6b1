"""A training loop written for DALI's ``DALIClassificationIterator``, without DALI.

One line differs, the one that makes the iterator: a recipe's loader renders and augments the images, and the batches
have DALI's structure. NVIDIA DALI need not be installed.

    python examples/dali_iterator.py
"""

import argparse
import math

import torch
from torch import nn

import gpurender as gr
from gpurender.interop import dali

SMALL = gr.OnePFrac(classes=10, instances=40, image_size=64, points=2_000, fill_rate=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=gr.recipe, default=SMALL, help="a preset's name or a recipe's JSON file")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()

    loader = gr.DataLoader(
        arguments.recipe, arguments.batch_size, image_size=arguments.image_size, augment=gr.augment.Crop(),
        shuffle=True, drop_last=True, fresh=True, device=arguments.device,
    )  # fmt: skip
    train_loader = dali.Iterator(loader)  # was DALIClassificationIterator(pipeline, reader_name="Reader")

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(256, arguments.recipe.classes),
    ).to(arguments.device)  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    for epoch in range(arguments.epochs):
        for data in train_loader:
            images, targets = data[0]["data"], data[0]["label"].squeeze(-1).long()
            loss = nn.functional.cross_entropy(model(images), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        train_loader.reset()
        batches = math.ceil(train_loader.size / arguments.batch_size)
        print(f"epoch {epoch}  {batches} batches  {images.dtype} {list(images.shape)}  loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
