"""Files are whole or absent, go where their path leads, and have the modes that the user's umask gives."""

import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from gpurender.util import atomic_files, disk_cache
from gpurender.util.atomic_files import check_writable, replacing


def write(path, data=b"new", **options):
    with replacing(path, **options) as temporary, open(temporary, "wb") as file:
        file.write(data)


def permissions(path):
    return os.stat(path).st_mode & 0o777


def python(code, *words, **options):
    """Run code in a fresh interpreter of this checkout; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, words)], capture_output=True, text=True, timeout=60,
        **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_a_mount_namespace(script, folder, *words):
    """Run a shell script that may mount; skip where only root may, and where it exits with 77."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, to mount")
    probe = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    done = subprocess.run(
        ["unshare", "-m", "bash", "-euc", script, "bash", sys.executable, *map(str, words)], cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(f"not allowed here: {done.stderr.strip()}")
    return done


# ---------------------------------------------------------------------------------------------- whole or not at all


def test_the_temporary_file_lies_beside_the_target(tmp_path):
    """Elsewhere it might be on another file system, from which nothing can be renamed."""
    path = tmp_path / "a.bin"
    with replacing(path) as temporary:
        assert os.path.dirname(temporary) == str(tmp_path)
        assert os.path.basename(temporary).startswith(atomic_files.TEMPORARY)
        assert os.path.getsize(temporary) == 0
        assert not path.exists()
        with open(temporary, "wb") as file:
            file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a.bin"):
        (tmp_path / "missing.csv").read_bytes()
    assert str(caught.value.filename) == str(tmp_path / "missing.csv")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt(), RuntimeError("no")])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail():
        with replacing(path) as temporary:
            with open(temporary, "wb") as file:
                file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]
    if isinstance(error, OSError):  # write() names no file: the message would not say which disk is full
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))


def interrupted_at(step, path):
    """Write a file, with a Ctrl-C before instruction number ``step`` of the module; return whether one came."""
    left = step

    def count(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename not in (atomic_files.__file__, contextlib.__file__):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        write(path)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("target", ["old.bin", "new.bin", os.devnull])
def test_a_ctrl_c_at_any_instruction_leaves_no_temporary_file(tmp_path, monkeypatch, target):
    """A signal comes when it will, and most of all while the system makes a file."""
    (tmp_path / "old.bin").write_bytes(b"old")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(atomic_files.tempfile, "tempdir", str(tmp_path / "elsewhere"))
    path, step = tmp_path / target, 0  # a device's absolute path stays what it is
    while interrupted_at(step := step + 1, path):
        assert not os.listdir(tmp_path / "elsewhere")
        assert {*os.listdir(tmp_path)} <= {"elsewhere", "old.bin", target}
        assert (tmp_path / "old.bin").read_bytes() in (b"old", b"new")
        (tmp_path / "old.bin").write_bytes(b"old")
        (tmp_path / "new.bin").unlink(missing_ok=True)
    assert step > 200  # instructions


def test_a_full_disk_at_the_rename_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_durable_bytes_are_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(("fsync", os.fstat(handle).st_size)), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("replace", os.path.getsize(a))), replace(a, b)))
    write(tmp_path / "a", b"12345", durable=True)
    assert done == [("fsync", 5), ("replace", 5)]
    write(tmp_path / "a", b"12345")
    assert done[2:] == [("replace", 5)]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_without_fsync_takes_files_and_a_broken_one_does_not(tmp_path, monkeypatch, number):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    if number == errno.EINVAL:
        write(tmp_path / "a", durable=True)
    else:
        with pytest.raises(OSError, match="Input/output error"):
            write(tmp_path / "a", durable=True)
    assert (tmp_path / "a").read_bytes() == (b"new" if number == errno.EINVAL else b"old")
    assert os.listdir(tmp_path) == ["a"]


# -------------------------------------------------------------------------------------------- where the path leads


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/t.json").write_bytes(b"old")
    (tmp_path / "second").symlink_to("store/t.json")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    with replacing(tmp_path / "first") as temporary:
        assert os.path.dirname(temporary) == str(tmp_path / "store")
        with open(temporary, "wb") as file:
            file.write(b"new")
    assert os.readlink(tmp_path / "first") == str(tmp_path / "second")
    assert os.readlink(tmp_path / "second") == "store/t.json"
    assert (tmp_path / "store/t.json").read_bytes() == b"new"
    assert os.listdir(tmp_path / "store") == ["t.json"]


