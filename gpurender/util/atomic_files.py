"""Atomic files: complete or absent, written to the target of their path.

A file is written under a temporary name in the same folder and then renamed. Symbolic links are followed: the target of
a link is replaced, the link stays, and the missing target of a dangling link is created. Anything but a regular file (a
device, a pipe, ``/dev/stdout``, ``/dev/fd/63``) is never replaced: the finished bytes are written into it.

Some file systems refuse the rename, and some folders refuse new files (a file mounted into a container, a folder of
another user). A regular file in such a place is overwritten in place. The file is then not protected: a full disk or a
kill while the bytes are copied leaves a partial file.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".gpurender-unfinished-"  # prefix of a file that is still being written

ABANDONED = 86_400  # seconds: a file that has been unfinished for a day belongs to no living process

# Errors of a folder or file system that refuses a new file or a rename, though the file itself may be writable.
REFUSALS = {
    errno.EACCES, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EROFS,
    errno.EXDEV,
}  # fmt: skip


DISK = {errno.EDQUOT, errno.EIO, errno.ENOSPC}  # errors of the machine, not of the path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[str]:
    """Yield the path of a temporary file; its bytes go to ``path`` if the block succeeds, else they are discarded.

    A new file gets the mode that the umask (or the folder's access list) gives; a replaced file keeps its permissions
    if the file system supports them. The umask is not touched.

    Args:
        path: a regular file, a device, pipe or descriptor to write into, or a path at which nothing exists yet.
        durable: the bytes are flushed to the disk (fsync) before the rename, so that a power cut leaves the old file or
            the new one. Without ``durable`` a power cut may leave an empty file; a kill never does.

    Raises:
        OSError: ``path`` cannot be written, or is protected (no write bit is set; this holds for root, too). The error
            names ``path``, whichever file failed.
    """
    path = os.fsdecode(path)
    target = temporary = None
    try:
        target = _regular(path)
        temporary = _name(target)  # before the file is made: a signal that comes meanwhile leaves no file behind
        if not _made(temporary, target):
            temporary = _name(None)
            _made(temporary, None)
        yield temporary
        if durable:
            _sync(temporary)
        if target is None or not _moved(temporary, target):
            _copy(temporary, target or path)
            if durable and target is not None:
                _sync(target)
            with contextlib.suppress(OSError):  # an object store without deletion
                os.unlink(temporary)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if not isinstance(error, OSError) or error.errno is None or error.filename not in (None, temporary, target):
            raise
        if error.errno == errno.EPIPE and _descriptor(path) is not None:  # standard output: handled by the command
            raise
        raise OSError(error.errno, error.strerror, path) from error


def keep(path: Path, data: bytes) -> OSError | None:
    """Write a cache file atomically, creating its folder; return the error that prevented it, or ``None``.

    An existing file that cannot be read or written is removed first, whichever user wrote it: the file would otherwise
    block its cache entry for ever.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            path.unlink()
        with replacing(path) as temporary:
            Path(temporary).write_bytes(data)
    except OSError as error:
        return error
    return None


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check by trying, before long work, whether ``path`` can be written.

    For a regular file, 4096 bytes are written to a temporary file in the same folder and removed. A pipe is not opened,
    because its reader would treat opening and closing as the end; only its permission is checked. Of a descriptor of
    this process the mode is checked. Any other target is opened.

    Raises:
        ValueError: it cannot be written.
        OSError: the disk is full or broken.
    """
    name = repr(os.fsdecode(path))
    try:
        _try(os.fsdecode(path))
    except ValueError as error:  # a null character
        raise ValueError(f"cannot write {name}: {error}") from None
    except OSError as error:
        if error.errno in DISK:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
        folder = os.path.dirname(os.path.abspath(path))
        missing = error.errno == errno.ENOENT and not os.path.isdir(folder) and not os.path.islink(path)
        reason = f"there is no folder {folder!r}" if missing else error.strerror or str(error)
        raise ValueError(f"cannot write {name}: {reason}") from None


def _try(path: str) -> None:
    target = _regular(path)
    if target is not None:
        temporary = _name(target)
        try:
            if _made(temporary, target):
                with open(temporary, "wb") as file:
                    file.write(bytes(4096))
            else:
                os.close(os.open(target, os.O_WRONLY))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    elif (descriptor := _descriptor(path)) is not None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "it is open for reading only")
    elif stat.S_ISFIFO(os.stat(path).st_mode):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))


def _regular(path: str) -> str | None:
    """Return the real path of a regular file that exists or is to be created; ``None`` for another target.

    Raises:
        OSError: ``path`` is a directory, a socket, a protected file or a circle of links.
    """
    if _descriptor(path) is not None:
        return None
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if not path or path.endswith(os.sep):
            raise
        return os.path.realpath(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory", path)
    if stat.S_ISSOCK(mode):
        raise OSError(errno.ENXIO, "it is a socket", path)
    if not stat.S_ISREG(mode):
        return None
    if not mode & 0o222:  # root could write, but the owner has protected the file
        raise PermissionError(errno.EACCES, "the file there is read-only", path)
    if not os.access(path, os.W_OK):
        os.close(os.open(path, os.O_WRONLY))  # raises the reason
    return os.path.realpath(path)


def _descriptor(path: str) -> int | None:
    """Return the number of this process's own descriptor that ``path`` names, as ``/dev/stdout`` and ``/dev/fd/63`` do.

    Opening such a name again would write from the beginning of its file, over the existing contents, so the bytes are
    written into the open descriptor.
    """
    for _ in range(40):  # as many links as Linux follows
        try:
            link = os.readlink(path)
        except OSError:  # most paths are not links
            return None
        folder, name = os.path.split(os.path.abspath(path))
        folder = os.path.realpath(folder)
        if name.isdigit() and folder == os.path.realpath("/proc/self/fd"):
            return int(name)
        path = os.path.join(folder, link)
    return None


def _name(target: str | None) -> str:
    """Return a free name for a temporary file: beside ``target``, or in the system's folder for such files."""
    folder = tempfile.gettempdir() if target is None else os.path.dirname(target)
    return os.path.join(folder, TEMPORARY + os.urandom(8).hex())


def _made(name: str, target: str | None) -> bool:
    """Make an empty file, no more accessible to others than ``target``; return whether its folder allows it."""
    mode = 0o600 if target is None else _mode(target)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode | 0o600))
    except OSError as error:
        if target is None or error.errno not in REFUSALS or not os.path.exists(target):
            raise OSError(error.errno, error.strerror, target or name) from None
        return False
    return True


