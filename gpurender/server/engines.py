"""Experts by many machines: workers that Ray or Slurm places build one server, whose folder they all see.

What a worker does is what any process does that builds: it takes the jobs that are left by leases in the folder.
"""

from pathlib import Path

from gpurender.runtime import devices
from gpurender.search import ray_engine
from gpurender.server.building import go_on
from gpurender.server.data_server import DataServer
from gpurender.server.plan import Plan
from gpurender.util import checks


def on_ray(root: Path, workers: int | None, address: str | None) -> DataServer:
    """Let workers on Ray build a server that was begun; return it.

    Args:
        root: of the server, at the same path on all nodes.
        workers: how many, each with a GPU where the cluster has GPUs, else with a CPU; ``None``: one for each of them,
            at most one per expert.
        address: of the cluster, as :func:`gpurender.search.ray_engine.work` takes it.

    Raises:
        ValueError: an argument is not allowed, or a file of the server is damaged.
        RuntimeError: Ray or another package is missing, there is no cluster at the address, or a worker has failed.
    """
    if workers is not None:
        checks.integer("workers", workers, 1, 100_000)
    ray = ray_engine.require_ray()
    folder = root.resolve()
    plan = Plan.of(folder)
    if plan is None:
        raise ValueError(f"output: {str(root)!r} is no server that was begun")
    experts = len(plan.recipes) if plan.files is None else int(plan.files["k"])
    with ray_engine.connected(ray, address):
        ray_engine.spread(ray, _build, workers, str(folder), most=experts)
    return DataServer(root)


def _build(name: str, root: str) -> None:
    """Build what is left; the body of a task."""
    go_on(Path(root), devices.resolve(None))
