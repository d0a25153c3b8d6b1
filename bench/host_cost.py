"""What a batch costs the host on the GPU path: CUDA and Triton launches, torch's kernels, time. No GPU is needed.

    python -m bench.host_cost [--json FILE]

The launches of a batch are made without a graph and nothing is run: CUDA C launches are counted where CuPy would be
called, Triton's own launcher runs up to the call of the driver, with kernels compiled for sm_90. Torch's operators run
on tensors of the CPU, of batches of 256 from recipes of ten classes, so that they are small. Needs the extra `test`.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from triton.backends.compiler import GPUTarget

import gpurender as gr
from bench import result_file
from bench.machine_code import CHIPS
from gpurender.augment import named
from gpurender.kernels import visual_atom
from gpurender.loading.pipeline import BatchPipeline
from gpurender.loading.plan import IndexBatch
from gpurender.runtime import cuda, cuda_streams, devices, dispatch
from gpurender.util.atomic_files import check_writable

PRESETS = ("onepfrac-1k", "fractaldb-1k", "visualatom-1k")
POLICIES = ("crop", "deit")
BATCH, SIZE, REPEATS = 256, 224, 200
ADDRESSES = ("place", "divide")  # kernels that write indices
MAKES = ("aten::empty", "aten::new_empty", "aten::empty_like")  # operators that only allocate


@dataclass
class Sequence:
    """The launches of one batch.

    Attributes:
        preset, policy, fresh: of the loader.
        own: names of the library's kernels, in order.
        torch: names of torch's operators that launch a kernel, in order; views and allocations launch none.
        host_us: microseconds of the host's thread (its CPU time), median; 0 if it was not timed.
    """

    preset: str
    policy: str
    fresh: bool
    own: list[str]
    torch: list[str]
    host_us: float = 0.0


class Counted(TorchDispatchMode):
    """Notes torch's operators that launch a kernel on a GPU."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name not in MAKES and not _is_view(func) and _launches(made):
            self.found.append(name)
        return made


def _is_view(func: Any) -> bool:
    """Return whether an operator returns its argument's memory, unchanged."""
    return any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)


def _launches(made: Any) -> bool:
    """Return whether an operator that returns ``made`` launches a kernel: not for tensors without elements."""
    tensors = made if isinstance(made, (list, tuple)) else [made]
    return any(isinstance(tensor, torch.Tensor) and tensor.numel() for tensor in tensors)


class Driver:
    """What Triton asks of a GPU's driver, for a GPU of sm_90 that does nothing."""

    utils = SimpleNamespace(
        load_binary=lambda *_: (1, 1, 32, 0, 1024),
        unload_module=lambda *_: None,
        get_device_properties=lambda _: {"max_shared_mem": 227 << 10},
    )

    @staticmethod
    def launcher_cls(_source: Any, _metadata: Any) -> Any:
        return lambda *_: None

    @staticmethod
    def get_current_device() -> int:
        return 0

    @staticmethod
    def get_current_stream(_device: int) -> int:
        return 0

    @staticmethod
    def get_current_target() -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


