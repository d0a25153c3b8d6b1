"""What augmentation costs: each operation, and the papers' whole policy beside timm's on the same canvases.

    python -m bench.augmentation [--device D] [--batch-size B] [--seconds T] [--json FILE]

On a CPU everything runs on one thread, so that the figures are those of a core, and timm's transform, collate function
and random erasing are measured in turn with ours, window by window. On a GPU there is nothing of timm's to measure.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gpurender as gr
from gpurender.benchmark.timing import spread, time_batches
from gpurender.kernels.image_ops import Kind, Operation, apply_ops
from gpurender.runtime import devices
from gpurender.util.atomic_files import check_writable, replacing
from gpurender.util.environment import environment
from gpurender.util.progress import progress

SIZE = 224
ARGUMENTS = {  # of RandAugment at level 9, or typical
    Operation.POSTERIZE: 1.0, Operation.SOLARIZE: 26.0, Operation.SOLARIZE_ADD: 99.0, Operation.BRIGHTNESS: 1.81,
    Operation.CONTRAST: 1.81, Operation.COLOR: 1.81, Operation.HUE: 0.1, Operation.SHARPNESS: 1.81,
    Operation.GAUSSIAN_BLUR: 1.0, Operation.GAUSSIAN_KERNEL: 1.0, Operation.ROTATE: 27.0, Operation.SHEAR_X: 0.27,
    Operation.SHEAR_Y: 0.27, Operation.TRANSLATE_X: 100.0, Operation.TRANSLATE_Y: 100.0,
    Operation.TRANSLATE_X_REL: 0.405, Operation.TRANSLATE_Y_REL: 0.405,
}  # fmt: skip


def canvases_of(kind: str, device: torch.device, count: int) -> torch.Tensor:
    """uint8 [count, 1 or 3, 512, 512]: fractals, in grey or with coloured points."""
    if kind == "grey":
        recipe = gr.recipe("onepfrac-1k")
    else:
        recipe = gr.FractalDB(classes=count, instances=1, image_size=512, points=100_000, draw_type="patch_color")
    return gr.Renderer(recipe, device)(range(count))


def operation_rows(device: torch.device, batch_size: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield microseconds an image of each operation, of one band and three, bilinear and bicubic where pixels move."""
    for kind in ("grey", "colour"):
        boxes = torch.tensor([[100, 100, 300, 300]]).repeat(batch_size, 1)
        images = gr.augment.resized_crop(canvases_of(kind, device, batch_size), boxes, SIZE)
        for operation in Operation:
            moves = operation.spec.kind is Kind.AFFINE
            for interpolation in (1, 2) if moves else (1,):
                shape = (batch_size, 1)
                chain = (
                    torch.full(shape, operation, dtype=torch.int32, device=device),
                    torch.full(shape, ARGUMENTS.get(operation, 0.0), dtype=torch.float64, device=device),
                    torch.full(shape, interpolation, dtype=torch.uint8, device=device),
                )
                timing = time_batches(
                    lambda images=images, chain=chain: apply_ops(images, *chain, (128, 128, 128)), seconds, device,
                    operation.name.lower(),
                )  # fmt: skip
                name = operation.name + (f" {('', 'bilinear', 'bicubic')[interpolation]}" if moves else "")
                micros = [1e6 / rate for rate in timing.rates]
                yield {"operation": name.lower(), "canvases": kind, "us_per_image": spread(micros, 2)}


def ours(policy: Any, canvases: torch.Tensor, dtype: torch.dtype) -> Callable[[int], torch.Tensor]:
    """The policy, parameters drawn anew for every batch."""
    n, side = len(canvases), canvases.shape[-1]
    labels = torch.zeros(n, dtype=torch.int64, device=canvases.device)
    numbers = torch.arange(n, device=canvases.device)

    def step(batch: int) -> torch.Tensor:
        parameters = policy.draw(numbers + n * batch, canvas_size=side, image_size=SIZE)
        policy.targets(labels, parameters, 1000)
        return policy.apply(canvases, parameters, image_size=SIZE, dtype=dtype)

    return step


