"""torchdata: the loader as the source of a pipeline of nodes, saved within an epoch and continued.

    pip install 'gpurender[torchdata]'
    python examples/torchdata_stateful.py

One line differs from the usual script: the source. The loader follows torchdata's protocol, so the state of the
pipeline contains the loader's place, that after the last batch handed out, however many are prefetched. Without nodes
the loader itself takes the role of a StatefulDataLoader.
"""

import json

import torch
from torchdata.nodes import IterableWrapper, Loader, Mapper, Prefetcher

import gpurender as gr

RECIPE = "onepfrac-1k"


def halved(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = batch
    return images.half(), targets


def pipeline() -> Loader:
    # The line that changes:
    source = gr.DataLoader(RECIPE, batch_size=50, shuffle=True, image_size=32, augment=gr.augment.Crop())

    return Loader(Prefetcher(Mapper(IterableWrapper(source), halved), prefetch_factor=2))


def main() -> None:
    whole = list(pipeline())

    first = pipeline()
    batches = iter(first)
    begun = [next(batches) for _ in range(7)]
    text = json.dumps(first.state_dict())

    second = pipeline()
    second.load_state_dict(json.loads(text))
    rest = list(second)

    equal = all(map(torch.equal, (x for x, _ in whole), (x for x, _ in begun + rest)))
    print(f"{len(begun)} + {len(rest)} batches across {len(text)} bytes of state; as in one go: {equal}")


if __name__ == "__main__":
    main()
