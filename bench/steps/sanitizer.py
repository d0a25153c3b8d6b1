"""compute-sanitizer on a small batch of every kernel."""

import re
import sys
from collections import Counter

from bench.steps.seen import NotInstalledError, Seen
from bench.steps.tools import find, run

SMALL_BATCHES = """
import sys, time
import torch, gpurender as gr
device = sys.argv[1]
end = time.monotonic() + float(sys.argv[2])  # under the tool the imports alone take long
recipes = {
    "onepfrac": gr.OnePFrac(classes=9, instances=3, points=9000, image_size=96, fill_rate=0.0),
    "visualatom": gr.VisualAtom(classes=9, instances=3, image_size=128, orbits=(1, 9)),
    "fractaldb": gr.FractalDB(classes=2, points=4000, image_size=97, draw_type="patch_color"),
}
policies = (
    gr.augment.Crop(),
    gr.augment.DeiT(force_color_jitter=True, gaussian_blur_prob=0.5, re_count=2),
    gr.augment.DeiT.visualatom(auto_augment="rand-m9-n5-mstd2-p0.9", re_mode="rand", mixup_mode="elem"),
)
for place, (name, recipe) in enumerate(recipes.items()):
    if place and time.monotonic() > end:
        print("LEFT", name, flush=True)
        continue
    for cache in (0, 1 << 28):
        gr.Renderer(recipe, device, cache_bytes=cache)(range(12))
    if device != "cpu":
        torch.cuda.synchronize()
    print("RAN", name, "canvases", flush=True)
    for policy in policies:
        next(iter(gr.DataLoader(recipe, batch_size=8, augment=policy, shuffle=True, device=device, fresh=True)))
    if device != "cpu":
        torch.cuda.synchronize()
    print("RAN", name, "batches", flush=True)
"""
RACE = re.compile(
    r"Race reported between (?P<first>\w+) access at (?P<here>[^\n]+)\n"
    r"=+\s+and (?P<second>\w+) access at (?P<there>[^\n]+)"
)
# Races that are meant, because every order of execution gives the same bytes; racecheck reports them all the same.
KNOWN = {
    "a bit is looked at before it is set by an atomic; whoever sees an old word sets it once more": (
        "chaos_game", ({"Read", "Write"}, {"Read", "Atomic"}),
    ),
    "segments of a ring write the same grey into a pixel that they share": ("visual_atom_render", ({"Write"},)),
}  # fmt: skip


def memcheck(seen: Seen) -> None:
    """Every access within its allocation. Without torch's cache a tensor is an allocation of its own, so that its ends
    are watched; API calls that torch tries at its start and that fail are none of ours, and not reported.
    """
    status, text = checked(seen, "memcheck", "--report-api-errors", "no", "--error-exitcode", "9")
    if status or not seen.rows:
        raise AssertionError(f"exit {status}, {len(seen.rows)} parts have run: {excerpt(text)}")


def racecheck(seen: Seen) -> None:
    """No two threads of a block meet in shared memory, apart from the known kinds, which are counted."""
    status, text = checked(seen, "racecheck")
    known, other = races(text)
    seen.note(known_races=known, other_races=other)
    if status or other or not seen.rows:
        said = f"exit {status}, {len(seen.rows)} parts have run, {len(other)} unknown kinds of races"
        raise AssertionError(f"{said}: {other[:5]} {excerpt(text)}")


def checked(seen: Seen, tool: str, *options: str) -> tuple[int, str]:
    """Run the small batches under a tool, a row for each part that has run: always those of the first recipe, and
    others that can be begun in half of the time.
    """

    def heard(line: str) -> None:
        if line.startswith("RAN "):
            seen.row({"ran": line.removeprefix("RAN ").strip()})
        elif line.startswith("LEFT "):
            seen.note(left_out=[*seen.found.get("left_out", []), line.removeprefix("LEFT ").strip()])

    program = [sys.executable, "-c", SMALL_BATCHES, seen.device, str(0.5 * seen.left())]
    try:
        program = [find("compute-sanitizer"), "--tool", tool, *options, *program]
    except NotInstalledError:
        if seen.device != "cpu":
            raise
        status, text = run(program, on_line=heard)
        if status == 0:
            raise
        return status, text
    return run(program, on_line=heard, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def races(text: str) -> tuple[dict[str, int], list[str]]:
    """How often each known kind of race is reported, and the other reports."""
    known: Counter[str] = Counter()
    other = []
    for race in RACE.finditer(text):
        accesses = {race["first"], race["second"]}
        kind = next(
            (
                why
                for why, (kernel, meant) in KNOWN.items()
                if kernel in race["here"] and kernel in race["there"] and accesses in meant
            ),
            None,
        )
        if kind is None:
            other.append(" ".join(race[0].replace("=", " ").split()))
        else:
            known[kind] += 1
    return dict(known), other


def excerpt(text: str) -> str:
    """The first lines of a tool's report, and the last."""
    lines = [line for line in text.splitlines() if line.startswith("=========")]
    return "\n".join([*lines[:20], "...", *lines[-5:]])[:3000]
