"""What the loader costs training, beside one batch that stays and beside files; and a pre-training of minutes."""

import itertools
import re
import sys
import tempfile
import time
from collections.abc import Iterator

import torch

import gpurender as gr
from bench.steps import goals
from bench.steps.seen import Seen
from bench.steps.tools import run
from gpurender.benchmark import measure, training
from gpurender.benchmark.timing import spread
from gpurender.runtime import devices

MODELS = (("vit_tiny_patch16_224", 512), ("vit_small_patch16_224", 256))
TINY_MODEL = "test_resnet"
PRESETS = ("onepfrac-21k", "visualatom-1k", "fractaldb-1k")  # each of many batches, so that one can be drawn ahead


def train(seen: Seen) -> None:
    """Steps of ViT-Tiny and ViT-Small with the loader and with one batch for ever; longer: with DeiT as well, and with
    the next batch drawn beside the step (``prefetch_factor`` 1) and before it (0).
    """
    seconds = seen.pick(0.0, 2.0, 3.0)
    models = seen.pick(((TINY_MODEL, 4),), MODELS, MODELS)
    policies = seen.pick(("crop",), ("crop",), ("crop", "deit"))
    ahead = seen.pick((0, 1), (None,), (1, 0))
    names = seen.pick(PRESETS[:1], PRESETS[:2], PRESETS)
    cases = [
        (model, size, augment, factor, name)
        for augment, (model, size), factor, name in itertools.product(policies, models, ahead, names)
    ]
    for model, size, augment, factor, name in cases:
        # two loops of so many seconds, their warm-up, the model made and its kernels chosen
        if not seen.enough(3.0 * seconds + 4.0, f"{model} {name} {augment} prefetch_factor={factor}"):
            return
        row = measure.train(
            gr.recipe(name), model, measure.named(augment), device=devices.resolve(seen.device), batch_size=size,
            seconds=seconds, name=name, prefetch_factor=factor,
        )  # fmt: skip
        seen.row(goals.judged_step(row | {"augment": augment, "prefetch_factor": factor}))


LOSS = re.compile(r"step\s+(\d+)\s+loss\s+([\d.]+|nan|inf)\b.*?\s([\d.,]+) images/s")


def pretrain(seen: Seen) -> None:
    """ViT-Tiny on onepfrac-1k with DeiT in bfloat16, by examples/pretrain.py, for as long as there is time: the loss
    must be finite, and lower at the end than at the beginning.
    """
    if not seen.enough(25.0, "pretrain"):
        return
    model, size = seen.pick((TINY_MODEL, 4), MODELS[0], MODELS[0])
    steps = seen.pick(12, int(25 * seen.left()), int(25 * seen.left()))  # the clock may end it sooner
    command = [
        "examples/pretrain.py", "--recipe", "onepfrac-1k", "--model", model, "--augment", "deit", "--batch-size",
        str(size), "--steps", str(steps), "--log-every", str(seen.pick(2, 50, 50)), "--save-every", str(steps),
    ]  # fmt: skip

    def heard(line: str) -> bool:
        if found := LOSS.search(line):
            step, loss, rate = found.groups()
            seen.row({"step": int(step), "loss": float(loss), "rate": float(rate.replace(",", ""))})
        return seen.left() < 8.0

    with tempfile.TemporaryDirectory() as folder:
        status, text = run([sys.executable, *command, "--output", folder], on_line=heard)
    losses = [row["loss"] for row in seen.rows]
    if len(losses) < 2 or (status and seen.left() >= 8.0):
        raise AssertionError(f"exit {status}: {text[-2000:]}")
    seen.note(model=model, batch_size=size, images_per_second=spread([row["rate"] for row in seen.rows], 1))
    if seen.size != "tiny" and not losses[-1] < losses[0]:
        raise AssertionError(f"the loss does not fall: {losses[0]} to {losses[-1]}")


def files(seen: Seen) -> None:
    """Steps of ViT-Tiny with torch's DataLoader, workers over exported PNG files cropped by torchvision, beside steps
    with gpurender's and with one batch for ever.
    """
    from gpurender.commands.image_folder.export import export

    count, batch_size, workers = seen.pick(16, 2048, 10_240), seen.pick(4, 256, 256), seen.pick(2, 16, 16)
    device = devices.resolve(seen.device)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        export("visualatom-1k", folder, limit=count, device=seen.device)
        seen.note(images=count, workers=workers, export_seconds=round(time.perf_counter() - start, 1))
        drawn = measure.endless(
            gr.DataLoader(
                "visualatom-1k", batch_size=batch_size, augment=gr.augment.Crop(), shuffle=True, device=device,
                dtype=torch.bfloat16,
            )
        )  # fmt: skip
        feeds = {
            "cached": itertools.repeat(next(drawn)),
            "drawn": drawn,
            "files": from_files(folder, batch_size, workers, device),
        }
        model = seen.pick(TINY_MODEL, MODELS[0][0], MODELS[0][0])
        trainer = training.Trainer(model, classes=1000, image_size=224, device=device)
        times = training.step_times(trainer, feeds, device, seen.pick(0.0, 1.0, 8.0))
    for name, milliseconds in times.items():
        step = spread(milliseconds, 3)
        seen.row({"feed": name, "step_ms": step, "rate": round(1e3 * batch_size / step["median"], 1)})


def from_files(
    folder: str, batch_size: int, workers: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of image files, decoded and cropped by workers as bytes, normalised on the device."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    loader = torch.utils.data.DataLoader(
        ImageFolder(folder, transforms.Compose(steps)), batch_size=batch_size, shuffle=True, num_workers=workers,
        pin_memory=device.type == "cuda", drop_last=True, persistent_workers=True,
    )  # fmt: skip
    for images, targets in measure.endless(loader):
        there = images.to(device, non_blocking=True).bfloat16()
        yield (there / 127.5 - 1.0, targets.to(device, non_blocking=True))
