"""The steps of the acceptance run: each takes ``quick`` and returns what it saw, or raises."""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import augmentation
import torch

import gpurender as gr
from gpurender import bench, training
from gpurender.progress import progress
from gpurender.timing import spread, time_batches

ROOT = Path(__file__).resolve().parent.parent
GPU_TESTS = ("chaos_game_cuda", "polyline_cuda", "triton", "ahead", "graphs", "gpu_path", "failures", "interop_dali")
PRESETS = ("onepfrac-1k", "fractaldb-1k", "visualatom-1k", "onepfrac-21k", "visualatom-21k")
SOAK_BATCHES = 200_000
SOAK_SECONDS = 480.0  # then the soak ends with what it has
PATIENCE = 400  # seconds for a program of another's

# DESIGN section 7, for an H200: images/s, and percent of a step.
GOALS = {("onepfrac-1k", "raster"): 2e6, ("fractaldb-1k", "raster"): 2e6, ("visualatom-1k", "raster"): 1e6}
AUGMENTED_GOAL = 5e5  # raster and DeiT
STEP_GOALS = {"vit_tiny_patch16_224": 2.0, "vit_small_patch16_224": 1.0}
# What a chip could do at best, estimates of reference/performance.md: images/s of 100,000 points in two passes, and
# bytes/s of its memory.
CHIPS = {
    "H200": (5.7e6, 4.8e12), "H100": (5.7e6, 3.35e12), "A100": (3.3e6, 2.04e12), "L4": (1.0e6, 0.30e12),
    "RTX 4090": (3.3e6, 1.0e12),
}  # fmt: skip


def tests(quick: bool) -> dict[str, Any]:
    """The tests marked gpu; none may be skipped for want of one."""
    files = [f"tests/test_{name}.py" for name in GPU_TESTS]
    done = run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", *files], GPURENDER_REQUIRE_CUDA="1")
    if done.returncode:
        raise AssertionError(done.stdout[-3000:] + done.stderr[-500:])
    return {"summary": done.stdout.strip().splitlines()[-1]}


def small_recipes() -> dict[str, gr.Recipe]:
    """Recipes of mixed sizes whose canvases a CPU draws by the thousand."""
    return {
        "onepfrac": gr.OnePFrac(classes=2500, instances=4, points=8192, image_size=96, fill_rate=0.0),
        "onepfrac-paper": gr.OnePFrac(classes=500, instances=20, points=20_000, image_size=224, variant="paper"),
        "fractaldb": gr.FractalDB(classes=20, points=10_000, image_size=97),
        "fractaldb-color": gr.FractalDB(classes=10, points=5000, image_size=128, draw_type="patch_color"),
        "visualatom": gr.VisualAtom(classes=100, instances=100, image_size=224, orbits=(1, 40)),
        "visualatom-paper": gr.VisualAtom(classes=100, instances=100, image_size=97, orbits=(1, 40), variant="paper"),
    }


def large_recipes() -> dict[str, gr.Recipe]:
    """As they are used, and canvases so large that they are drawn in bands."""
    return {
        "onepfrac-512": gr.OnePFrac(),
        "onepfrac-1400": gr.OnePFrac(image_size=1400, fill_rate=0.0),
        "fractaldb-512": gr.FractalDB(image_size=512),
        "fractaldb-color-512": gr.FractalDB(image_size=512, draw_type="patch_color"),
        "visualatom-512": gr.VisualAtom(),
        "visualatom-1024": gr.VisualAtom(image_size=1024),
    }


def equality(quick: bool) -> dict[str, Any]:
    """Canvases, byte for byte the CPU's: 10,000 of each small recipe (quick: 500), 256 (32) of each large one; and
    augmented batches, the first plain ones and those of the captured graph.
    """
    checked = {}
    for name, recipe in small_recipes().items():
        checked[name] = compare_canvases(name, recipe, 500 if quick else 10_000, 512)
        compare_batches(name, recipe)
    for name, recipe in large_recipes().items():
        checked[name] = compare_canvases(name, recipe, 32 if quick else 256, 32)
    return {"canvases": checked}


