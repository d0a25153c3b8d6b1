"""Small batches by the hundred thousand: memory stays flat."""

import os
import time
from pathlib import Path

import torch

import gpurender as gr
from bench.steps.seen import Seen
from gpurender.benchmark import measure


def soak(seen: Seen) -> None:
    """Draw 200,000 batches, or what the time allows: memory stays flat, on the GPU and on the host."""
    batches = seen.pick(60, 20_000, 200_000)
    recipe = gr.OnePFrac(classes=64, instances=1000, points=256, image_size=32, fill_rate=0.0)
    loader = gr.DataLoader(
        recipe, batch_size=4, image_size=32, augment=gr.augment.Crop(), shuffle=True, device=seen.device, fresh=True
    )
    start = time.perf_counter()
    for done, (images, _) in enumerate(measure.endless(loader), 1):
        if done % (batches // 20) == 0:
            assert bool(torch.isfinite(images).all())
            memory = (torch.cuda.memory_allocated() >> 10, torch.cuda.memory_reserved() >> 20, resident())
            rate = round(done / (time.perf_counter() - start))
            seen.row(
                {"batches": done, "batches_per_second": rate}
                | dict(zip(("allocated_kib", "reserved_mib", "resident_mib"), memory, strict=True))
            )
            if done == batches or seen.left() < 20.0:
                break
    grows = growth(seen.rows[1:])
    if grows:
        raise AssertionError(f"memory is not flat: {grows}")


def growth(rows: list[dict[str, int]]) -> dict[str, int]:
    """What grew by more than noise between the smallest and the largest of the rows."""
    allowed = {
        "allocated_kib": 1024, "reserved_mib": 0,
        "resident_mib": round(0.01 * max((row["resident_mib"] for row in rows), default=0)) + 8,
    }  # fmt: skip
    grown = {key: max(row[key] for row in rows) - min(row[key] for row in rows) for key in allowed} if rows else {}
    return {key: value for key, value in grown.items() if value > allowed[key]}


def resident() -> int:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
