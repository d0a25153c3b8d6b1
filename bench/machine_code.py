"""What the compilers make of the kernels: registers, spills, shared memory, occupancy, loops.

    python -m bench.machine_code [--json FILE]

No GPU is needed: CuPy's NVRTC and Triton compile, and Triton brings the disassembler. Needs the extra `test`. CUDA C
kernels are read loop by loop; Triton kernels (triton_code.py) as launched by a training step.
"""

import argparse
import collections
import re
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from bench import result_file, sass
from gpurender.kernels.chaos_game import gpu as chaos_game
from gpurender.kernels.device import runs
from gpurender.kernels.diamond_square import gpu as diamond_square
from gpurender.kernels.point_cloud import gpu as point_cloud
from gpurender.kernels.resized_crop import gpu as resized_crop
from gpurender.kernels.resized_crop import gpu_room
from gpurender.kernels.visual_atom import gpu as visual_atom
from gpurender.runtime import cuda, cupy_cache
from gpurender.util.atomic_files import check_writable

KIB = 1 << 10
# Published limits (CUDA programming guide, compute capabilities): shared memory of a block and of a multiprocessor,
# threads and registers of a multiprocessor.
CHIPS = {
    "sm_80": (cuda.Limits(108, 163 * KIB, 164 * KIB), 2048),  # A100
    "sm_89": (cuda.Limits(128, 99 * KIB, 100 * KIB), 1536),  # Ada
    "sm_90": (cuda.Limits(132, 227 * KIB, 228 * KIB), 2048),  # H100, H200
    "sm_100": (cuda.Limits(148, 227 * KIB, 228 * KIB), 2048),  # B200
}
REGISTERS = 65_536
SIZE, SIDE, VERTICES = 512, 224, 1000  # of the canvas, of a crop, and of an atom, that occupancy is stated for
LINES_A_SUM = 8  # pixels of a crop that a thread sums at once, four taps of each per pass of the loop
POINTS_A_LOOP = 8  # of a walk: the picks of one Philox call
COUNTED = ("FMNMX", "FMNMX3", "F2I", "ATOMS", "RED", "REDG", "ATOMG", "LDS", "STS", "FFMA", "STL", "LDL", "IDP")
WIDE_A_CALL = 18  # wide multiplications of a Philox call, the first two of which have a constant factor


@dataclass
class Loop:
    """A loop of a kernel: how long it is and what counts in it. A point costs ``per_point`` instructions, and
    ``per_map`` for each of its system's maps but the last; of a line, a pixel; of a sum, four taps of a pixel.
    """

    name: str
    instructions: int
    per_point: float
    per_map: float
    counts: dict[str, int]


@dataclass
class Kernel:
    """A kernel as compiled for one architecture."""

    name: str
    architecture: str
    registers: int
    spilled_bytes: int
    static_shared: int
    dynamic_shared: int
    threads: int
    blocks_a_multiprocessor: int
    loops: list[Loop] = field(default_factory=list)


