"""Faults: whatever is torn, full, read-only, gone, changed or of another time, a study is not damaged by it."""

import builtins
import errno
import json
import os
import shutil
import time

import pytest

import gpurender as gr
from gpurender.commands import cli
from gpurender.search import folder, leases, study, trial
from gpurender.search.board import LeaseBoard
from gpurender.training import checkpoint
from tests.search.support import TEMPLATE, score_of, task
from tests.support.pictures import image_folder

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
LADDER = gr.search.Ladder((16, 32), eta=2, finetune_steps=1, seeds=1)
TINY = {**TEMPLATE, "model": "test_vit", "recipe": TEMPLATE["recipe"]["choice"][1]}


def make(tmp_path, name="s", template=TINY, **options):
    given = {"ladder": LADDER, "configs": 2, "patience": 5.0, **options}
    return gr.search.create(tmp_path / name, gr.search.Space(template), {"a": task(tmp_path)}, **given)


@pytest.fixture
def quick(monkeypatch):
    """Jobs take no time; a worker that would wait fails. The list has the jobs done."""
    done = []

    def trained(config, tasks, ladder, rung, checkpoints, room, device):
        done.append((config.key, rung))
        (checkpoints / str(rung)).mkdir(parents=True, exist_ok=True)
        (checkpoints / str(rung) / "state.pt").touch()
        score = score_of(config.key, rung)
        return {"rung": rung, "score": score, "tasks": {"a": {"score": score, "accuracy": 0.5}}, "seconds": {}}

    def sleep(seconds):
        raise AssertionError("a worker waits")

    monkeypatch.setattr(study, "trained", trained)
    monkeypatch.setattr(study.time, "sleep", sleep)
    return done


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------------------------- full and read-only disks


class Disk:
    """A disk that refuses what makes or writes files, from the n-th call on; counts the calls."""

    def __init__(self, monkeypatch, number, good):
        self.calls, self.good, self.number = 0, good, number
        real = {name: getattr(os, name) for name in ("open", "write", "link", "mkdir", "rename", "replace", "unlink")}

        def refusing(name):
            def call(first, *rest, **more):
                if name != "open" or rest[0] & os.O_CREAT:
                    self.count(None if name == "write" else str(first))
                return real[name](first, *rest, **more)

            return call

        removing = {"unlink"} if number == errno.ENOSPC else set()  # a full disk lets files go
        for name in real.keys() - removing:
            monkeypatch.setattr(os, name, refusing(name))
        plain = builtins.open

        def opened(file, mode="r", *rest, **more):
            if set(mode) & set("wxa"):
                self.count(str(file))
            return plain(file, mode, *rest, **more)

        monkeypatch.setattr(builtins, "open", opened)

    def count(self, path):
        self.calls += 1
        if self.calls > self.good:
            raise OSError(self.number, os.strerror(self.number), path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_is_full_or_read_only_from_any_call_on_damages_nothing(tmp_path, quick, number):
    """The worker ends by the error; the next one, with room on the disk, does the rest."""
    calm = make(tmp_path, "calm")
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, number, 10**6)
        calm.work(device="cpu")
    assert disk.calls > 20
    wanted = {name: data for name, data in files(calm.root).items() if name != "study.json"}
    for good in range(disk.calls):
        made = make(tmp_path, str(good))
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, number, good)
            error = raised(gr.search.Study(made.root).work, device="cpu")
        if error is None:  # what a lock, a lease or the tidying needs may be refused
            assert len(list((made.root / "results").iterdir())) == 3
        else:
            assert error.errno == number, good
            assert str(made.root) in error.filename, good
        gr.search.Study(made.root).status()
        for path in (made.root / "leases").glob("*"):  # which could not be removed; this process lives on
            os.utime(path, (time.time() - 6.0,) * 2)
        gr.search.Study(made.root).work(device="cpu")
        found = files(made.root)
        assert {name: data for name, data in found.items() if name in wanted} == wanted, good
        left = [name for name in found.keys() - wanted.keys() if name != "study.json" and not is_swept(name)]
        assert left == [], good
        shutil.rmtree(made.root)


