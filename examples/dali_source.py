"""Train through an NVIDIA DALI pipeline whose images are rendered, not read.

An ordinary DALI script in which one line differs: a recipe replaces the reader and its decoder. DALI processes the
canvases as before. The script runs on a CPU, or on a GPU, where the canvases are handed over without a copy:

    pip install '.[dali-cuda13]'
    python examples/dali_source.py
    python examples/dali_source.py --recipe onepfrac-1k --device cuda --batch-size 256
"""

import argparse

import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIClassificationIterator
from torch import nn

import gpurender as gr
from gpurender.interop import dali

SMALL = gr.OnePFrac(classes=10, instances=40, image_size=64, points=2_000, fill_rate=0.0)


@pipeline_def(num_threads=2, seed=0)
def pipeline(source: dali.Source, size: int):
    images, labels = fn.external_source(**source.keywords)  # was fn.readers.file and fn.decoders.image
    images = fn.color_space_conversion(images, image_type=types.GRAY, output_type=types.RGB)
    images = fn.random_resized_crop(images, size=size, random_area=(0.2, 1.0))
    images = fn.crop_mirror_normalize(images, mean=[127.5] * 3, std=[127.5] * 3, mirror=fn.random.coin_flip())
    return images, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=gr.recipe, default=SMALL, help="a grey recipe: a preset's name or a JSON file")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()

    source = dali.Source(
        arguments.recipe, arguments.batch_size, device=arguments.device, shuffle=True, drop_last=True, fresh=True
    )
    device = torch.device(arguments.device)
    device_id = None if device.type == "cpu" else device.index or 0
    loader = DALIClassificationIterator(
        pipeline(source, arguments.image_size, batch_size=arguments.batch_size, device_id=device_id), auto_reset=True
    )

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(256, arguments.recipe.classes),
    ).to(device)  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    for epoch in range(arguments.epochs):
        for data in loader:
            images, targets = data[0]["data"], data[0]["label"].squeeze(-1).long()
            loss = nn.functional.cross_entropy(model(images), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch}  {len(source)} batches  {images.dtype} {list(images.shape)}  loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
