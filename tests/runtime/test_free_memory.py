"""The memory that is free, from faked files of the system and a faked driver; whatever cannot be read is no error."""

import pytest
import torch

from gpurender.runtime import free_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda", 3)
MEMINFO = "MemTotal:       24684084 kB\nMemFree:         900000 kB\nMemAvailable:   {} kB\nBuffers: 1 kB\n"
UNLIMITED = 9223372036854771712  # what version 1 writes where there is no limit
MIB = 1 << 20


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that writes a file of the faked system: ``proc/...`` or ``cgroup/...``."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path.joinpath(*name.split("__"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text))

    def group(folder, limit, usage, stat=None, names=free_memory.UNIFIED):
        path = tmp_path / "cgroup" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / names[0]).write_text(f"{limit}\n")
        (path / names[1]).write_text(f"{usage}\n")
        if stat is not None:
            (path / "memory.stat").write_text(f"anon 5\n{names[2]} {stat}\nslab 7\n")

    monkeypatch.setattr(free_memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(free_memory, "CGROUPS", tmp_path / "cgroup")
    write(proc__meminfo=MEMINFO.format(8 << 10))  # 8 MiB
    write.group = group
    return write


def test_what_the_kernel_says_is_available_is_free(system):
    assert free_memory.of_host() == 8 * MIB
    assert free_memory.share(CPU) == 2 * MIB


@pytest.mark.parametrize(("available", "share"), [(4 << 20, 1 << 30), (400 << 20, 1 << 30), (4, 1 << 10), (0, 0)])
def test_the_share_is_a_quarter_and_at_most_a_gib(available, share, system):
    system(proc__meminfo=MEMINFO.format(available))
    assert free_memory.share(CPU) == share


@pytest.mark.parametrize("own", ["0::/", "0::/a/b", "1:name=systemd:/x\n0::/a/b\n"])
def test_a_container_leaves_what_its_limit_says(own, system):
    system(proc__self__cgroup=own + "\n")
    system.group("", 6 * MIB, 5 * MIB)
    assert free_memory.of_host() == MIB
    system.group("", 6 * MIB, 5 * MIB, stat=2 * MIB)  # pages of files that it would drop
    assert free_memory.of_host() == 3 * MIB
    system.group("", 6 * MIB, 7 * MIB)  # without a new memory.stat, the old one counts
    assert free_memory.of_host() == MIB
    system.group("", MIB, 5 * MIB, stat=0)
    assert free_memory.of_host() == 0


def test_the_smallest_of_the_groups_around_a_process_counts(system):
    system(proc__self__cgroup="0::/a/b\n")
    system.group("a", 6 * MIB, 5 * MIB)
    system.group("a/b", "max", 4 * MIB)
    system.group("c", MIB, MIB)  # another process's
    assert free_memory.of_host() == MIB
    system.group("a/b", 5 * MIB, 4 * MIB + 7)
    assert free_memory.of_host() == MIB - 7


def test_groups_of_version_1_count_as_well(system):
    system(proc__self__cgroup="4:cpu,memory:/job\n3:cpuset:/other\n0::/\n")
    system.group("memory", UNLIMITED, 5 * MIB, names=free_memory.LEGACY)
    assert free_memory.of_host() == 8 * MIB
    system.group("memory/job", 6 * MIB, 5 * MIB, stat=MIB, names=free_memory.LEGACY)
    assert free_memory.of_host() == 2 * MIB
    system.group("memory/other", MIB, MIB, names=free_memory.LEGACY)
    assert free_memory.of_host() == 2 * MIB


@pytest.mark.parametrize(
    "files",
    [
        {"proc__meminfo": ""},
        {"proc__meminfo": "MemAvailable:"},
        {"proc__meminfo": "MemAvailable: much"},
        {"proc__meminfo": "", "proc__self__cgroup": "\nno group\n:\n::::\n0::/../..\n"},
        {"proc__meminfo": "", "proc__self__cgroup": "0::/\n", "cgroup__memory.max": "max\n"},
        {"proc__meminfo": "", "proc__self__cgroup": "0::/\n", "cgroup__memory.max": "5\n"},
    ],
)
def test_what_cannot_be_read_is_no_error(files, system):
    system(**files)
    assert free_memory.of_host() is None
    assert free_memory.share(CPU) == 1 << 30


def test_without_these_files_the_memory_is_unknown(tmp_path, monkeypatch):
    """As on a system other than Linux; a folder in the place of a file is no error either."""
    monkeypatch.setattr(free_memory, "PROC", tmp_path)
    monkeypatch.setattr(free_memory, "CGROUPS", tmp_path)
    assert free_memory.of_host() is None
    (tmp_path / "meminfo").mkdir()
    assert free_memory.share(CPU) == 1 << 30


def test_this_machine_has_free_memory():
    assert 0 < free_memory.of_host() < 1 << 50


def test_a_gpu_has_what_the_driver_and_torch_do_not_use(monkeypatch):
    asked = []
    for name, value in (("mem_get_info", (5 * MIB, 80 << 30)), ("memory_reserved", 9 * MIB), ("memory_allocated", MIB)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: asked.append(device) or value)
    assert free_memory.of_gpu(GPU) == 13 * MIB
    assert free_memory.share(GPU) == 13 * MIB // 4
    assert set(asked) == {GPU}


def test_a_driver_that_does_not_tell_is_no_error(monkeypatch):
    def refused(device):
        raise RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(torch.cuda, "mem_get_info", refused)
    assert free_memory.of_gpu(GPU) is None
    assert free_memory.share(GPU) == 1 << 30