def test_a_link_to_nothing_gets_its_file(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store/made.json")
    check_writable(tmp_path / "link")
    write(tmp_path / "link")
    assert (tmp_path / "store/made.json").read_bytes() == b"new"
    assert os.readlink(tmp_path / "link") == "store/made.json"


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ValueError, match="symbolic links"):
        check_writable(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "a")


def test_a_pipe_is_written_into(tmp_path):
    """Its reader waits before the check, which must not look like the end to it."""
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    check_writable(path)  # without a reader: does not wait for one
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    reader.start()
    check_writable(path)
    write(path, b"x" * 100_000)
    reader.join(30)
    assert read == [b"x" * 100_000]
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_pipe_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    """Root may write all of them, so the system's answer is replaced."""
    path, asked = tmp_path / "pipe", []
    os.mkfifo(path)
    monkeypatch.setattr(os, "access", lambda *question: asked.append(question))
    with pytest.raises(ValueError, match=r"^cannot write '.*pipe': Permission denied$"):
        check_writable(path)
    assert asked == [(str(path), os.W_OK)]


def test_a_file_on_a_read_only_disk_is_refused_with_the_system_s_reason(tmp_path, monkeypatch):
    """Root may write all others, so the system's answers are replaced."""
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    opened = os.open

    def refuse(name, flags, *more, **others):
        if name == str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
        return opened(name, flags, *more, **others)

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ValueError, match=r"^cannot write '.*file': Read-only file system$"):
        check_writable(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"kept"


def test_a_device_is_written_into():
    """A terminal, which needs no root to be made; /dev/null is another of its kind."""
    master, slave = os.openpty()
    try:
        path = os.ttyname(slave)
        before = os.stat(path)
        check_writable(path)
        write(path, b"to the screen")
        assert os.read(master, 100) == b"to the screen"
        assert os.path.samestat(os.stat(path), before)
        assert stat.S_ISCHR(before.st_mode)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "{link}"])
def test_an_open_descriptor_is_written_into(tmp_path, form):
    """As ``>(command)`` and ``/dev/stdout`` are: a pipe, and a file that already holds something."""
    read, end = os.pipe()
    link = tmp_path / "stdout"
    link.symlink_to(f"/proc/self/fd/{end}")
    path = form.format(end, link=link)
    check_writable(path)
    write(path, b"new")
    os.close(end)
    with open(read, "rb") as file:
        assert file.read() == b"new"

    with open(tmp_path / "log", "wb") as file:
        file.write(b"before ")
        file.flush()
        write(f"/dev/fd/{file.fileno()}", b"new")
        file.write(b" after")
    assert (tmp_path / "log").read_bytes() == b"before new after"
    assert sorted(os.listdir(tmp_path)) == ["log", "stdout"]


def test_what_was_printed_stays_before_what_is_written_to_standard_output(tmp_path):
    code = """
        from gpurender.util.atomic_files import check_writable, replacing
        print("table")
        check_writable("/dev/stdout")
        with replacing("/dev/stdout") as temporary, open(temporary, "w") as file:
            file.write("json")
        print(" end")
    """
    with open(tmp_path / "log", "wb") as log:
        words = [sys.executable, "-c", textwrap.dedent(code)]
        subprocess.run(words, stdout=log, env={**os.environ, "PYTHONUNBUFFERED": ""}, timeout=60, check=True)
    assert (tmp_path / "log").read_text() == "table\njson end\n"


def test_a_reader_that_is_gone_is_named_unless_it_is_a_descriptor_s(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def read_a_little():
        with open(path, "rb", buffering=0) as file:
            file.read(1)

    threading.Thread(target=read_a_little, daemon=True).start()
    with pytest.raises(BrokenPipeError) as caught:
        write(path, b"x" * 10_000_000)  # more than a pipe holds
    assert caught.value.filename == str(tmp_path / "pipe")
    read, end = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError) as caught:
        write(f"/dev/fd/{end}")
    os.close(end)
    assert caught.value.filename is None  # the command's standard output breaks so, too


# ------------------------------------------------------------------------------------------------------------ modes

