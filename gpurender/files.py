"""Files that are there whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

TEMPORARY = ".gpurender-unfinished-"  # prefix of a file that is still being written


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary file beside ``path``: takes its place when the block ends well, disappears when it does not."""
    path = os.path.abspath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=TEMPORARY)
    os.close(handle)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's own mode is for secrets
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` unless a file can be made at ``path``: asked before long work, not after."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ValueError(
            f"cannot write {os.fspath(path)!r}: it must be a file in a directory that exists and is writable"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
