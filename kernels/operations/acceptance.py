"""Everything that must be seen on a GPU, in one command, and one JSON file of what was seen.

    python bench/acceptance.py [--quick] [--only STEP ...] [--out FILE]

Steps: tests, equality, sanitizer, consumers, table, sweep, search, profile, train, files, soak. A step that fails is
recorded with its error and the others go on. Exit status 1 if any failed. On an H200 all but the soak should fit ten
minutes (``--quick``: two); the soak takes as long again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import gpurender as gr
from gpurender import bench
from gpurender.environment import environment
from gpurender.progress import progress

ROOT = Path(__file__).resolve().parent.parent
GPU_TESTS = ("chaos_game_cuda", "polyline_cuda", "triton", "ahead", "graphs", "gpu_path")
PRESETS = ("onepfrac-1k", "fractaldb-1k", "visualatom-1k")
# DESIGN section 7, images/s on an H200; and what the chip could do at best (an estimate, reference/performance.md)
GOALS = {("onepfrac-1k", "raster"): 2e6, ("fractaldb-1k", "raster"): 2e6, ("visualatom-1k", "raster"): 1e6}
LIMITS = {"raster": 5.7e6, "write of 3 x 224 x 224 fp16": 15.9e6}
SOAK_BATCHES = 200_000


def tests(quick: bool) -> dict[str, Any]:
    """The tests marked gpu; none may be skipped for want of one."""
    files = [f"tests/test_{name}.py" for name in GPU_TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *files]
    done = run(command, env=os.environ | {"GPURENDER_REQUIRE_CUDA": "1", "PYTHONPATH": str(ROOT)})
    if done.returncode:
        raise AssertionError(done.stdout[-3000:])
    return {"summary": done.stdout.strip().splitlines()[-1]}


def small_recipes() -> dict[str, gr.Recipe]:
    """Recipes of mixed sizes whose canvases a CPU draws by the thousand."""
    return {
        "onepfrac": gr.OnePFrac(classes=2500, instances=4, points=8192, image_size=96, fill_rate=0.0),
        "onepfrac-paper": gr.OnePFrac(classes=500, instances=4, points=20_000, image_size=224, variant="paper"),
        "fractaldb": gr.FractalDB(classes=20, points=10_000, image_size=97),
        "fractaldb-color": gr.FractalDB(classes=5, points=5000, image_size=128, draw_type="patch_color"),
        "visualatom": gr.VisualAtom(classes=100, instances=100, image_size=224, orbits=(1, 40)),
        "visualatom-paper": gr.VisualAtom(classes=100, instances=100, image_size=97, orbits=(1, 40), variant="paper"),
    }


def equality(quick: bool) -> dict[str, Any]:
    """Canvases and augmented batches, byte for byte the CPU's: 10,000 of each recipe (quick: 500)."""
    checked = {}
    for name, recipe in small_recipes().items():
        samples = torch.arange(0, len(recipe), max(1, len(recipe) // (500 if quick else 10_000)))
        fast, plain, slow = gr.Renderer(recipe, "cuda"), gr.Renderer(recipe, "cuda", cache_bytes=0), gr.Renderer(recipe)
        for some in progress_of(samples.split(512), name):
            for epoch in (0, 1):
                wanted = slow(some, epoch)
                assert torch.equal(fast(some, epoch).cpu(), wanted), (name, epoch, some.tolist())
                assert torch.equal(plain(some, epoch).cpu(), wanted), (name, epoch, "without kept bitmaps")
        policy = gr.augment.Crop(interpolation="random", vflip=0.5)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            keywords = {"batch_size": 128, "augment": policy, "shuffle": True, "fresh": True, "dtype": dtype}
            feeds = (gr.DataLoader(recipe, device=device, **keywords) for device in ("cuda", "cpu"))
            for (images, targets), (others, labels), _ in zip(*feeds, range(3), strict=False):
                assert torch.equal(images.cpu(), others), (name, dtype)
                assert torch.equal(targets.cpu(), labels), (name, dtype)
        checked[name] = 2 * len(samples)
    return {"canvases": checked}


SMALL_BATCH = """
import torch, gpurender as gr
for recipe in (gr.OnePFrac(classes=9, instances=3, points=9000, image_size=96, fill_rate=0.0),
               gr.FractalDB(classes=2, points=4000, image_size=97, draw_type="patch_color"),
               gr.VisualAtom(classes=9, instances=3, image_size=128, orbits=(1, 9))):
    for cache in (0, 1 << 28):
        gr.Renderer(recipe, "cuda", cache_bytes=cache)(range(12))
    next(iter(gr.DataLoader(recipe, batch_size=8, augment=gr.augment.Crop(), shuffle=True, device="cuda", fresh=True)))
torch.cuda.synchronize()
"""


def sanitizer(quick: bool) -> dict[str, Any]:
    """compute-sanitizer's memcheck and racecheck on a small batch of every kernel."""
    tool = find("compute-sanitizer")
    found = {}
    for name in ("memcheck", "racecheck"):
        done = run([tool, "--tool", name, "--error-exitcode", "9", sys.executable, "-c", SMALL_BATCH])
        found[name] = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
        assert done.returncode == 0, f"{name}: {done.stdout[-3000:]}{done.stderr[-500:]}"
    return found


def consumers(quick: bool) -> dict[str, Any]:
    """Batches are right for consumers that keep all, work on streams of their own, compile, or replay graphs."""
    recipe = gr.VisualAtom(classes=50, instances=20, image_size=128, orbits=(1, 20))
    keywords = {"batch_size": 32, "image_size": 64, "shuffle": True, "augment": gr.augment.Crop()}
    wanted = [
        images.sum((1, 2, 3), dtype=torch.float64) for images, _ in gr.DataLoader(recipe, device="cpu", **keywords)
    ]

    def feed() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(gr.DataLoader(recipe, device="cuda", **keywords))

    def total(images: torch.Tensor) -> torch.Tensor:
        return images.sum((1, 2, 3), dtype=torch.float64)

    def check(name: str, sums: list[torch.Tensor]) -> None:
        for found, right in zip(sums, wanted, strict=True):
            assert torch.allclose(found.cpu(), right, rtol=1e-9), name

    kept = [images for images, _ in feed()]
    check("kept", [total(images) for images in kept])

    side, sums = torch.cuda.Stream(), []
    for images, _ in feed():
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            torch.cuda._sleep(2_000_000)  # the consumer is late
            sums.append(total(images))
        images.record_stream(side)
    torch.cuda.current_stream().wait_stream(side)
    check("record_stream", sums)

    compiled = torch.compile(total)
    check("compiled", [compiled(images) for images, _ in feed()])

    graph, still = torch.cuda.CUDAGraph(), torch.zeros(32, 3, 64, 64, device="cuda")
    total(still)
    with torch.cuda.graph(graph):
        result = total(still)
    sums = []
    for images, _ in feed():
        if len(images) < len(still):
            sums.append(total(images))
            continue
        still.copy_(images)
        graph.replay()
        sums.append(result.clone())
    check("graphed", sums)
    return {"batches": len(wanted)}


def preset_table(quick: bool) -> dict[str, Any]:
    """``gpurender bench`` of every preset against the goals."""
    rows = []
    for name in PRESETS:
        for batch_size in (256, 1024):
            rows += bench.measure(name, device="cuda", batch_size=batch_size, seconds=1.0 if quick else 3.0)["rows"]
    for row in rows:
        goal = GOALS.get((row["recipe"], row["stage"]))
        row["percent_of_goal"] = percent(row["images_per_second"]["median"], goal)
        row["percent_of_limit"] = percent(row["images_per_second"]["median"], LIMITS.get(row["stage"]))
    return {"rows": rows}


def sweep(quick: bool) -> dict[str, Any]:
    """Raster by batch size, canvas and points; without kept bitmaps, so that everything is drawn."""
    rows = []
    sizes = (1, 16, 256, 2048) if quick else (1, 4, 16, 64, 128, 256, 512, 1024, 2048)
    cases = [("batch_size", n, gr.OnePFrac(classes=n), n) for n in sizes]
    cases += [("image_size", s, gr.OnePFrac(classes=256, image_size=s), 256) for s in (224, 362, 512, 768, 1024)]
    cases += [
        ("points", p, gr.OnePFrac(classes=256, points=p, fill_rate=0.0), 256) for p in (10_000, 100_000, 1_000_000)
    ]
    cases += [("atoms, image_size", s, gr.VisualAtom(image_size=s), 256) for s in (224, 512, 1024)]
    for name, value, recipe, batch_size in cases:
        renderer = gr.Renderer(recipe, "cuda", cache_bytes=0)
        samples = torch.arange(batch_size, device="cuda") % len(recipe)
        rates = bench._rates(
            lambda renderer=renderer, samples=samples: renderer.draw(samples, samples, False),
            0.2 if quick else 1.0, torch.device("cuda", 0), f"{name} {value}", bench.WARM_UP,
        )  # fmt: skip
        rows.append({"family": recipe.family, name: value, **rates})
    return {"rows": rows}


def search(quick: bool) -> dict[str, Any]:
    """The category search of FractalDB for a seed that nobody has searched."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import time, gpurender as gr, torch\n"
            "gr.Renderer(gr.FractalDB(classes=5, seed=1), 'cuda').catalog\n"  # compiles
            "start = time.perf_counter()\n"
            "gr.Renderer(gr.FractalDB(classes=1000, seed=2), 'cuda').catalog\n"
            "torch.cuda.synchronize()\n"
            "print(time.perf_counter() - start)\n"
        )
        done = run([sys.executable, "-c", code], env=os.environ | {"XDG_CACHE_HOME": folder, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr[-2000:]
    seconds = float(done.stdout.strip().splitlines()[-1])
    return {"seconds": round(seconds, 3), "goal_seconds": 1.0}


def profile(quick: bool) -> dict[str, Any]:
    """Nsight Compute on the drawing kernels: what they are bound by."""
    tool = find("ncu")
    metrics = (
        "sm__throughput.avg.pct_of_peak_sustained_elapsed,sm__issue_active.avg.pct,"
        "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed,"
        "sm__warps_active.avg.pct_of_peak_sustained_active,dram__throughput.avg.pct_of_peak_sustained_elapsed"
    )
    code = (
        "import gpurender as gr, torch\n"
        "for r in (gr.OnePFrac(classes=512), gr.FractalDB(classes=20, image_size=512), gr.VisualAtom()):\n"
        "    gr.Renderer(r, 'cuda', cache_bytes=0)(range(512))\n"
        "torch.cuda.synchronize()\n"
    )
    kernels = "regex:chaos_game_grey|polyline_draw"
    command = [
        tool,
        "--clock-control",
        "none",
        "--csv",
        "-k",
        kernels,
        "--metrics",
        metrics,
        sys.executable,
        "-c",
        code,
    ]
    done = run(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return {"csv": [line for line in done.stdout.splitlines() if line.startswith('"')][-40:]}


def train(quick: bool) -> dict[str, Any]:
    """Steps of ViT-Tiny and ViT-Small with the loader and with one batch for ever."""
    rows = []
    for model, batch_size in (("vit_tiny_patch16_224", 512), ("vit_small_patch16_224", 256)):
        for name in PRESETS[:1] if quick else PRESETS:
            result = bench.measure(
                name, device="cuda", batch_size=batch_size, seconds=2.0 if quick else 8.0, train=model
            )
            rows.append(result["rows"][-1])
    return {"rows": rows}


def files(quick: bool) -> dict[str, Any]:
    """torch's DataLoader with 16 workers over exported PNG files, cropped by torchvision on the CPU: images/s."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from gpurender.export import export

    count = 2000 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        export("visualatom-1k", folder, limit=count, device="cuda")
        steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        dataset = ImageFolder(folder, transforms.Compose([*steps, transforms.Normalize((0.5,) * 3, (0.5,) * 3)]))
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=256, shuffle=True, num_workers=16, pin_memory=True, drop_last=True
        )
        rates = []
        for _ in range(2):  # the second pass reads from the page cache
            start, images = time.perf_counter(), 0
            for batch, targets in loader:
                images += len(batch.to("cuda", non_blocking=True)) + 0 * len(targets.to("cuda", non_blocking=True))
            torch.cuda.synchronize()
            rates.append(round(images / (time.perf_counter() - start), 1))
    return {"images": count, "workers": 16, "images_per_second": rates}


def soak(quick: bool) -> dict[str, Any]:
    """Many small batches: memory stays flat, on the GPU and on the host."""
    batches = 2000 if quick else SOAK_BATCHES
    recipe = gr.OnePFrac(classes=64, instances=1000, points=256, image_size=32, fill_rate=0.0)
    loader = gr.DataLoader(
        recipe, batch_size=4, image_size=32, augment=gr.augment.Crop(), shuffle=True, device="cuda", fresh=True
    )
    seen, used = 0, []
    with progress(total=batches, desc="soak", unit="batch") as bar:
        while seen < batches:
            for images, _ in loader:
                seen += 1
                bar.update()
                if seen % (batches // 10) == 0:
                    assert bool(torch.isfinite(images).all())
                    used.append((torch.cuda.memory_allocated() >> 10, torch.cuda.memory_reserved() >> 20, resident()))
                if seen == batches:
                    break
    allocated, reserved, host = zip(*used[1:], strict=True)
    assert max(reserved) == min(reserved), f"reserved MiB: {reserved}"
    assert max(host) - min(host) < 0.01 * max(host) + 8, f"resident MiB: {host}"
    return {"batches": seen, "allocated_kib": allocated, "reserved_mib": reserved[-1], "resident_mib": host}


STEPS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "tests": tests,
    "equality": equality,
    "sanitizer": sanitizer,
    "consumers": consumers,
    "table": preset_table,
    "sweep": sweep,
    "search": search,
    "profile": profile,
    "train": train,
    "files": files,
    "soak": soak,
}


def run(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment_ = env or os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment_, check=False)


def find(tool: str) -> str:
    """A tool of the CUDA toolkit."""
    places = (shutil.which(tool), f"/usr/local/cuda/bin/{tool}", "/opt/nvidia/nsight-compute/ncu")
    for place in places:
        if place and Path(place).exists() and Path(place).name == tool:
            return place
    raise FileNotFoundError(f"{tool} is not installed")


def percent(value: float, of: float | None) -> float | None:
    return None if of is None else round(100.0 * value / of, 1)


def resident() -> int:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def progress_of(items: Any, name: str) -> Iterator[Any]:
    with progress(total=len(items), desc=name, unit="batch") as bar:
        for item in items:
            yield item
            bar.update()


def perform(steps: dict[str, Callable[[bool], dict[str, Any]]], quick: bool, out: str) -> dict[str, Any]:
    """Run the steps; the file is written after each, so that what was seen survives whatever comes."""
    result: dict[str, Any] = {"environment": environment(), "quick": quick, "steps": {}}
    for name, step in steps.items():
        start = time.perf_counter()
        try:
            seen = {"passed": True} | step(quick)
        except FileNotFoundError as error:
            seen = {"passed": None, "error": str(error)}
        except Exception as error:
            seen = {
                "passed": False,
                "error": f"{type(error).__name__}: {error}"[:4000],
                "where": traceback.format_exc()[-1500:],
            }
        seen["seconds"] = round(time.perf_counter() - start, 1)
        result["steps"][name] = seen
        Path(out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"{name:<10} {mark(seen)} in {seen['seconds']} s", flush=True)
    return result


def mark(seen: dict[str, Any]) -> str:
    return {True: "passed", False: "FAILED", None: "left out"}[seen["passed"]]


def summary(result: dict[str, Any]) -> str:
    """A short table, for the end of a long log."""
    lines = []
    for name, seen in result["steps"].items():
        lines.append(f"{name:<10} {mark(seen):<9} {seen.get('summary') or seen.get('error', '')[:150]}")
        for row in seen.get("rows", []):
            if "images_per_second" not in row or "recipe" not in row:
                continue
            rate = row["images_per_second"]
            more = f", {row['overhead_percent']:+} % a step" if "overhead_percent" in row else ""
            kept = {True: " kept", False: " drawn", None: ""}[row.get("cached")]
            what = f"{row['recipe']:<14}{row['stage'] + kept:<14}{row['batch_size']:>5}"
            lines.append(f"  {what} {rate['median']:>12,.0f} images/s{more}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller measure of everything")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), metavar="STEP", help=f"some of {', '.join(STEPS)}")
    parser.add_argument("--out", default="acceptance.json", metavar="FILE", help="default acceptance.json")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("acceptance.py needs a CUDA device, and torch sees none", file=sys.stderr)
        return 2
    chosen = {name: step for name, step in STEPS.items() if not options.only or name in options.only}
    result = perform(chosen, options.quick, options.out)
    print(summary(result))
    return 1 if any(seen["passed"] is False for seen in result["steps"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