MODES = """
    import os, sys
    from gpurender.util.atomic_files import check_writable, replacing

    os.umask(int(sys.argv[1], 8))
    def untouchable(mask):
        raise AssertionError("the umask is the process's, and so that of all its threads")
    os.umask = untouchable
    check_writable("new")
    for name in ("new", "kept"):
        with replacing(name) as temporary, open(temporary, "w") as file:
            file.write(name)
        print(oct(os.stat(name).st_mode & 0o777))
"""


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_new_files_have_the_umask_s_mode_and_old_ones_their_own(tmp_path, mask, root):
    (tmp_path / "kept").write_text("old")
    (tmp_path / "kept").chmod(0o664)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    seen = python(MODES, oct(mask), cwd=tmp_path, env=environment).split()
    assert seen == [oct(0o666 & ~mask), oct(0o664)]
    assert (tmp_path / "kept").read_text() == "kept"


def test_a_private_file_is_private_while_it_is_replaced(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replacing(path) as temporary:
        assert permissions(temporary) == 0o600
    assert permissions(path) == 0o600


def test_results_of_searches_have_the_umask_s_mode(tmp_path, monkeypatch):
    """A group that shares a cache can read it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    disk_cache.save("kind", "key", [1, 2])
    (made,) = (tmp_path / "gpurender").iterdir()
    (tmp_path / "made").write_text("")
    assert permissions(made) == permissions(tmp_path / "made")
    assert disk_cache.load("kind", "key") == [1, 2]


@pytest.mark.parametrize("mode", [0o400, 0o444, 0o000])
def test_a_read_only_file_is_refused(tmp_path, mode):
    """By root as well, whom the kernel would let."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    with pytest.raises(ValueError, match=r"cannot write '.*/a': the file there is read-only"):
        check_writable(path)
    with pytest.raises(PermissionError) as caught:
        write(path)
    assert caught.value.filename == str(path)
    path.chmod(0o600)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


# ------------------------------------------------------------------------------- file systems that refuse something

NO_CHMOD = """
#include <errno.h>
#include <sys/stat.h>
int chmod(const char *p, mode_t m) { errno = EPERM; return -1; }
int fchmod(int f, mode_t m) { errno = EPERM; return -1; }
int fchmodat(int d, const char *p, mode_t m, int f) { errno = EPERM; return -1; }
"""


def test_no_chmod_does_no_harm(tmp_path, root):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler, to make chmod fail")
    (tmp_path / "n.c").write_text(NO_CHMOD)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "n.so", "n.c"], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "kept").write_text("old")
    (tmp_path / "kept").chmod(0o664)
    environment = {**os.environ, "PYTHONPATH": str(root), "LD_PRELOAD": str(tmp_path / "n.so")}
    assert python(MODES, "0o022", cwd=tmp_path, env=environment).split() == ["0o644", "0o644"]
    assert sorted(os.listdir(tmp_path)) == ["kept", "n.c", "n.so", "new"]


REFUSED = [errno.EPERM, errno.EACCES, errno.EEXIST, errno.EBUSY, errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EROFS]


@pytest.mark.parametrize("number", REFUSED, ids=errno.errorcode.get)
@pytest.mark.parametrize("exists", [True, False])
def test_where_renames_are_refused_files_are_written_in_place(tmp_path, monkeypatch, number, exists):
    path = tmp_path / "a"
    if exists:
        path.write_bytes(b"old and longer")
        before = os.stat(path).st_ino

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, refuse)
    os.umask(mask := os.umask(0))
    write(path)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]
    assert not exists or os.stat(path).st_ino == before
    assert exists or os.stat(path).st_mode & 0o777 == 0o666 & ~mask


