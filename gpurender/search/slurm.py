"""Workers on Slurm: an array of jobs, each of which works on the study's folder."""

import shlex
import subprocess
import sys
from pathlib import Path

from gpurender.util import checks


def submit(study: Path, workers: int, minutes: float | None, together: int = 1) -> str:
    """Submit an array of workers by ``sbatch``; return the number of the job.

    A worker that is preempted is queued again, and goes on. What the cluster wants to know (partition, account, GPUs,
    time) is said by Slurm's own variables, such as ``SBATCH_PARTITION`` and ``SBATCH_GPUS``, or its defaults. What the
    workers say is in ``slurm-JOB_TASK.log`` in the folder.

    Args:
        study: the folder, which the nodes see at the same path.
        workers: how many jobs; 1 to 100,000.
        minutes: of each worker, or ``None``.
        together: how many configs each trains in step.

    Raises:
        RuntimeError: there is no ``sbatch``, or it refuses.
    """
    checks.integer("workers", workers, 1, 100_000)
    root = study.resolve()
    words = [sys.executable, "-m", "gpurender", "search", "work", str(root)]
    words += [] if minutes is None else ["--minutes", str(minutes)]
    words += [] if together == 1 else ["--together", str(together)]
    command = [
        "sbatch", "--parsable", "--requeue", f"--array=0-{workers - 1}", f"--job-name=gpurender-{root.name}",
        f"--output={root}/slurm-%A_%a.log", f"--wrap=exec {shlex.join(words)}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError("engine 'slurm' needs the program sbatch, and there is none here") from None
    if done.returncode:
        raise RuntimeError(f"sbatch refused: {' '.join(done.stderr.split()) or f'status {done.returncode}'}")
    return done.stdout.strip().partition(";")[0]  # JOB;CLUSTER on a federation
