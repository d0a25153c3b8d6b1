"""What ``gpurender doctor --clean-cache`` removes, and what it leaves."""

import json
import os
import subprocess
import sys
import time

import pytest

from gpurender.commands import cli
from gpurender.commands.checkup import cache
from gpurender.util.atomic_files import TEMPORARY

HASH, KEY = "0123456789abcdef" * 2, "0123456789abcdef" * 4


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    return tmp_path / "own"


def put(path, size=1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_what_is_really_kept_is_removed(tmp_path):
    """A search and kernels of a fresh process, in one folder; it makes them again afterwards, with the same pixels."""
    environment = {**os.environ, "GPURENDER_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("NUMBA_CACHE_DIR")
    code = "import gpurender as gr; print(gr.Renderer(gr.FractalDB(classes=1, points=500, seed=1))(0).sum().item())"

    def ran(*words):
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300, check=True
        )
        return done.stdout

    before = ran("-c", code)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".json", ".numba"}
    size = sum(path.stat().st_size for path in kept)
    told = ran("-m", "gpurender", "doctor", "--clean-cache")
    assert told == f"{tmp_path}: {len(kept)} files removed, {size / 1e6:.1f} MB\n"
    assert list(tmp_path.iterdir()) == []
    assert ran("-c", code) == before
    assert list(tmp_path.iterdir()) != []


def test_only_own_files_are_removed(own, tmp_path, capsys):
    gone = [
        put(own / f"fractaldb-{KEY}.json"),
        put(own / f"kernels-{HASH}" / f"chaos_game-sm_90-{HASH}.cubin"),
        put(own / f"kernels-{HASH[::-1]}" / f"visual_atom-compute_90-{HASH}.ptx"),
        put(tmp_path / "numba/gpurender" / f"kernels-{HASH}" / f"philox.cpu.words-{HASH}.numba"),
    ]
    old = put(own / f"{TEMPORARY}0123")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    elsewhere = put(tmp_path / "elsewhere" / f"chaos_game-sm_90-{HASH}.cubin")
    (own / f"kernels-{'a' * 32}").symlink_to(elsewhere.parent)
    (own / f"kernels-{'b' * 32}").mkdir()
    (own / f"kernels-{'b' * 32}" / f"a-{HASH}.cubin").symlink_to(elsewhere)
    stay = [
        elsewhere,
        put(own / "results.json"),
        put(own / "kernels-mine" / f"a-{HASH}.cubin"),
        put(own / f"kernels-{HASH}" / "notes.txt"),
        put(own / f"{TEMPORARY}4567"),  # of a process that writes now
        put(own / "triton" / f"a-{HASH}.cubin"),
        put(tmp_path / "numba" / f"a-{HASH}.numba"),
    ]
    assert cache.size() == 5 * 1000
    assert cli.main(["doctor", "--clean-cache"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [f"{own}: 4 files removed, 0.0 MB", f"{tmp_path / 'numba/gpurender'}: 1 file removed, 0.0 MB"]
    assert not [path for path in [*gone, old] if path.exists()]
    assert [path for path in stay if not path.exists()] == []
    assert not (own / f"kernels-{HASH[::-1]}").exists()
    assert (own / f"kernels-{HASH}").is_dir()
    assert cache.size() == 0


def test_a_cache_that_is_not_there_is_clean(own, capsys):
    assert cli.main(["doctor", "--clean-cache"]) == 0
    assert "0 files removed" in capsys.readouterr().out
    assert not own.exists()


def test_a_file_that_stays_is_said(own, monkeypatch, capsys):
    put(own / f"fractaldb-{KEY}.json", 2_500_000)
    stuck = put(own / f"kernels-{HASH}" / f"a-{HASH}.cubin")
    real = os.unlink

    def unlink(path, **options):
        if os.fspath(path) == str(stuck):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        real(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    assert cli.main(["doctor", "--clean-cache"]) == 1
    out = capsys.readouterr().out
    assert f"{own}: 1 file removed, 2.5 MB" in out
    assert f"  not removed: 1 file, such as {str(stuck)!r}: Permission denied" in out


def test_another_process_may_be_faster(own, monkeypatch):
    first, second = put(own / f"fractaldb-{KEY}.json"), put(own / f"fractaldb-{KEY[::-1]}.json")
    real = os.unlink

    def unlink(path, **options):
        real(path, **options)
        if second.exists() and first.exists() is False:
            real(second)
        elif first.exists() and second.exists() is False:
            real(first)

    monkeypatch.setattr(os, "unlink", unlink)
    done = next(cache.clean())
    assert (done.files, done.bytes, done.errors) == (1, 1000, [])


def test_doctor_tells_the_size(own, monkeypatch, capsys):
    from gpurender.commands.checkup import examine

    monkeypatch.setattr(examine, "TRIALS", {"nothing": lambda device: 0})
    put(own / f"fractaldb-{KEY}.json", 1_200_000)
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cache"]["bytes"] == 1_200_000
    assert cli.main(["doctor"]) == 0
    assert "1.2 MB" in capsys.readouterr().out


class Gone:
    """An entry of a folder whose file another process has removed."""

    name = f"{TEMPORARY}1"

    def stat(self, follow_symlinks):
        assert not follow_symlinks
        raise FileNotFoundError(2, "gone")

    def is_file(self, follow_symlinks):
        return True


def test_a_file_that_is_gone_has_neither_bytes_nor_age(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "_entries", lambda folder: [Gone()])
    assert (cache._bytes(Gone()), cache._age(Gone())) == (0, 0.0)
    assert list(cache._files(tmp_path)) == []


@pytest.mark.parametrize(("age", "own"), [(86_400.0, False), (86_401.0, True)])
def test_an_unfinished_file_is_abandoned_after_a_day(own, tmp_path, monkeypatch, age):
    path = put(tmp_path / f"{TEMPORARY}1")
    os.utime(path, (1000.0, 2000.0))
    monkeypatch.setattr(time, "time", lambda: 2000.0 + age)
    assert [entry.name for entry in cache._files(tmp_path)] == [path.name] * own


def test_a_folder_is_named_once_and_none_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(cache.disk_cache, "directory", lambda: tmp_path)
    monkeypatch.setattr(cache.kernel_cache, "numba_folder", lambda: tmp_path / "kernels-x")
    assert cache.folders() == [tmp_path]
    monkeypatch.setattr(cache.kernel_cache, "numba_folder", lambda: None)
    assert cache.folders() == [tmp_path]
    monkeypatch.setattr(cache.disk_cache, "directory", lambda: None)
    assert cache.folders() == []
    assert cache.size() == 0


def test_neither_folders_nor_links_with_an_own_name_are_files(own):
    (own / f"fractaldb-{KEY}.json").mkdir(parents=True)
    put(own / "other")
    (own / f"rcdb-{KEY}.json").symlink_to(own / "other")
    assert cache.size() == 0
    assert next((done.folder, done.files) for done in cache.clean()) == (own, 0)
    assert (own / "other").exists()
