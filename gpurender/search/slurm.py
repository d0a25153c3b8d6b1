"""Workers on Slurm: an array of jobs, each of which runs the same command on a folder that they share."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gpurender.util import checks


def require_sbatch() -> None:
    """See that there is a program ``sbatch``.

    Raises:
        RuntimeError: there is none.
    """
    if shutil.which("sbatch") is None:
        raise RuntimeError("engine 'slurm' needs the program sbatch, and there is none here")


def submit(words: Sequence[str], folder: Path, workers: int) -> str:
    """Submit an array of jobs that run a command of gpurender by ``sbatch``; return the number of the array.

    A worker that is preempted is queued again, and goes on. What the cluster wants to know (partition, account, GPUs,
    time) is said by Slurm's own variables, such as ``SBATCH_PARTITION`` and ``SBATCH_GPUS``, or its defaults. What the
    workers say is in ``slurm-JOB_TASK.log`` in the folder.

    Args:
        words: of the command, after ``gpurender``.
        folder: which the nodes see at the same path.
        workers: how many jobs; 1 to 100,000.

    Raises:
        RuntimeError: there is no ``sbatch``, or it refuses.
    """
    checks.integer("workers", workers, 1, 100_000)
    root = folder.resolve()
    command = [
        "sbatch", "--parsable", "--requeue", f"--array=0-{workers - 1}", f"--job-name=gpurender-{root.name}",
        f"--output={root}/slurm-%A_%a.log", f"--wrap=exec {shlex.join([sys.executable, '-m', 'gpurender', *words])}",
    ]  # fmt: skip
    require_sbatch()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"sbatch refused: {' '.join(done.stderr.split()) or f'status {done.returncode}'}")
    return done.stdout.strip().partition(";")[0]  # JOB;CLUSTER on a federation
