"""Pre-train a timm model on images that are rendered while it trains.

An ordinary PyTorch training script in which one line differs: the loader. It runs on one device or on several:

    python examples/pretrain.py --recipe onepfrac-1k --model vit_tiny_patch16_224
    torchrun --nproc-per-node 8 examples/pretrain.py --recipe visualatom-21k --model deit_tiny_patch16_224

The output folder receives a contact sheet of the recipe and a checkpoint. After a kill, the same command with --resume
continues from the checkpoint as if nothing had happened: the same batches, the same losses.
"""

import argparse
import difflib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

import gpurender as gr
from gpurender.sheet import contact_sheet
from gpurender.util.atomic_files import check_writable, replacing

try:
    import timm
    import timm.optim
except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision is built for another torch
    raise SystemExit(
        f"timm cannot be imported ({error}): pip install '.[train]', with torch and torchvision from one index"
    ) from None

POLICIES: dict[str, Callable[..., gr.augment.Policy]] = {
    "crop": gr.augment.Crop,
    "deit": gr.augment.DeiT,
    "onepfrac": gr.augment.DeiT.onepfrac,
    "ofdb": gr.augment.DeiT.ofdb,
    "fractaldb": gr.augment.DeiT.fractaldb,
    "visualatom": gr.augment.DeiT.visualatom,
    "resnet": gr.augment.DeiT.resnet,
}
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """A help formatter that shows defaults and keeps the lines of the description."""