def _moved(temporary: str, target: str) -> bool:
    """Rename the file to ``target``; return whether the file system allowed it."""
    if os.path.dirname(temporary) != os.path.dirname(target):
        return False
    mode = _mode(target)
    if mode is not None and mode != _mode(temporary):
        with contextlib.suppress(OSError):  # a file system without modes
            os.chmod(temporary, mode)
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        return False
    return True


def _mode(path: str) -> int | None:
    """Return the permissions of a file; ``None`` if there is no file."""
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        return None


def _copy(temporary: str, path: str) -> None:
    """Write the bytes of a file into the target of ``path``."""
    descriptor = _descriptor(path)
    for stream in (sys.stdout, sys.stderr):  # earlier prints come first in the output
        if descriptor is not None and stream is not None:
            stream.flush()
    if descriptor is not None:
        handle = os.dup(descriptor)
    elif os.path.exists(path) and not os.path.isfile(path):
        handle = os.open(path, os.O_WRONLY | os.O_NOCTTY)
    else:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    with open(handle, "wb") as sink, open(temporary, "rb") as source:
        shutil.copyfileobj(source, sink)


def _sync(path: str) -> None:
    """Wait until the bytes of a file are on the disk, if the file system supports fsync."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in REFUSALS:  # EIO, ENOSPC: the bytes are not on the disk
            raise
    finally:
        os.close(handle)