def theirs(policy: Any, canvases: torch.Tensor) -> Callable[[int], torch.Tensor]:
    """timm's transform of each image, its collate function, and what its prefetcher does to the batch."""
    from PIL import Image
    from timm.data import auto_augment, create_transform
    from timm.data.mixup import FastCollateMixup
    from timm.data.random_erasing import RandomErasing

    def posterize(image: Any, bits: int, **keywords: Any) -> Any:  # timm with Pillow 13 raises where no bit is kept
        return auto_augment.posterize(image, bits) if bits else Image.new("RGB", image.size)

    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = posterize
    images = [Image.fromarray(np.ascontiguousarray(c.permute(1, 2, 0).expand(-1, -1, 3).numpy())) for c in canvases]
    transform = create_transform(
        SIZE, is_training=True, use_prefetcher=True, hflip=policy.hflip, vflip=policy.vflip,
        auto_augment=policy.auto_augment, interpolation=policy.interpolation, mean=policy.mean, std=policy.std,
    )  # fmt: skip
    collate = FastCollateMixup(policy.mixup_alpha, policy.cutmix_alpha, num_classes=1000)
    erase = RandomErasing(policy.re_prob, mode=policy.re_mode, device="cpu")
    mean, std = (torch.tensor([255 * x for x in triple]).view(1, 3, 1, 1) for triple in (policy.mean, policy.std))

    def step(batch: int) -> torch.Tensor:
        pixels, _ = collate([(transform(image), 0) for image in images])
        return erase(pixels.float().sub_(mean).div_(std))

    return step


def policy_rows(device: torch.device, batch_size: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield images/s of the whole policy, ours and on a CPU timm's, in turn."""
    on_gpu, dtype = devices.on_gpu(device), torch.float16 if devices.on_gpu(device) else torch.float32
    for name, policy in (("deit", gr.augment.DeiT()), ("onepfrac", gr.augment.DeiT.onepfrac())):
        for kind in ("grey", "colour"):
            canvases = canvases_of(kind, device, batch_size)
            mine = ours(policy, canvases, dtype)
            row: dict[str, Any] = {"policy": name, "canvases": kind}
            if on_gpu:
                count = iter(range(1 << 40))
                timing = time_batches(lambda mine=mine, count=count: mine(next(count)), seconds, device, name)
                row["images_per_second"] = spread(timing.rates, 1)
            else:
                rates = in_turn({"ours": mine, "timm": theirs(policy, canvases)}, batch_size, seconds, name)
                row |= {who: spread(values, 1) for who, values in rates.items()}
                row["times_as_fast"] = spread([a / b for a, b in zip(rates["ours"], rates["timm"], strict=True)], 2)
            yield row


def in_turn(
    steps: dict[str, Callable[[int], torch.Tensor]], batch_size: int, seconds: float, label: str
) -> dict[str, list[float]]:
    """Images/s of each step, batch by batch in turn, after one of each as a warm-up."""
    rates: dict[str, list[float]] = {who: [] for who in steps}
    start = None
    with progress(desc=f"{label}: batches", unit="batch") as bar:
        batch = 0
        while start is None or batch < 6 or time.perf_counter() - start < seconds:
            for who, step in steps.items():
                begin = time.perf_counter()
                step(batch)
                if start is not None:
                    rates[who].append(batch_size / (time.perf_counter() - begin))
            start = start or time.perf_counter()
            batch += 1
            bar.update()
    return rates


def table(result: dict[str, Any]) -> str:
    """The rows for people."""
    lines = []
    for row in result["policies"]:
        said = f"{row['policy']:<9}{row['canvases']:<7}"
        if "ours" in row:
            said += f"{row['ours']['median']:>9,.0f} images/s, timm {row['timm']['median']:,.0f}"
            said += f", {row['times_as_fast']['median']} times as fast"
        else:
            said += f"{row['images_per_second']['median']:>12,.0f} images/s"
        lines.append(said)
    both: dict[str, dict[str, float]] = {}
    for row in result["operations"]:
        both.setdefault(row["operation"], {})[row["canvases"]] = row["us_per_image"]["median"]
    lines.append(f"{'us an image':<26}{'grey':>9}{'colour':>9}")
    lines += [f"{name:<26}{of['grey']:>9.2f}{of['colour']:>9.2f}" for name, of in both.items()]
    return "\n".join(lines)


def measure(device: torch.device, batch_size: int, seconds: float) -> dict[str, Any]:
    """Policies and operations; on one thread of a CPU."""
    if not devices.on_gpu(device):
        torch.set_num_threads(1)
    return {
        "environment": environment(device),
        "image_size": SIZE,
        "batch_size": batch_size,
        "policies": list(policy_rows(device, batch_size, 4 * seconds)),
        "operations": list(operation_rows(device, batch_size, seconds)),
    }


def main() -> int:
    """Measure and print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", metavar="D", help="default: the GPU if there is one")
    parser.add_argument("--batch-size", type=int, default=256, metavar="B", help="default 256")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="T", help="for each operation (default 1)")
    parser.add_argument("--json", metavar="FILE", help="also write the result")
    options = parser.parse_args()
    if options.json:
        check_writable(options.json)
    result = measure(devices.resolve(options.device), options.batch_size, options.seconds)
    print(table(result))
    if options.json:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