def compiled(operation: str, architecture: str) -> tuple[bytes, dict[str, tuple[int, int, int]]]:
    """The machine code of an operation, as ``runtime.cuda.compiled`` makes it, and what the assembler says of each
    kernel: registers, spilled bytes, static shared memory.
    """
    cupy_cache.make_usable()
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(cuda.source(operation), f"{operation}.cu", (), ())
    nvrtc.compileProgram(program, (*cuda.OPTIONS, f"--gpu-architecture={architecture}", "--ptxas-options=-v"))
    log, code = nvrtc.getProgramLog(program), nvrtc.getCUBIN(program)
    nvrtc.destroyProgram(program)
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", part))
        shared = re.search(r"(\d+) bytes smem", part)
        registers = re.search(r"Used (\d+) registers", part)
        assert registers is not None, log
        found[part.split("'")[0]] = int(registers[1]), spilled, int(shared[1]) if shared else 0
    return code.ljust(-(-len(code) // 8) * 8, b"\0"), found  # CuPy 14 cuts off the last byte


def loops(body: list[str], labels: dict[str, int]) -> list[Loop]:
    """The loops that matter: walks (a whole Philox call and exactly eight points), lines (byte stores), and sums of
    taps (products of four bytes).
    """
    spans = sass.loop_spans(body, labels)
    walks: dict[str, list[Loop]] = {"frame": [], "splat": []}
    lines: list[Loop] = []
    for first, last in spans:
        nested = sass.within((first, last), spans)
        loop = _loop(body[first : last + 1], sum(b - a + 1 for a, b in nested))
        if loop is not None and loop.name in walks:
            walks[loop.name].append(loop)
        elif loop is not None and not nested:
            lines.append(loop)
    sums = [loop for loop in lines if loop.name.startswith("sum")]  # if any, other byte stores are no lines
    return [loop for kind in walks.values() for loop in _by_maps(kind)] + (sums or lines)


def _by_maps(walks: list[Loop]) -> list[Loop]:
    """Name the variants of a walk: the more maps, the longer; those that choose among any number do it in loops."""
    plain = [loop for loop in walks if not loop.per_map]
    looped = [loop for loop in walks if loop.per_map]
    for loop, maps in zip(plain, ("2 maps", "4 maps", "8 maps"), strict=False):
        loop.name += f", {maps}"
    for loop, maps in zip(looped, ("any", "any, bands"), strict=False):
        loop.name += f", {maps}"
    return plain + looped


def _loop(body: list[str], nested: int) -> Loop | None:
    """What a loop is, if it matters; ``nested``: instructions of the loops in it, each run once a map but the last."""
    codes = [re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0] for instruction in body]
    ops = collections.Counter(code.split(".")[0] for code in codes)
    counts = {op: ops[op] for op in COUNTED if ops[op]}
    wide = sum(code.startswith(("IMAD.WIDE.U32", "IMAD.HI.U32")) for code in codes)
    extremes = ops["FMNMX"] + 2 * ops["FMNMX3"]
    if wide == WIDE_A_CALL and (ops["F2I"] == 2 * POINTS_A_LOOP or (not ops["F2I"] and extremes == 4 * POINTS_A_LOOP)):
        per_point = round((len(body) - nested) / POINTS_A_LOOP, 2)
        return Loop("splat" if ops["F2I"] else "frame", len(body), per_point, round(nested / POINTS_A_LOOP, 2), counts)
    if ops["IDP"] == 3 * LINES_A_SUM:  # three digits of the weights
        name = "sum" if ops["LDS"] else "sum, device memory"
        return Loop(name, len(body), round(len(body) / LINES_A_SUM, 2), 0.0, counts)
    stores = sum(code.startswith(("ST.E.U8", "ST.U8", "STS.U8")) for code in codes)
    if stores and len(body) <= 16 * stores:
        return Loop("line", len(body), round(len(body) / stores, 2), 0.0, counts | {"byte stores": stores})
    return None


def launch_of(name: str, limits: cuda.Limits) -> tuple[int, int]:
    """Threads and bytes of dynamic shared memory of a block, as the launchers ask for them."""
    if name.startswith("visual_atom"):
        return -(-VERTICES // 32) * 32, visual_atom.layout(SIZE, VERTICES, 0.0, limits).shared
    if name.startswith("resized_crop"):
        room = gpu_room.shared_room(SIZE, SIZE, SIDE, SIDE, limits)
        assert room is not None
        return resized_crop.THREADS, 0 if name == "resized_crop_large" else gpu_room.UNIT * room.units
    if name.startswith("point_cloud"):
        return point_cloud.THREADS, 0
    if name == "chaos_game_density":
        return chaos_game.THREADS, chaos_game.LEAST_SHARED
    if name.startswith("diamond_square"):
        return diamond_square.THREADS, 0
    if name.startswith(("collage", "pixel_noise", "warp")):
        return runs.THREADS, 0
    if name == "chaos_game_color":
        return chaos_game.THREADS, 4 * (SIZE // 32) * chaos_game.MASK_ROWS
    return chaos_game.THREADS, chaos_game.bands(SIZE, limits)[2]


def inspect(operation: str, architecture: str) -> list[Kernel]:
    """The kernels of an operation on an architecture."""
    limits, most_threads = CHIPS[architecture]
    binary, resources = compiled(operation, architecture)
    code = sass.instructions(binary)
    kernels = []
    for name, (registers, spilled, static) in sorted(resources.items()):
        threads, dynamic = launch_of(name, limits)
        warps = -(-threads // 32)
        blocks = min(
            most_threads // (32 * warps),
            REGISTERS // (-(-registers // 8) * 8 * 32 * warps),
            limits.shared_a_multiprocessor // (static + dynamic + KIB),  # a block costs one KB more
        )
        kernel = Kernel(name, architecture, registers, spilled, static, dynamic, threads, blocks)
        kernel.loops = loops(*code[name])
        kernels.append(kernel)
    return kernels


def table(kernels: list[Kernel]) -> str:
    """For people."""
    lines = [
        f"{'kernel':<20}{'chip':<8}{'registers':>9}{'spilled':>8}{'static':>8}{'dynamic':>9}{'threads':>8}{'blocks/SM':>10}"
    ]
    for k in kernels:
        lines.append(
            f"{k.name:<20}{k.architecture:<8}{k.registers:>9}{k.spilled_bytes:>8}{k.static_shared:>8}"
            f"{k.dynamic_shared:>9}{k.threads:>8}{k.blocks_a_multiprocessor:>10}"
        )
    costs: dict[tuple[str, str], dict[str, str]] = {}
    for k in kernels:
        for number, loop in enumerate(
            loop for kind in ("frame", "splat", "line", "sum") for loop in k.loops if kind in loop.name
        ):
            name = loop.name + (f" {number + 1}" if loop.name.startswith(("line", "sum")) else "")
            text = f"{loop.per_point:.1f}" + (f" + {loop.per_map:g} a map" if loop.per_map else "")
            costs.setdefault((k.name, name), {})[k.architecture] = text
    chips = list(dict.fromkeys(k.architecture for k in kernels))
    lines += ["", f"{'instructions a point or pixel':<42}" + "".join(f"{chip:>18}" for chip in chips)]
    for (kernel, name), found in costs.items():
        lines.append(f"{kernel:<20}{name:<22}" + "".join(f"{found.get(chip, '-'):>18}" for chip in chips))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="also write it as JSON")
    options = parser.parse_args(arguments)
    from bench import triton_code  # it imports Triton, which the rest does without

    if options.json:
        check_writable(options.json)
    kernels = [kernel for chip in CHIPS for operation in cuda.OPERATIONS for kernel in inspect(operation, chip)]
    print(table(kernels) + "\n")
    specialised = []
    for chip in tqdm(CHIPS, desc="Triton", unit="chip"):
        specialised += triton_code.inspect(chip)
    print(triton_code.table(specialised))
    result = {
        "kernels": [asdict(kernel) for kernel in kernels],
        "triton_kernels": [asdict(kernel) for kernel in specialised],
    }
    if options.json:
        result_file.write(options.json, **result)
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