def test_a_file_in_a_folder_that_takes_no_files_is_written_in_place(tmp_path, monkeypatch):
    path, elsewhere, real = tmp_path / "folder/a", tmp_path / "elsewhere", os.open
    path.parent.mkdir()
    elsewhere.mkdir()
    path.write_bytes(b"old")

    def refuse(name, flags, *rest, **options):
        if flags & os.O_CREAT and str(name).startswith(str(path.parent)) and not os.path.exists(name):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return real(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(atomic_files.tempfile, "tempdir", str(elsewhere))
    check_writable(path)
    write(path)
    assert path.read_bytes() == b"new"
    with pytest.raises(ValueError, match=r"cannot write '.*/b': Permission denied"):
        check_writable(path.parent / "b")
    with pytest.raises(PermissionError) as caught:
        write(path.parent / "b")
    assert caught.value.filename == str(path.parent / "b")
    assert os.listdir(elsewhere) == []


WRITE = """from gpurender.util.atomic_files import check_writable, replacing; check_writable("a")
with replacing("a") as temporary: open(temporary, "w").write("new")"""


def test_a_file_that_is_mounted_is_written_in_place(tmp_path):
    """As into a container; a rename over it is EBUSY. In a read-only folder it is EROFS already beside it."""
    script = f"""
        mkdir f; echo old > behind; touch f/a; mount --bind behind f/a; cd f
        "$1" -c '{WRITE}'; test "$(cat a)" = new; test "$(ls -A)" = a; cd ..; umount f/a; test "$(cat behind)" = new
        mkdir g; mount -t tmpfs none g; touch g/a; mount --bind behind g/a; mount -o remount,ro g; cd g
        echo older > a; "$1" -c '{WRITE}'; test "$(cat a)" = new
    """
    done = in_a_mount_namespace(script, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_and_a_read_only_one_are_found_out_by_the_check(tmp_path):
    script = f"""
        mkdir f; mount -t tmpfs -o size=64k none f; cd f; echo old > a; dd if=/dev/zero of=fill 2>/dev/null || true
        "$1" -c '{WRITE}' 2> ../full && exit 1; test "$(cat a)" = old; test "$(ls -A | tr '\\n' ' ')" = "a fill "
        mount -o remount,ro .; "$1" -c '{WRITE}' 2> ../ro && exit 1; test "$(cat a)" = old
    """
    done = in_a_mount_namespace(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "full").read_text().endswith("OSError: [Errno 28] No space left on device: 'a'\n")
    assert (tmp_path / "ro").read_text().endswith("ValueError: cannot write 'a': Read-only file system\n")


def test_null_stays_a_device(tmp_path):
    script = f"""mount -t tmpfs none /dev; mknod /dev/a c 1 3 || exit 77; cd /dev; "$1" -c '{WRITE}'; test -c a"""
    done = in_a_mount_namespace(script, tmp_path)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------ files of caches


def test_a_cache_s_file_that_another_user_closed_is_replaced():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "kernel")
        path.write_bytes(b"old")
        path.chmod(0o000)
        if (child := os.fork()) == 0:  # a process of its own, as access() asks for the real user
            code = 1
            with contextlib.suppress(BaseException):
                code = kept_by_another(path)
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 77:
            pytest.skip("there is no other user here, or no folder for both")
        assert code == 0
        assert os.listdir(folder) == ["kernel"]
        assert path.stat().st_mode & 0o444
        assert path.read_bytes() == b"new"


def kept_by_another(path):
    """Write a cache's file, as another user if this is root; the exit status."""
    if os.getuid() == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        except OSError:  # root of a user namespace that has no other
            return 77
    if not os.access(path.parent, os.W_OK) or os.access(path, os.R_OK):
        return 77
    return int(atomic_files.keep(path, b"new") is not None)


# -------------------------------------------------------------------------------------------- refused before the work


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
def test_a_full_or_broken_disk_is_no_wrong_path(tmp_path, monkeypatch, number):
    def refuse(name, mode):
        assert mode == "wb"
        raise OSError(number, os.strerror(number))  # as write() has it: it knows no name

    monkeypatch.setattr(atomic_files, "open", refuse, raising=False)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        check_writable(tmp_path / "a")
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "a"))
    assert os.listdir(tmp_path) == []


def test_a_path_with_a_null_character_is_named():
    with pytest.raises(ValueError, match=r"^cannot write 'a\\x00b': embedded null"):
        check_writable("a\0b")


def test_what_cannot_be_written_is_found_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    with socket.socket(socket.AF_UNIX) as server, open(tmp_path / "file", "rb") as reading:
        server.bind("socket")  # a socket's path may have 107 bytes
        reasons = {
            tmp_path / "folder": "it is a directory",
            tmp_path / "missing/a": "there is no folder '.*/missing'",
            tmp_path / "file/a": "Not a directory",
            tmp_path / "socket": "it is a socket",
            f"{tmp_path}/new/": "No such file",
            "": "No such file",
            "/proc/a": "No such file",
            f"/dev/fd/{reading.fileno()}": "it is open for reading only",
        }
        for path, reason in reasons.items():
            with pytest.raises(ValueError, match=f"^cannot write .*: .*{reason}"):
                check_writable(path)
            with pytest.raises(OSError, match=r"directory|No such file|socket|Bad file"):
                write(path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "socket"]
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "socket"]
