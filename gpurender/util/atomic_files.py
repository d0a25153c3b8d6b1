"""Files that are there whole or not at all, written where their path leads.

A file is written under a temporary name beside its place and renamed into it. Symbolic links are followed: the file
behind a link is replaced, the link stays, and a link to nothing gets its file. What is no regular file (a device, a
pipe, ``/dev/stdout``, ``/dev/fd/63``) is never replaced: the finished bytes are written into it.

Some file systems refuse the rename, and some folders refuse new files (a file mounted into a container, a folder of
somebody else). A regular file there is written in place. The file is then not protected: a full disk or a kill while
the bytes are copied leaves a part of it.
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

# A folder or file system says so when it will not have a new file or a rename, though the file itself may be writable.
REFUSALS = {
    errno.EACCES, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EROFS,
    errno.EXDEV,
}  # fmt: skip


DISK = {errno.EDQUOT, errno.EIO, errno.ENOSPC}  # the machine's matter, not the path's


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[str]:
    """Yield the path of a temporary file; its bytes go to ``path`` when the block ends well, nowhere when it does not.

    A new file has the mode that the umask (or the folder's access list) gives, a replaced one keeps its permissions
    where the file system can. The umask is not touched.

    Args:
        path: a regular file, something to write into, or nothing yet.
        durable: the bytes are on the disk before the file takes its place, so that a power cut leaves the old file or
            the new one (fsync). Without it a power cut may leave an empty file; a kill never does.

    Raises:
        OSError: naming ``path``, whichever file it was about: it cannot be written, or is protected (no write bit is
            set, whoever asks).
    """
    path = os.fsdecode(path)
    target = temporary = None
    try:
        target = _regular(path)
        temporary = _temporary(target)
        yield temporary
        if durable:
            _sync(temporary)
        if target is None or not _moved(temporary, target):
            _copy(temporary, target or path)
            if durable and target is not None:
                _sync(target)
            with contextlib.suppress(OSError):  # a store of objects without deletion
                os.unlink(temporary)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if not isinstance(error, OSError) or error.errno is None or error.filename not in (None, temporary, target):
            raise
        if error.errno == errno.EPIPE and _descriptor(path) is not None:  # standard output's: the command's own matter
            raise
        raise OSError(error.errno, error.strerror, path) from error


def keep(path: Path, data: bytes) -> OSError | None:
    """Write a file of a cache, whole or not at all, in a folder that is made; return what forbade it.

    A cache's file may be replaced, whoever wrote it: one that cannot be read or written would be in the way for ever.
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
    """Find out by trying whether ``path`` can be written, before long work.

    A block of 4096 bytes is written beside a regular file and removed. What is no regular file is only asked for its
    permission if it is a pipe, whose reader would take an opening and closing for the end; else it is opened.

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
        temporary = _temporary(target)
        try:
            if os.path.dirname(temporary) == os.path.dirname(target):
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
    """The real path of a regular file, existing or to be made; ``None`` if ``path`` leads to something to write into.

    Raises:
        OSError: a directory, a socket, a protected file, links in a circle.
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
    if not mode & 0o222:  # root could, but somebody wanted to keep it
        raise PermissionError(errno.EACCES, "the file there is read-only", path)
    if not os.access(path, os.W_OK):
        os.close(os.open(path, os.O_WRONLY))  # says why
    return os.path.realpath(path)


def _descriptor(path: str) -> int | None:
    """The number of this process's own descriptor that ``path`` names, as ``/dev/stdout`` and ``/dev/fd/63`` do.

    Such a name opened anew would write from the beginning of a file, over what stands there: it is written into as it
    is open.
    """
    for _ in range(40):  # as many links as Linux follows
        try:
            link = os.readlink(path)
        except OSError:  # most paths are no link
            return None
        folder, name = os.path.split(os.path.abspath(path))
        folder = os.path.realpath(folder)
        if name.isdigit() and folder == os.path.realpath("/proc/self/fd"):
            return int(name)
        path = os.path.join(folder, link)
    return None


def _temporary(target: str | None) -> str:
    """Make an empty file, beside ``target`` where it is to be renamed to it; no more open to others than ``target``."""
    if target is not None:
        name = os.path.join(os.path.dirname(target), TEMPORARY + os.urandom(8).hex())
        mode = _mode(target)
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode | 0o600))
            return name
        except OSError as error:
            if error.errno not in REFUSALS or not os.path.exists(target):
                raise OSError(error.errno, error.strerror, target) from None
    handle, name = tempfile.mkstemp(prefix=TEMPORARY)
    os.close(handle)
    return name


def _moved(temporary: str, target: str) -> bool:
    """Rename the file to ``target``; whether the file system would."""
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
    """The permissions of a file; ``None`` if there is none."""
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        return None


def _copy(temporary: str, path: str) -> None:
    """Write the bytes of a file into what ``path`` leads to."""
    descriptor = _descriptor(path)
    for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
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
    """Wait until the bytes of a file are on the disk, where the file system has a way to."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in REFUSALS:  # EIO, ENOSPC: they are not
            raise
    finally:
        os.close(handle)
