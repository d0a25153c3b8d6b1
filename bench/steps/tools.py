"""Programs that steps run: their output is passed on line by line, so that a step that is killed has shown it."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from bench.steps.seen import NotInstalledError

ROOT = Path(__file__).resolve().parents[2]


def run(
    command: list[str], *, on_line: Callable[[str], object] | None = None, shown: int = 2000,
    interrupt_after: float = threading.TIMEOUT_MAX, **variables: str,
) -> tuple[int, str]:  # fmt: skip
    """Run a program in the repository.

    Args:
        command: the program and its arguments.
        on_line: called with each line as it comes; something true ends the program.
        shown: characters of a line that are passed on.
        interrupt_after: seconds; then it is sent SIGINT, so that it can write down what it has.
        variables: added to its environment.

    Returns:
        Its exit status, and what it printed on both outputs.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | variables
    lines = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", cwd=ROOT, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which nohup and a shell's & ignore
    ) as process:  # fmt: skip
        assert process.stdout is not None
        timer = threading.Timer(interrupt_after, process.send_signal, [signal.SIGINT])
        timer.daemon = True
        timer.start()
        try:
            for line in process.stdout:
                lines.append(line)
                print(line.rstrip("\n")[:shown], flush=True)
                if on_line is not None and on_line(line):
                    process.terminate()
        finally:
            timer.cancel()
    return process.returncode, "".join(lines)


def find(tool: str) -> str:
    """Return the path of a tool of the CUDA toolkit.

    Raises:
        NotInstalledError: it is not there.
    """
    folders = [Path("/usr/local/cuda/bin"), *sorted(Path("/opt/nvidia/nsight-compute").glob("*"), reverse=True)]
    found = shutil.which(tool) or next((str(place / tool) for place in folders if (place / tool).is_file()), None)
    if found is None:
        raise NotInstalledError(f"{tool} is not installed")
    return found
