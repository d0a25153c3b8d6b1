"""How fast PixMix mixes pictures into a batch of real images, and what drawing the pictures takes of it.

    python -m bench.pixmix [--device D] [--batch-size B] [--seconds T] [--json FILE]

*PixMix* mixes in pictures of ``colorfractal-1k``, as the authors mix in fractals; *MoireMix* whole Moiré images. Their
batches, and those of the pictures alone (as many as a batch mixes in on average, drawn anew each time), are measured in
turn. Images are noise: no operation depends on what an image shows. On a CPU everything runs on one thread, and seconds
are those of its CPU time, so that the figures are those of a core.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import gpurender as gr
from bench import result_file
from gpurender.augment.pixmix_draws import OPERATIONS, Law, draw
from gpurender.benchmark.timing import spread
from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.runtime import devices
from gpurender.util.atomic_files import check_writable
from gpurender.util.progress import progress

SIZE = 224
LEAST = 6  # measurements


def noise(count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return images, ``[count, 3, 224, 224]``, uint8 or floating in [0, 1]."""
    ids = torch.arange(count * 3 * SIZE * SIZE // 4, dtype=torch.int64, device=device)
    levels = (words(0, Stream.POINTS, ids) >> 24).view(count, 3, SIZE, SIZE)
    return levels.to(torch.uint8) if dtype == torch.uint8 else levels.to(dtype).div_(255.0)


def mixers(device: torch.device) -> dict[str, gr.augment.PixMix]:
    """Return what is measured, by name."""
    return {
        "PixMix": gr.augment.PixMix(gr.Renderer("colorfractal-1k", device)),
        "MoireMix": gr.augment.PixMix(gr.Renderer(gr.Moire(), device), crop=1),
    }


def pictures_of(mix: gr.augment.PixMix, count: int) -> float:
    """Return how many of ``count`` images get a picture: those with a round that mixes one in."""
    ids = torch.arange(100 * count, dtype=torch.int64, device="cpu").numpy().astype("uint64")
    law = Law(mix.seed, len(mix.pictures.recipe), mix.k, mix.beta, mix.severity, OPERATIONS, (SIZE, SIZE))
    drawn = draw(ids, law)
    rounds = torch.arange(mix.k + 1, dtype=torch.int64, device="cpu").numpy()
    shown = (rounds > 0) & (rounds <= drawn.rounds[:, None]) & (drawn.operations == 0)
    return float(shown.any(1).mean()) * count


def in_turn(steps: dict[str, Callable[[int], Any]], seconds: float, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each step, in turn, after one of each as a warm-up."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    clock = time.perf_counter if devices.on_gpu(device) else time.process_time
    begun, number = None, 0
    with progress(desc="batches", unit="batch") as bar:
        while begun is None or number <= LEAST or clock() - begun < seconds:
            for name, step in steps.items():
                begin = clock()
                step(number)
                if devices.on_gpu(device):
                    torch.cuda.synchronize(device)
                if begun is not None:
                    found[name].append(clock() - begin)
            begun = begun or clock()
            number += 1
            bar.update()
    return found


def measured(batch_size: int, seconds: float, device: torch.device) -> list[dict[str, Any]]:
    """Return the figures of every mixer and type of images."""
    rows = []
    for name, mix in mixers(device).items():
        count = round(pictures_of(mix, batch_size))
        for dtype in (torch.uint8, torch.float32):
            images = noise(batch_size, dtype, device)
            which = torch.arange(count, dtype=torch.int64, device=device)
            found = in_turn(
                {
                    "mixed": lambda number, mix=mix, images=images: mix(images, number),
                    "pictures": lambda number, mix=mix, which=which: mix.pictures.render(
                        which, which + (number + 1) * 2**20, True
                    ),
                },
                seconds, device,
            )  # fmt: skip
            rows.append({
                "mixer": name, "dtype": str(dtype).removeprefix("torch."), "batch_size": batch_size,
                "pictures_per_batch": count,
                "images_per_second": spread([batch_size / s for s in found["mixed"]], 1),
                "share_of_drawing": spread([b / a for a, b in zip(found["mixed"], found["pictures"], strict=True)], 2),
            })  # fmt: skip
    return rows


def main() -> int:
    """Print the figures; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="B", help="images (default 128)")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="T", help="of each row (default 15)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    options = parser.parse_args()
    if options.json:
        check_writable(options.json)
    torch.set_num_threads(1)
    found = measured(options.batch_size, options.seconds, devices.resolve(options.device))
    for row in found:
        rate, share = row["images_per_second"], row["share_of_drawing"]
        shown = f"{rate['median']:>8,.0f} images/s ({rate['p5']:,.0f} to {rate['p95']:,.0f})"
        drawing = f"drawing its {row['pictures_per_batch']} pictures {100 * share['median']:.0f} % of the time"
        print(f"{row['mixer']:<9}{row['dtype']:<8}{shown}, {drawing}")
    if options.json:
        result_file.write(options.json, pixmix=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