def recipe(text: str) -> gr.Recipe:
    try:
        found = gr.recipe(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if found.multi_hot:
        raise argparse.ArgumentTypeError(f"{text}: its images have several labels, and this script has one per image")
    return found


def number(kind: type, low: float, high: float = math.inf) -> Callable[[str], Any]:
    """Return an argparse type: a finite number in [low, high]."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise argparse.ArgumentTypeError(f"{text} is not within {low:g} and {high:g}")
        return value

    parse.__name__ = kind.__name__
    return parse


def model_name(text: str) -> str:
    if not timm.is_model(text):
        near = difflib.get_close_matches(text, timm.list_models(), n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise argparse.ArgumentTypeError(f"timm has no model {text!r}{meant}")
    return text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--recipe", type=recipe, default="onepfrac-1k", help="a preset's name or a recipe's JSON file")
    parser.add_argument("--model", type=model_name, default="vit_tiny_patch16_224", help="name of a timm model")
    parser.add_argument(
        "--image-size", type=number(int, 1, 4096), default=224, help="side of the images that the model sees, in pixels"
    )
    parser.add_argument("--augment", choices=POLICIES, default="deit", help="a crop, DeiT's recipe, or a paper's")
    parser.add_argument(
        "--mean",
        type=number(float, 0, 1),
        help="brightness, 0 to 1, that the model sees as zero; without it, the policy's",
    )
    parser.add_argument(
        "--std", type=number(float, 0.001, 1000), help="difference in brightness that it sees as one; likewise"
    )
    parser.add_argument("--batch-size", type=number(int, 1), default=128, help="images per step and process")
    parser.add_argument(
        "--steps", type=number(int, 1), default=100_000, help="length of the run in optimiser steps; the papers' runs "
        "are in docs/training.md",
    )  # fmt: skip
    parser.add_argument("--epochs", type=number(int, 1), help="length of the run in epochs, instead of --steps")
    parser.add_argument("--optimizer", choices=["adamw", "sgd"], default="adamw", help="update rule")
    parser.add_argument("--lr", type=number(float, 0), default=1e-3, help="learning rate after the warm-up")
    parser.add_argument(
        "--weight-decay", type=number(float, 0), default=0.05, help="weight decay of all but biases and norms"
    )
    parser.add_argument(
        "--warmup", type=number(float, 0, 1), default=0.05, help="fraction of the run in which the rate rises linearly"
    )
    parser.add_argument("--amp", choices=AMP_DTYPES, default="bf16", help="mixed precision on a GPU")
    parser.add_argument(
        "--seed", type=number(int, 0, 2**32), default=0, help="seed of the weights, the order and the augmentation"
    )
    parser.add_argument("--output", type=Path, default=Path("first_light"), help="folder of the results")
    parser.add_argument("--log-every", type=number(int, 1), default=10, help="steps from one loss line to the next")
    parser.add_argument("--save-every", type=number(int, 1), default=500, help="steps from one checkpoint to the next")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --output, if any")
    args = parser.parse_args()
    args.checkpoint = args.output / "checkpoint.pt"
    if args.checkpoint.exists() and not args.resume:
        parser.error(f"{args.checkpoint} exists: --resume continues from it, another --output starts afresh")
    return args


def policy(args: argparse.Namespace) -> gr.augment.Policy:
    """Return the augmentation, normalised as in its paper unless --mean or --std is given."""
    given = {"mean": args.mean, "std": args.std}
    return POLICIES[args.augment](**{name: (value,) * 3 for name, value in given.items() if value is not None})


def join_processes() -> torch.device:
    """Join the other processes if torchrun started this one; return the device of this process."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def create_model(name: str, classes: int, image_size: int) -> nn.Module:
    """Create a timm model with random weights; one with a fixed input size (a ViT) is created for ``image_size``."""
    config = timm.get_pretrained_cfg(name)
    size: dict[str, Any] = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    return timm.create_model(name, num_classes=classes, **size)


def cosine_with_warmup(step: int, warmup: int, total: int) -> float:
    """Return the fraction of the full learning rate: linear up to 1 in ``warmup`` steps, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def save_checkpoint(path: Path, step: int, parts: dict[str, Any], device: torch.device) -> None:
    """Write everything that decides the rest of the run. A kill or a power cut leaves the old file or the new one."""
    random = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if device.type == "cuda" else [])
    random_of_ranks = [random]
    if dist.is_initialized():
        random_of_ranks = [random] * world_size()
        dist.all_gather_object(random_of_ranks, random)
    if rank() == 0:
        states = {name: part.state_dict() for name, part in parts.items()}
        with replacing(path, durable=True) as temporary, open(temporary, "wb") as file:
            torch.save({"step": step, "random": random_of_ranks, **states}, file)


def load_checkpoint(path: Path, parts: dict[str, Any]) -> int:
    """Restore what :func:`save_checkpoint` wrote; return the number of steps done."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    if rank() < len(saved["random"]):  # a rank that the saved run did not have keeps its generators
        for restore, state in zip(
            [torch.set_rng_state, torch.cuda.set_rng_state], saved["random"][rank()], strict=False
        ):
            restore(state)
    return saved["step"]


class LossReport:
    """Mean loss and images/s since the last line, printed by rank 0 beside its progress bar."""

    def __init__(self, step: int, total: int, images_per_step: int) -> None:
        self.bar = tqdm(total=total, initial=step, unit="step", dynamic_ncols=True, disable=rank() != 0)
        self.images_per_step = images_per_step
        self.restart()

    def restart(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.start = time.perf_counter()

    def add(self, loss: torch.Tensor) -> None:
        self.losses.append(loss.detach())
        self.bar.update()

    def line(self, step: int, lr: float) -> None:
        mean = torch.stack(self.losses).mean()
        if dist.is_initialized():
            dist.all_reduce(mean)
        loss = mean.item() / world_size()  # .item() waits for the device, so the time below is that of the steps
        rate = len(self.losses) * self.images_per_step / (time.perf_counter() - self.start)
        if rank() == 0:
            self.bar.set_postfix_str(f"loss {loss:.4f}, {rate:.0f} images/s")
            self.bar.write(f"step {step:>6}  loss {loss:.4f}  lr {lr:.2e}  {rate:.0f} images/s")
        self.restart()


def train(network: nn.Module, parts: dict[str, Any], step: int, total: int, args: argparse.Namespace) -> None:
    """Take the remaining steps; write a loss line and a checkpoint at their intervals and at the end."""
    loader, optimizer, scheduler, scaler = (parts[name] for name in ["loader", "optimizer", "scheduler", "scaler"])
    device, amp = args.device, args.device.type == "cuda" and args.amp != "off"
    criterion = nn.CrossEntropyLoss()
    report = LossReport(step, total, args.batch_size * world_size())
    network.train()
    while step < total:
        for images, targets in loader:  # [B, 3, H, W], [B, classes]; after --resume first the rest of an epoch
            with torch.autocast(device.type, AMP_DTYPES[args.amp], enabled=amp):
                loss = criterion(network(images), targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            lr = scheduler.get_last_lr()[0]
            scheduler.step()
            step += 1
            report.add(loss)
            save = step % args.save_every == 0 or step == total
            if save or step % args.log_every == 0:
                report.line(step, lr)
            if save:
                save_checkpoint(args.checkpoint, step, parts, device)
            if step == total:
                break
    report.bar.close()


def main() -> None:
    args = parse_arguments()
    args.device = join_processes()
    torch.manual_seed(args.seed * world_size() + rank())  # DDP gives all ranks the weights of rank 0

    loader = gr.DataLoader(
        args.recipe,
        batch_size=args.batch_size,
        image_size=args.image_size,
        augment=policy(args),
        shuffle=True,
        drop_last=True,
        device=args.device,
        seed=args.seed,
    )
    if len(loader) == 0:
        raise SystemExit(
            f"--batch-size: {args.batch_size} x {world_size()} is more than the {len(args.recipe)} images of an epoch"
        )
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        if rank() == 0:  # only rank 0 writes it
            check_writable(args.checkpoint)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--output: {error}") from None
    total = args.epochs * len(loader) if args.epochs else args.steps
    warmup = round(args.warmup * total)

    model = create_model(args.model, args.recipe.classes, args.image_size).to(args.device)
    optimizer = timm.optim.create_optimizer_v2(model, args.optimizer, lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_with_warmup(step, warmup, total))
    scaler = torch.amp.GradScaler(args.device.type, enabled=args.device.type == "cuda" and args.amp == "fp16")
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, "loader": loader}
    step = load_checkpoint(args.checkpoint, parts) if args.checkpoint.exists() else 0
    if rank() == 0 and args.resume:
        print(
            f"{args.checkpoint}: " + (f"continuing at step {step} of {total}" if step else "not there, starting anew")
        )

    if rank() == 0:
        sheet = contact_sheet(gr.Renderer(args.recipe, args.device), rows=8, cols=8)
        with replacing(args.output / "contact_sheet.png") as temporary:
            sheet.save(temporary, format="PNG")
    network = nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
    train(network, parts, step, total, args)
    if rank() == 0:
        print(f"{args.output}: contact_sheet.png, checkpoint.pt (step {total})")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
