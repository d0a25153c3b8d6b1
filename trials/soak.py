"""Soak: does memory stay flat over a hundred thousand batches?

    python -m trials.soak --json bench/results/soak.json

Small loaders run over many epochs on a CPU, as training runs treat them over weeks: whole passes, passes left midway,
states saved and loaded, epochs set, iterators abandoned, threads that draw ahead. The resident memory of the process is
sampled throughout, and the garbage collector is not helped. After the warm-up (a tenth of the batches: compiled
kernels, the allocator's pools) it must stay within one percent.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import psutil
import torch
from tqdm import tqdm

import gpurender as gr
from gpurender.util.atomic_files import check_writable, replacing
from gpurender.util.environment import environment

SAMPLES = 400  # of the memory, over the whole run
WARM_UP = 0.1  # of the batches
LIMIT = 1.0  # percent


def loaders() -> list[gr.DataLoader]:
    """One a family and way of drawing, all of them small."""
    grey = gr.OnePFrac(classes=10, instances=5, image_size=32, points=300, fill_rate=0.0)
    atoms = gr.VisualAtom(classes=5, instances=10, image_size=32, orbits=(1, 4), quantization=(5, 20))
    common = {"batch_size": 2, "image_size": 16, "shuffle": True, "device": "cpu"}
    return [
        gr.DataLoader(grey, augment=gr.augment.Crop(), **common),
        gr.DataLoader(atoms, augment=gr.augment.DeiT(), fresh=True, **common),
        gr.DataLoader(atoms, augment=gr.augment.Crop(), prefetch_factor=2, **common),
        gr.DataLoader(gr.Mixture({grey: 1, atoms: 2}), **common),
        gr.DataLoader(grey, batch_size=2, image_size=16, sampler=range(0, 50, 3), device="cpu"),
    ]


def life(loader: gr.DataLoader, turn: int) -> int:
    """A pass over a loader in one of the ways that passes go; the number of batches."""
    stop = turn * 7 % (len(loader) + 1) if turn % 3 == 0 else None  # every third is left midway
    batches = iter(loader)
    if turn % 4 == 1:
        next(iter(loader))  # abandoned
    count = sum(1 for _ in zip(batches, range(10**9 if stop is None else stop), strict=False))
    state = json.loads(json.dumps(loader.state_dict()))
    if turn % 5 == 2:
        loader.load_state_dict(state)
    elif turn % 5 == 4:
        loader.set_epoch((turn + 1) % 1000)
    return count + (turn % 4 == 1)


def soak(batches: int) -> tuple[list[tuple[int, int]], float]:
    """Resident bytes by batch, after the warm-up, and the spread in percent of their first value."""
    process, feeds, found = psutil.Process(os.getpid()), loaders(), []
    done, turn = 0, 0
    with tqdm(total=batches, unit="batch", dynamic_ncols=True) as bar:
        while done < batches:
            count = life(feeds[turn % len(feeds)], turn)
            done, turn = done + count, turn + 1
            bar.update(count)
            if done >= batches * (WARM_UP + len(found) * (1 - WARM_UP) / SAMPLES):
                found.append((done, process.memory_info().rss))
    resident = [rss for _, rss in found]
    return found, 100.0 * (max(resident) - resident[0]) / resident[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--json", metavar="FILE", help="write the result there")
    options = parser.parse_args()
    if options.json:
        check_writable(options.json)
    torch.set_num_threads(1)
    found, growth = soak(options.batches)
    for done, rss in found[:: max(1, len(found) // 10)]:
        print(f"{done:>8} batches  {rss / 2**20:8.2f} MiB")
    verdict = "flat" if growth <= LIMIT else "GROWS"
    print(f"{verdict}: at most {growth:+.3f} % above the first sample, limit {LIMIT:g} %")
    if options.json:
        row = {"batches": options.batches, "growth_percent": growth, "samples": found}
        with replacing(options.json) as temporary:
            Path(temporary).write_text(
                json.dumps({"environment": environment(torch.device("cpu")), "soak": row}) + "\n"
            )
    sys.exit(growth > LIMIT)


if __name__ == "__main__":
    main()