@contextlib.contextmanager
def gpu_that_does_nothing(launcher: bool) -> Iterator[list[str]]:
    """Send CPU tensors along the path of a GPU; yield the names of the kernels launched, which are not run.

    ``launcher``: whether Triton's launcher runs, which compiles each kernel at its first launch.
    """
    own: list[str] = []

    def launch(operation: str, name: str, *, arguments: Any, **_: Any) -> None:
        _values = tuple(cuda._value(argument) for argument in arguments)
        own.append(name)

    run = triton.runtime.jit.JITFunction.run

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        own.append(self.fn.__name__)
        if self.fn.__name__ in ADDRESSES:
            with _disable_current_modes():
                for argument in arguments:
                    if isinstance(argument, torch.Tensor) and argument.dtype == torch.int64 and len(argument) == BATCH:
                        argument.zero_()  # indices, which torch's operators read: no kernel writes them
        return run(self, *arguments, **options) if launcher else None

    with contextlib.ExitStack() as stack:
        for target, name, value in (
            (devices, "on_gpu", lambda _: True),
            (dispatch, "backend", lambda _: "gpu"),
            (cuda, "launch", launch),
            (cuda, "limits", lambda _: CHIPS["sm_90"][0]),
            (cuda_streams, "settle", lambda _: None),
            (cuda_streams, "lend", lambda *_: None),
            (visual_atom, "within", lambda *_: True),  # is asked of tensors on a CPU alone
            (triton.runtime.jit.JITFunction, "run", noted),
            (triton.runtime.driver, "_active", Driver()),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        yield own


def pipeline_of(preset: str, policy: str, fresh: bool, catalog: Any) -> BatchPipeline:
    """Return the pipeline of a loader, whose batches are launched one kernel at a time."""
    renderer = gr.Renderer(recipe_of(preset))
    renderer._catalog = catalog
    made = BatchPipeline(
        renderer, named.policy(policy), image_size=SIZE, dtype=torch.float32, memory_format=torch.contiguous_format,
        seed=0, shuffle=True, fresh=fresh, repeats=1,
    )  # fmt: skip
    made._graph_cache._off = True
    return made


def recipe_of(preset: str) -> gr.Recipe:
    """Return a preset with ten classes, one of which is taken as long as no kernel runs."""
    return gr.recipe(preset, classes=10)


def catalog_of(preset: str) -> Any:
    """Return the catalog of :func:`recipe_of`, as complete as on a GPU."""
    catalog = gr.Renderer(recipe_of(preset)).catalog
    if hasattr(catalog, "complete"):
        catalog.complete = True
    return catalog


def sequence(preset: str, policy: str, fresh: bool, catalog: Any) -> Sequence:
    """Return the launches of a batch."""
    found: list[str] = []
    with gpu_that_does_nothing(launcher=False) as own:
        pipeline = pipeline_of(preset, policy, fresh, catalog)
        with Counted(found):
            for _ in range(2):  # the first one makes tables
                own.clear()
                found.clear()
                render(pipeline)
    return Sequence(preset, policy, fresh, own, found)


def render(pipeline: BatchPipeline) -> None:
    """Launch a batch at the place where the cursor is."""
    pipeline._place = (0, 0)
    pipeline.render(IndexBatch(0, 0, 0, BATCH, BATCH, None, None), True)  # type: ignore[arg-type]  # no place after it


def microseconds(preset: str, policy: str, fresh: bool, catalog: Any, repeats: int) -> float:
    """Return the median time of the host's thread for the launches of a batch."""
    times = []
    with gpu_that_does_nothing(launcher=True):
        pipeline = pipeline_of(preset, policy, fresh, catalog)
        for _ in range(3 + repeats):
            start = time.thread_time()
            render(pipeline)
            times.append(1e6 * (time.thread_time() - start))
    return statistics.median(times[3:])


def sequences(repeats: int = 0) -> Iterator[Sequence]:
    """Yield the launches of a batch of every preset and policy, kept and fresh; timed, if ``repeats`` is not 0."""
    for preset in PRESETS:
        catalog = catalog_of(preset)
        for policy in POLICIES:
            for fresh in (False, True):
                made = sequence(preset, policy, fresh, catalog)
                if repeats:
                    made.host_us = microseconds(preset, policy, fresh, catalog, repeats)
                yield made


def main(arguments: list[str] | None = None) -> int:
    """Print a line per preset, policy and kind of loader; with --json write them to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args(arguments)
    if given.json:
        check_writable(given.json)
    torch.set_num_threads(1)
    rows = []
    print(f"{'preset':<16}{'policy':<8}{'loader':<8}{'own kernels':>12}{'torch kernels':>15}{'host us':>9}")
    for made in sequences(given.repeats):
        loader = "fresh" if made.fresh else "kept"
        print(
            f"{made.preset:<16}{made.policy:<8}{loader:<8}{len(made.own):>12}{len(made.torch):>15}{made.host_us:>9.0f}"
        )
        rows.append(asdict(made))
    if given.json:
        result_file.write(given.json, host_cost=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
