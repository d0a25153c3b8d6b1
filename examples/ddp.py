"""A plain torch loop that runs alone and under torchrun: gloo on CPUs, nccl on GPUs.

    python examples/ddp.py
    torchrun --nproc-per-node 8 examples/ddp.py
    torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 examples/ddp.py

(the last command on each of the nodes). One line differs from the usual script: the loader. It needs no
DistributedSampler: ranks render disjoint samples of one order, and in a step all ranks together see what one process
with the big batch would. With --checkpoint FILE a run continues from the place saved in that file, also on another
number of ranks, with no sample repeated or lost within the epoch:

    torchrun --nproc-per-node 2 examples/ddp.py --checkpoint ddp.pt --steps 13
    torchrun --nproc-per-node 3 examples/ddp.py --checkpoint ddp.pt
"""

import argparse
import math
import os

import torch
import torch.distributed as dist
from torch import nn

import gpurender as gr
from gpurender.util.atomic_files import replacing

RECIPE = "onepfrac-1k"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="length of the training")
    parser.add_argument("--steps", type=int, default=math.inf, help="stop after so many")
    parser.add_argument("--checkpoint", help="file to go on from, if it is there, and to write")
    args = parser.parse_args()

    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    # The line that changes:
    loader = gr.DataLoader(RECIPE, batch_size=50, shuffle=True, image_size=32, augment=gr.augment.Crop())

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 1000)).to(device)
    network = nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    parts = {"model": model, "optimizer": optimizer, "loader": loader}
    if args.checkpoint and os.path.exists(args.checkpoint):
        saved = torch.load(args.checkpoint, map_location=device)
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    steps = 0
    while (epoch := loader.state_dict()["epoch"]) < args.epochs and steps < args.steps:
        for images, targets in loader:  # float32 [50, 3, 32, 32], int64 [50]; after a checkpoint the rest of the epoch
            loss = nn.functional.cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps == args.steps:
                break
        if rank == 0:
            print(f"epoch {epoch}  step {steps}  loss {loss.item():.4f}  on {ranks} {device.type} rank(s)")

    if args.checkpoint and rank == 0:
        # A kill leaves the old file or the new one. torch takes an open file, but no name that begins with a dot.
        with replacing(args.checkpoint) as temporary, open(temporary, "wb") as file:
            torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
