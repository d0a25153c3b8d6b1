"""Options of commands whose work an engine can place on many machines: ``--engine``, ``--workers``, ``--address``."""

import argparse

ENGINES = ("local", "ray", "slurm")


def add_engine(command: argparse.ArgumentParser) -> None:
    """Add ``--engine``, ``--workers`` and ``--address`` to a command."""
    command.add_argument(
        "--engine", default="local", metavar="E", help="local (default): this process works; ray: workers on a Ray "
        "cluster, until none has work (extra 'ray'); slurm: submit an array of workers by sbatch",
    )  # fmt: skip
    command.add_argument(
        "--workers", type=int, metavar="N", help="how many workers, for --engine ray (default: the cluster's GPUs, or "
        "its CPUs if it has none) and slurm",
    )  # fmt: skip
    command.add_argument(
        "--address", metavar="A", help="of the Ray cluster, for --engine ray (default: RAY_ADDRESS, the one on this "
        "machine, or a new one here)",
    )  # fmt: skip


def check_engine(options: argparse.Namespace) -> None:
    """Refuse options that do not go together, of a command that has ``--device``, too; and engines that are not here.

    Raises:
        ValueError: naming the option.
        RuntimeError: there is no Ray, or no ``sbatch``.
    """
    from gpurender.util import checks

    checks.choice("--engine", options.engine, ENGINES)
    if options.address is not None and options.engine != "ray":
        raise ValueError("--address is for --engine ray")
    if options.device is not None and options.engine != "local":
        raise ValueError("--device is for --engine local: an engine gives each worker its GPU")
    if options.workers is not None and options.engine == "local":
        raise ValueError("--workers is for --engine ray or slurm; on this machine start the command several times")
    if options.workers is None and options.engine == "slurm":
        raise ValueError("--engine slurm needs --workers N")
    if options.workers is not None:
        checks.integer("workers", options.workers, 1, 100_000)
    if options.engine == "ray":
        from gpurender.search import ray_engine

        ray_engine.require_ray()
    if options.engine == "slurm":
        from gpurender.search import slurm

        slurm.require_sbatch()
