"""What every training of a command does around its loop: its folder, the place where it goes on, its journal."""

import logging
import os
from pathlib import Path

from gpurender.training.journal import Journal
from gpurender.training.loop import CHECKPOINT, Training
from gpurender.util import checks
from gpurender.util.atomic_files import check_writable
from gpurender.util.plural import counted

log = logging.getLogger("gpurender")


def folder_of(output: str | os.PathLike[str]) -> Path:
    """Return the folder of a training, made if it is missing.

    Raises:
        ValueError: it cannot be made, or no file can be written into it.
    """
    folder = checks.path("output", output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output must be a folder, and {str(folder)!r} cannot be made: {error.strerror}") from None
    check_writable(folder / CHECKPOINT)
    return folder


def go(training: Training, log_every: int, save_every: int, tensorboard: bool) -> None:
    """Take the steps that are left of a training, from the state in its folder if there is one."""
    resumed = training.resume()
    main, steps = training.accelerator.is_main_process, training.settings.steps
    if resumed and main:
        log.warning("%s: %s of %d done", training.folder, counted(training.step, "step"), steps)
    journal = Journal(training.folder, training.step, steps, main, tensorboard)
    try:
        training.run(journal, log_every, save_every)
    finally:
        journal.close()