def raised(call, *given, **options):
    """Return the error of the machine, or the study's, that a call raises; None if it raises none."""
    try:
        call(*given, **options)
    except (OSError, ValueError) as error:
        return error
    return None


def is_swept(name):
    """Whether a file that was left goes when the patience is over; or the lock, which no one holds."""
    own = name.rpartition("/")[2]
    return (
        own.startswith((folder.TEMPORARY, leases.PROBE, ".gpurender-lock")) or leases.TAKEN in own or "leases/" in name
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_no_study_is_made_on_such_a_disk(tmp_path, number):
    task(tmp_path)
    for good in range(9):
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, number, good)
            tasks = {"a": gr.tasks.Task(tmp_path / "a.npz")}
            error = raised(gr.search.create, tmp_path / "s", gr.search.Space(TINY), tasks)
        if error is None:
            break
        assert os.strerror(number) in str(error)
        assert str(tmp_path / "s") in str(error)
        assert all(map(is_swept, files(tmp_path / "s")))
    assert good == 3  # the folder, the file, its name
    assert gr.search.Study(tmp_path / "s").configs == 64


def test_a_study_that_may_only_be_read_is_read(tmp_path, quick, capsys):
    """By every command that reads; that which works says in one line that it cannot."""
    made = make(tmp_path, configs=3)
    made.work(device="cpu")
    (made.root / "results").joinpath(f"{quick[-1][0]}.{quick[-1][1]}.json").unlink()  # something is left to do
    before = files(made.root)
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, errno.EROFS, 0)
        for words in (("status",), ("best",)):
            assert cli.main(["search", *words, str(made.root)]) == 0
            assert capsys.readouterr().err == ""
        assert cli.main(["search", "work", str(made.root), "--device", "cpu"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"gpurender: error: '{made.root}/leases/")
        assert line.endswith("Read-only file system")
    assert files(made.root) == before


def test_a_lease_that_finds_no_room_names_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device") as caught:
        leases.claimed(tmp_path / "job", 60.0)
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "job"))
    assert os.listdir(tmp_path) == []


# --------------------------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("wrong", [-3600.0, 3600.0])
@pytest.mark.parametrize("whose", ["machine", "file system"])
def test_clocks_that_differ_by_an_hour_take_no_job_away(tmp_path, quick, monkeypatch, wrong, whose):
    """The lease of another machine's worker is fresh, then old, by the clock of the file system."""
    made = make(tmp_path, configs=1)
    made.desk.folder.make()
    if whose == "machine":
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + wrong)
    else:
        opened, written = os.open, os.write

        def stamped_open(path, flags, *rest):
            handle = opened(path, flags, *rest)
            if flags & os.O_CREAT:
                os.utime(handle, (time.time() + wrong,) * 2)
            return handle

        def stamped_write(handle, data):
            count = written(handle, data)
            os.utime(handle, (time.time() + wrong,) * 2)
            return count

        monkeypatch.setattr(os, "open", stamped_open)
        monkeypatch.setattr(os, "write", stamped_write)
    path = made.root / "leases" / f"{made.space.random(0, 0).key}.0"
    os.close(leases.made(path, 5.0, {"host": "elsewhere", "space": "another boot", "pid": 1, "began": "1"}))
    made.desk.folder.add_config(0, made.space.random(0, 0))
    assert (made.status()["running"], made.status()["stuck"]) == (1, 0)
    assert made.desk.take(lambda lease: leases.claimed(lease, 5.0)) is None
    leases.sweep(path.parent, {path.name}, 5.0)
    assert path.exists()
    os.utime(path, (os.stat(path).st_mtime - 6.0,) * 2)
    assert (made.status()["running"], made.status()["stuck"]) == (0, 1)
    assert made.work(device="cpu") == 2
    assert not path.exists()