def compare_canvases(name: str, recipe: gr.Recipe, count: int, batch_size: int) -> int:
    """Compare canvases of two epochs, with kept bitmaps and without; how many."""
    samples = torch.arange(0, len(recipe), max(1, len(recipe) // count))[:count]
    fast, plain, slow = gr.Renderer(recipe, "cuda"), gr.Renderer(recipe, "cuda", cache_bytes=0), gr.Renderer(recipe)
    for some in progress_of(samples.split(batch_size), name):
        for epoch in (0, 1):
            wanted = slow(some, epoch)
            assert torch.equal(fast(some, epoch).cpu(), wanted), (name, epoch, some.tolist())
            assert torch.equal(plain(some, epoch).cpu(), wanted), (name, epoch, "without kept bitmaps")
    return 2 * len(samples)


def compare_batches(name: str, recipe: gr.Recipe) -> None:
    """Compare ten batches of a loader in every type: the third is captured, the fourth the first that is replayed."""
    crop, deit = (
        gr.augment.Crop(interpolation="random", vflip=0.5),
        gr.augment.DeiT(force_color_jitter=True, re_count=2),
    )
    atoms = gr.augment.DeiT.visualatom(mixup_mode="pair", interpolation="random")
    cases = ((torch.float32, False, crop), (torch.float16, True, deit), (torch.bfloat16, True, atoms))
    for dtype, fresh, policy in cases:
        keywords = {"batch_size": 48, "augment": policy, "shuffle": True, "fresh": fresh, "dtype": dtype}
        feeds = (gr.DataLoader(recipe, device=device, **keywords) for device in ("cuda", "cpu"))
        for _, (images, targets), (others, labels) in zip(range(10), *feeds, strict=False):
            assert torch.equal(images.cpu(), others), (name, dtype)
            assert torch.equal(targets.cpu(), labels), (name, dtype)


SMALL_BATCH = """
import torch, gpurender as gr
for recipe in (gr.OnePFrac(classes=9, instances=3, points=9000, image_size=96, fill_rate=0.0),
               gr.FractalDB(classes=2, points=4000, image_size=97, draw_type="patch_color"),
               gr.VisualAtom(classes=9, instances=3, image_size=128, orbits=(1, 9))):
    for cache in (0, 1 << 28):
        gr.Renderer(recipe, "cuda", cache_bytes=cache)(range(12))
    for policy in (gr.augment.Crop(), gr.augment.DeiT(force_color_jitter=True, gaussian_blur_prob=0.5, re_count=2),
                   gr.augment.DeiT.visualatom(auto_augment="rand-m9-n5-mstd2-p0.9", re_mode="rand", mixup_mode="elem")):
        next(iter(gr.DataLoader(recipe, batch_size=8, augment=policy, shuffle=True, device="cuda", fresh=True)))
torch.cuda.synchronize()
"""


def sanitizer(quick: bool) -> dict[str, Any]:
    """compute-sanitizer's memcheck and racecheck on a small batch of every kernel; each is reported, then judged."""
    tool = find("compute-sanitizer")
    found, failed = {}, []
    for name in ("memcheck", "racecheck"):
        command = [tool, "--tool", name, "--error-exitcode", "9", sys.executable, "-c", SMALL_BATCH]
        # without torch's cache every tensor is an allocation of its own, so that its ends are watched
        done = run(command, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        found[name] = done.stdout.strip()[-2500:]
        if done.returncode:
            failed.append(
                f"{name}: exit {done.returncode}: {done.stdout[:1200]} ... {done.stdout[-600:]} {done.stderr[-300:]}"
            )
    if failed:
        raise AssertionError("\n".join(failed))
    return {name: text.splitlines()[-1] if text else "" for name, text in found.items()}


def checksum(images: torch.Tensor) -> torch.Tensor:
    """An integer of each image, the same in whatever order it is added up: int64 [B] of float32 [B, ...]."""
    bits = images.view(torch.int32).flatten(1).long()
    return (bits * (torch.arange(bits.shape[1], device=bits.device) * 2 + 1)).sum(1)


def consumers(quick: bool) -> dict[str, Any]:
    """Batches are right for consumers that keep all, work on streams of their own, compile, or replay graphs."""
    recipe = gr.VisualAtom(classes=50, instances=20, image_size=128, orbits=(1, 20))
    keywords = {"batch_size": 32, "image_size": 64, "shuffle": True, "augment": gr.augment.Crop()}
    wanted = [checksum(images) for images, _ in gr.DataLoader(recipe, device="cpu", **keywords)]

    for name, consume in CONSUMERS.items():
        sums = consume(gr.DataLoader(recipe, device="cuda", **keywords))
        for batch, (found, right) in enumerate(zip(sums, wanted, strict=True)):
            assert torch.equal(found.cpu(), right), f"{name}, batch {batch}"
    return {"batches": len(wanted), "consumers": list(CONSUMERS)}


Sums = list[torch.Tensor]


def keeps_all(loader: Any) -> Sums:
    """Everything is looked at when all has been drawn."""
    kept = [images for images, _ in loader]
    return [checksum(images) for images in kept]


def is_late(loader: Any) -> Sums:
    """Another stream reads a batch long after it was dropped here, as ``record_stream`` allows."""
    side, sums = torch.cuda.Stream(), []
    for images, _ in loader:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            torch.cuda._sleep(2_000_000)
            sums.append(checksum(images))
        images.record_stream(side)
    torch.cuda.current_stream().wait_stream(side)
    return sums


def _network() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 16, 16), torch.nn.Flatten(), torch.nn.Linear(256, 50)).cuda()
    return network, torch.optim.SGD(network.parameters(), lr=1e-3)


def compiles(loader: Any) -> Sums:
    """A training step through torch.compile."""
    network, optimizer = _network()

    def loss_of(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(images), targets)

    compiled, sums = torch.compile(loss_of), []
    for images, targets in loader:
        compiled(images, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        sums.append(checksum(images))
    return sums


def replays(loader: Any) -> Sums:
    """A training step in a CUDA graph, which reads the batch from a place of its own."""
    network, optimizer = _network()
    images, targets = torch.zeros(32, 3, 64, 64, device="cuda"), torch.zeros(32, dtype=torch.int64, device="cuda")

    def step() -> torch.Tensor:
        torch.nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return checksum(images)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph, sums = torch.cuda.CUDAGraph(), []
    with torch.cuda.graph(graph):
        result = step()
    for batch, labels in loader:
        images[: len(batch)].copy_(batch)
        targets[: len(labels)].copy_(labels)
        graph.replay()
        sums.append(result[: len(batch)].clone())
    return sums


CONSUMERS: dict[str, Callable[[Any], Sums]] = {
    "keeps all": keeps_all, "is late": is_late, "compiles": compiles, "replays": replays,
}  # fmt: skip


def preset_table(quick: bool) -> dict[str, Any]:
    """``gpurender bench`` of every preset against the goals, and against what the chip could do."""
    rows = []
    for name in PRESETS[:3] if quick else PRESETS:
        for batch_size in (256, 1024):
            common = {"device": "cuda", "batch_size": batch_size, "seconds": 0.5 if quick else 3.0}
            rows += bench.measure(name, **common)["rows"]
            rows += bench.measure(name, **common, augment="deit", stages=("augment", "loader"))["rows"]
    for row in rows:
        rate, limit = row["images_per_second"]["median"], limit_of(row, torch.cuda.get_device_name())
        goal = AUGMENTED_GOAL if row.get("augment") == "deit" else GOALS.get((row["recipe"], row["stage"]))
        row["percent_of_goal"] = percent(rate, goal)
        row["limit"], row["percent_of_limit"] = limit, percent(rate, limit)
    return {"rows": rows}


def limit_of(row: dict[str, Any], gpu: str) -> float | None:
    """Images/s that a chip could do at best: of two passes over the points where these are drawn at 100,000, else of
    writing what is written. ``None`` for a chip without an estimate.
    """
    chip = next((limits for name, limits in CHIPS.items() if name in gpu), None)
    if chip is None:
        return None
    points, bandwidth = chip
    if row["stage"] == "raster":
        drawn = not row.get("cached") and not row["recipe"].startswith("visualatom")
        return points if drawn else bandwidth / row["image_size"] ** 2
    return bandwidth / (2 * 3 * row["image_size"] ** 2)  # float16


def percent(value: float, of: float | None) -> float | None:
    """How much of something, to a tenth."""
    return None if of is None else round(100.0 * value / of, 1)


def augment(quick: bool) -> dict[str, Any]:
    """The table of each operation's cost, and the papers' policies on canvases that stay."""
    result = augmentation.measure(torch.device("cuda", torch.cuda.current_device()), 256, 0.1 if quick else 0.5)
    print(augmentation.table(result))
    return {key: result[key] for key in ("policies", "operations")}


def sweep(quick: bool) -> dict[str, Any]:
    """Raster by batch size, canvas and points; without kept bitmaps, so that everything is drawn."""
    sizes = (1, 16, 256, 2048) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    sides = (224, 512, 1024) if quick else (224, 362, 512, 768, 1024)
    cases = [("batch_size", n, recipe, n) for recipe in (gr.OnePFrac(), gr.VisualAtom()) for n in sizes]
    cases += [("image_size", s, gr.OnePFrac(image_size=s), 256) for s in sides]
    cases += [("image_size", s, gr.VisualAtom(image_size=s), 256) for s in sides]
    cases += [
        ("points", p, gr.OnePFrac(points=p, fill_rate=0.0), 256) for p in (10_000, 30_000, 100_000, 300_000, 1_000_000)
    ]
    rows = []
    for name, value, recipe, batch_size in cases:
        renderer = gr.Renderer(recipe, "cuda", cache_bytes=0)
        samples = bench.sample_numbers(recipe, renderer.device, batch_size)

        def step(renderer: gr.Renderer = renderer, samples: Iterator[torch.Tensor] = samples) -> torch.Tensor:
            numbers = next(samples)
            return renderer.draw(numbers, numbers, False)

        timing = time_batches(step, 0.1 if quick else 0.7, renderer.device, f"{recipe.family} {name} {value}")
        rows.append(
            {
                "family": recipe.family, "what": name, "value": value, "batch_size": batch_size,
                "images_per_second": spread(timing.rates, 1), "host_ms": round(timing.host_ms, 4),
                "device_ms": round(timing.device_ms or 0.0, 4), "peak_mib": timing.peak_mib,
            }
        )  # fmt: skip
    return {"rows": rows}


SEARCH = """
import json, sys, time
import torch, gpurender as gr
where = sys.argv[1]
gr.Renderer(gr.FractalDB(classes=5, seed=1), where).catalog  # compiles
start = time.perf_counter()
catalog = gr.Renderer(gr.FractalDB(classes=1000, seed=2), where).catalog
if where == "cuda":
    torch.cuda.synchronize()
print(json.dumps([time.perf_counter() - start, catalog.maps.cpu().double().flatten().tolist()]))
"""


def search(quick: bool) -> dict[str, Any]:
    """The category search of FractalDB for a seed that nobody has searched, and that the CPU finds the same."""
    found = {}
    for where in ("cuda", "cpu"):
        with tempfile.TemporaryDirectory() as folder:
            done = run([sys.executable, "-c", SEARCH, where], XDG_CACHE_HOME=folder)
        assert done.returncode == 0, done.stderr[-2000:]
        found[where] = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["cuda"][1] == found["cpu"][1], "the GPU finds other categories than the CPU"
    return {"seconds": round(found["cuda"][0], 3), "goal_seconds": 1.0, "cpu_seconds": round(found["cpu"][0], 3)}


DRAWING = """
import gpurender as gr, torch
for recipe in (gr.OnePFrac(), gr.FractalDB(image_size=512), gr.VisualAtom()):
    gr.Renderer(recipe, "cuda", cache_bytes=0)(range(0, len(recipe), len(recipe) // 512)[:512])
gr.Renderer("onepfrac-1k", "cuda")(range(0, 1_000_000, 2000))
torch.cuda.synchronize()
"""
SECTIONS = (
    "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "SchedulerStats", "WarpStateStats",
    "Occupancy", "LaunchStats",
)  # fmt: skip


def profile(quick: bool) -> dict[str, Any]:
    """Nsight Compute on the drawing kernels: issue slots, shared memory pipe, occupancy, and what warps wait for."""
    sections = [word for section in SECTIONS for word in ("--section", section)]
    metrics = ["--metrics", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum.pct_of_peak_sustained_elapsed"]
    command = [find("ncu"), "--clock-control", "none", "--csv", "-k", "regex:chaos_game_(grey|paint)|polyline_draw"]
    done = run([*command, *sections, *metrics, sys.executable, "-c", DRAWING])
    kernels = profiled(done.stdout)
    assert kernels, f"exit {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return {"kernels": kernels}


def profiled(text: str) -> list[dict[str, str]]:
    """One dictionary a launch, of ncu's table: a line a metric, below whatever the program has printed."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    launches: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(line for line in lines[start:] if line.startswith('"')):
        seen = launches.setdefault(row["ID"], {"kernel": row["Kernel Name"]})
        if row.get("Metric Name"):
            seen[row["Metric Name"]] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return list(launches.values())


def train(quick: bool) -> dict[str, Any]:
    """Steps of ViT-Tiny and ViT-Small with the loader and with one batch for ever."""
    rows = []
    for model, batch_size in (("vit_tiny_patch16_224", 512), ("vit_small_patch16_224", 256)):
        for name in PRESETS[:1] if quick else PRESETS[:3]:
            row = bench.measure(
                name, device="cuda", batch_size=batch_size, seconds=2.0 if quick else 7.0, stages=(), model=model
            )["rows"][-1]
            rows.append(row | {"goal_percent": STEP_GOALS[model]})
    return {"rows": rows}


def files(quick: bool) -> dict[str, Any]:
    """Steps of ViT-Tiny with torch's DataLoader, 16 workers over exported PNG files cropped by torchvision, beside
    steps with gpurender's and with one batch for ever.
    """
    from gpurender.export import export

    count, batch_size, device = 2048 if quick else 10_240, 256, torch.device("cuda")
    with tempfile.TemporaryDirectory() as folder:
        export("visualatom-1k", folder, limit=count, device="cuda")
        drawn = bench.endless(
            gr.DataLoader(
                "visualatom-1k", batch_size=batch_size, augment=gr.augment.Crop(), shuffle=True, device=device,
                dtype=torch.bfloat16,
            )
        )  # fmt: skip
        feeds = {
            "cached": itertools.repeat(next(drawn)),
            "drawn": drawn,
            "files": from_files(folder, batch_size),
        }
        trainer = training.Trainer("vit_tiny_patch16_224", classes=1000, image_size=224, device=device)
        times = training.step_times(trainer, feeds, device, 1.0 if quick else 8.0)
    steps = {name: spread(milliseconds, 3) for name, milliseconds in times.items()}
    rates = {name: round(1e3 * batch_size / step["median"], 1) for name, step in steps.items()}
    return {"images": count, "workers": 16, "batch_size": batch_size, "step_ms": steps, "images_per_second": rates}


def from_files(folder: str, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of image files, decoded and cropped by workers as bytes, normalised on the GPU."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    loader = torch.utils.data.DataLoader(
        ImageFolder(folder, transforms.Compose(steps)), batch_size=batch_size, shuffle=True, num_workers=16,
        pin_memory=True, drop_last=True, persistent_workers=True,
    )  # fmt: skip
    for images, targets in bench.endless(loader):
        there = images.to("cuda", non_blocking=True).bfloat16()
        yield (there / 127.5 - 1.0, targets.to("cuda", non_blocking=True))


def soak(quick: bool) -> dict[str, Any]:
    """200,000 small batches, or what eight minutes allow: memory stays flat, on the GPU and on the host."""
    batches = 2000 if quick else SOAK_BATCHES
    recipe = gr.OnePFrac(classes=64, instances=1000, points=256, image_size=32, fill_rate=0.0)
    loader = gr.DataLoader(
        recipe, batch_size=4, image_size=32, augment=gr.augment.Crop(), shuffle=True, device="cuda", fresh=True
    )
    used, start, seen = [], time.perf_counter(), 0
    with progress(total=batches, desc="soak", unit="batch") as bar:
        for seen, (images, _) in enumerate(bench.endless(loader), 1):
            bar.update()
            if seen % (batches // 20) == 0:
                assert bool(torch.isfinite(images).all())
                used.append((torch.cuda.memory_allocated() >> 10, torch.cuda.memory_reserved() >> 20, resident()))
                if seen == batches or time.perf_counter() - start > SOAK_SECONDS:
                    break
    allocated, reserved, host = zip(*used[1:], strict=True)
    memory = {"allocated_kib": allocated, "reserved_mib": reserved, "resident_mib": host}
    grows = (max(allocated) - min(allocated), max(reserved) - min(reserved), max(host) - min(host))
    if grows[0] >= 1024 or grows[1] > 0 or grows[2] >= 0.01 * max(host) + 8:
        raise AssertionError(f"memory is not flat: {memory}")
    return {"batches": seen, "batches_per_second": round(seen / (time.perf_counter() - start)), **memory}


STEPS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "tests": tests,
    "equality": equality,
    "sanitizer": sanitizer,
    "consumers": consumers,
    "table": preset_table,
    "augment": augment,
    "sweep": sweep,
    "search": search,
    "profile": profile,
    "train": train,
    "files": files,
    "soak": soak,
}


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository; the variables are added to its environment."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=PATIENCE
    )


class NotInstalledError(Exception):
    """A tool that a step needs is not there: the step is left out, which is no failure."""


def find(tool: str) -> str:
    """A tool of the CUDA toolkit."""
    folders = [Path("/usr/local/cuda/bin"), *sorted(Path("/opt/nvidia/nsight-compute").glob("*"), reverse=True)]
    found = shutil.which(tool) or next((str(place / tool) for place in folders if (place / tool).is_file()), None)
    if found is None:
        raise NotInstalledError(f"{tool} is not installed")
    return found


def resident() -> int:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def progress_of(items: Any, name: str) -> Iterator[Any]:
    """The items, beside a bar."""
    with progress(total=len(items), desc=name, unit="batch") as bar:
        for item in items:
            yield item
            bar.update()