# ------------------------------------------------------------------------------------------------------ truncated files


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["study.json", "exhausted.json", "configs", "results"])
def test_a_truncated_file_is_named_with_what_helps(tmp_path, quick, capsys, name, share):
    space = {**TINY, "recipe": "ofdb-1k", "training": {}, "seed": {"range": [0, 1]}}
    made = make(tmp_path, template=space, configs=3)
    made.work(device="cpu")
    victim = made.root / name if name.endswith(".json") else sorted((made.root / name).iterdir())[0]
    whole, before = victim.read_bytes(), files(made.root)
    victim.write_bytes(whole[: int(len(whole) * share)])
    for part in ("status", "work", "best", "report"):
        if name == "exhausted.json" and part in ("best", "report"):  # which do not ask how many configs there are
            continue
        more = ["--device", "cpu"] if part == "work" else ["-o", str(tmp_path / "x")] if part != "status" else []
        assert cli.main(["search", part, str(made.root), *more]) == 2, part
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{victim} is damaged (" in line
        helps = "only a copy of it can replace it" if name == "study.json" else "remove it, and it is made again"
        assert line.endswith(f"): {helps}")
    if name == "study.json":
        with pytest.raises(ValueError, match=r"study\.json is damaged \("):
            make(tmp_path, template=space, configs=3)
        victim.write_bytes(whole)
    else:
        victim.unlink()
    made = gr.search.Study(made.root)
    made.work(device="cpu")
    assert files(made.root) == before


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_truncated_lease_is_that_of_a_worker_until_its_time_is_over(tmp_path, quick, share):
    made = make(tmp_path, configs=1)
    made.desk.folder.make()
    path = made.root / "leases" / f"{made.space.random(0, 0).key}.0"
    with LeaseBoard(made.desk).claimed():
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        assert made.desk.take(lambda lease: leases.claimed(lease, 5.0)) is None
    path.write_bytes(whole[: int(len(whole) * share)])
    os.utime(path, (time.time() - 6.0,) * 2)
    assert made.work(device="cpu") == 2


def training_files(root, rung):
    return {path.name: path for path in root.glob(f"checkpoints/*/{rung}/*")}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A real study of one config that nothing disturbed, and its results without the times."""
    root = tmp_path_factory.mktemp("calm")
    made = make(root, configs=1)
    made.work(device="cpu")
    return results(made)


def results(made):
    found = {path.name: json.loads(path.read_text()) for path in (made.root / "results").glob("*.json")}
    return {name: {**values, "seconds": None} for name, values in found.items()}


@pytest.mark.parametrize("rung", [0, 1])
@pytest.mark.parametrize("fault", ["torn", "empty", "gone"])
@pytest.mark.parametrize("name", ["state.pt", "checkpoint.safetensors", "metrics.jsonl"])
def test_a_training_whose_files_are_torn_gives_the_same_result(tmp_path, calm, monkeypatch, name, fault, rung):
    """A worker ended before it measured the second rung; then the files of a rung's training were lost or torn."""
    made, measure = make(tmp_path, configs=1), trial.measure

    def ended(path, tasks, ladder, at, *rest):
        if at == 1:
            raise KeyboardInterrupt
        return measure(path, tasks, ladder, at, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "measure", ended)
        if name == "state.pt" and rung == 0:  # that of the rung below is used before the second rung's first step
            patch.setattr(trial, "pretrain", stopped_before(1, trial.pretrain))
        with pytest.raises(KeyboardInterrupt):
            made.work(device="cpu")
    path = training_files(made.root, rung)[name]
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if fault == "torn" else 0])
    assert gr.search.Study(made.root).work(device="cpu") == 1
    assert results(made) == calm
    assert checkpoint.describe(training_files(made.root, 1)["checkpoint.safetensors"])["step"] == 2


def stopped_before(rung, real):
    def pretrain(*, output, **arguments):
        if output.name == str(rung):
            (output / "state.pt").unlink()
            raise KeyboardInterrupt
        return real(output=output, **arguments)

    return pretrain


# ----------------------------------------------------------------------------------------------- tasks, spaces, layouts


def test_an_image_that_vanishes_under_way_is_no_result(tmp_path, monkeypatch):
    """Nor is it a failure of the config: when the images are back, the study goes on."""
    pictures = image_folder(tmp_path / "pictures")
    tasks = {"p": gr.tasks.Task(pictures)}
    made = gr.search.create(
        tmp_path / "s", gr.search.Space(TINY), tasks, ladder=gr.search.Ladder((16,), seeds=1, finetune_steps=1),
        configs=1,
    )  # fmt: skip
    measure = trial.measure

    def vanishing(*given):
        shutil.move(pictures / "val", tmp_path / "away")
        try:
            return measure(*given)
        finally:
            shutil.move(tmp_path / "away", pictures / "val")

    with monkeypatch.context() as patch:
        patch.setattr(trial, "measure", vanishing)
        with pytest.raises((OSError, ValueError)) as caught:
            made.work(device="cpu")
    assert str(pictures / "val") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((made.root / "results").iterdir())
    assert not list((made.root / "leases").iterdir())
    assert not list((made.root / "work").iterdir())
    assert made.work(device="cpu") == 1
    assert made.table()[0]["score"] is not None


CHANGES = {
    "another range": lambda space: space["training"].update(lr={"log": [1e-4, 2e-2]}),
    "another model": lambda space: space.update(model="test_resnet"),
    "a parameter more": lambda space: space.update(seed={"range": [0, 9]}),
    "a parameter less": lambda space: space["training"].update(lr=0.01),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_space_that_was_changed_under_way_is_one_line(tmp_path, quick, capsys, change):
    """By hand, in the study's own file. A worker that runs goes on with the space that it began with."""
    made = make(tmp_path, configs=4)
    before = files(made.root)
    values = json.loads(before["study.json"])
    CHANGES[change](values["space"])
    (made.root / "study.json").write_text(json.dumps(values))
    for part in ("status", "work", "best"):
        assert cli.main(["search", part, str(made.root), *(["--device", "cpu"] if part == "work" else [])]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            f"gpurender: error: study: '{made.root}/study.json' has another space than when the study was made: "
            "restore it, or make a new study"
        )
    with pytest.raises(ValueError, match="is a study with another space: "):
        make(tmp_path, configs=4)
    assert quick == []
    assert made.work(device="cpu") > 4
    assert {key for key, rung in quick if rung == 0} == {made.space.random(0, number).key for number in range(4)}
    (made.root / "study.json").write_bytes(before["study.json"])
    assert gr.search.Study(made.root).status()["done"]


def test_studies_of_before_have_no_fingerprint_of_their_space(tmp_path):
    made = make(tmp_path)
    values = json.loads((made.root / "study.json").read_text())
    assert values.pop("fingerprint") == made.space.fingerprint
    (made.root / "study.json").write_text(json.dumps(values))
    assert gr.search.Study(made.root).space == made.space
    assert make(tmp_path).space == made.space


@pytest.mark.parametrize("layout", [0, 2, "1", None, [1]])
def test_an_unknown_layout_is_one_line_of_every_command(tmp_path, quick, capsys, layout):
    made = make(tmp_path)
    values = json.loads((made.root / "study.json").read_text())
    (made.root / "study.json").write_text(json.dumps({**values, "layout": layout}))
    before = files(made.root)
    for part in ("status", "work", "best", "report", "export"):
        more = (
            ["--optuna", "sqlite://"] if part == "export" else ["-o", str(tmp_path / "x")] if part == "report" else []
        )
        assert cli.main(["search", part, str(made.root), *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            f"gpurender: error: study: '{made.root}/study.json' has layout {layout!r}, and this version of gpurender "
            "reads layout 1"
        )
    assert files(made.root) == before
    assert not (tmp_path / "x").exists()
