"""Studies at an address: a copy here, changes there, and workers that share nothing but the address."""

import contextlib
import importlib.util
import json
import re
import sys
import time

import fsspec
import pytest

import gpurender as gr
from gpurender.commands import cli
from gpurender.search import dispatcher, mirror, ray_engine, slurm, study
from gpurender.search.dispatcher import Dispatcher
from gpurender.server.experts import Schooling
from gpurender.server.plan import planned
from tests.search import fake_ray
from tests.search.support import TEMPLATE, score_of, task

ADDRESS = "memory://bucket/study"
LADDER = gr.search.Ladder((32, 64), eta=2, finetune_steps=1, seeds=1)


@pytest.fixture
def store(monkeypatch, tmp_path):
    """The objects in memory, by path; the cache of this user is empty."""
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "cache"))
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    yield found.store
    found.store.clear()


def make(tmp_path, place=ADDRESS, **options):
    space = gr.search.Space(TEMPLATE)
    options = {"ladder": LADDER, "configs": 3, **options}
    return gr.search.create(place, space, {"a": task(tmp_path)}, **options)


def names(store):
    """The paths of the objects in the study, without that which says who works on it."""
    found = sorted(path.removeprefix("/bucket/study/") for path in list(store))
    return [name for name in found if name != dispatcher.OWNER]


def trained(config, tasks, ladder, rung, checkpoints, room, device):
    """Stands for a training: it begins with the state of the rung below, which nobody has but the address."""
    below, own = checkpoints / str(rung - 1) / "state.pt", checkpoints / str(rung)
    own.mkdir(parents=True, exist_ok=True)
    if rung:
        assert below.read_text() == f"{config.key} {rung - 1}"
        below.unlink()
    for name in ("state.pt", "checkpoint.safetensors", "metrics.jsonl"):
        (own / name).write_text(f"{config.key} {rung}")
    score = score_of(config.key, rung)
    return {"rung": rung, "score": score, "tasks": {"a": {"score": score, "accuracy": 0.5}}, "seconds": {}}


@pytest.fixture
def ray(monkeypatch):
    found = fake_ray.FakeRay(CPU=2.0)
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.setattr(study, "trained", trained)
    monkeypatch.setattr(ray_engine.time, "sleep", lambda seconds: None)
    return found


def test_a_study_at_an_address_is_that_in_a_folder(tmp_path, store, ray):
    pytest.importorskip("timm", reason="needs timm")
    made, local = make(tmp_path), make(tmp_path, tmp_path / "local")
    assert names(store) == ["study.json"]
    assert (made.place, made.name) == (ADDRESS, "study")
    assert ray_engine.work(made, None, None, None) == ray_engine.work(local, None, None, None) == 4
    assert ray.named == {}
    fresh = gr.search.Study(ADDRESS)
    assert fresh.table() == made.table() == local.table()
    assert fresh.best() == local.best()
    assert fresh.status() == local.status()
    for path in [*local.root.glob("configs/*"), *local.root.glob("results/*")]:
        assert store[f"/bucket/study/{path.relative_to(local.root)}"].getvalue() == path.read_bytes()
    kinds = [name.partition("/")[0] for name in names(store)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "checkpoints": 8, "configs": 3, "results": 4, "study.json": 1,
    }  # fmt: skip
    assert not any(name.endswith("state.pt") for name in names(store))


def test_commands_take_an_address(tmp_path, store, ray, capsys, monkeypatch):
    pytest.importorskip("timm", reason="needs timm")
    (tmp_path / "s.json").write_text(json.dumps(TEMPLATE))
    given = {"a": json.loads(task(tmp_path).to_json())}
    (tmp_path / "t.json").write_text(json.dumps(given))
    words = [
        "--space",
        str(tmp_path / "s.json"),
        "--tasks",
        str(tmp_path / "t.json"),
        "--images",
        "32",
        "--configs",
        "2",
    ]
    assert cli.main(["search", "init", ADDRESS, *words]) == 0
    assert capsys.readouterr().out.startswith(f"{ADDRESS}: 2 configs of ")
    assert cli.main(["search", "work", ADDRESS, "--engine", "ray"]) == 0
    assert capsys.readouterr().out == "2 results here; 2 of 2 configs finished\n"
    for part in ("status", "best", "report"):
        output = ["-o", str(tmp_path / part)] if part != "status" else ["--json", str(tmp_path / part)]
        assert cli.main(["search", part, ADDRESS, *output]) == 0
    assert json.loads((tmp_path / "status").read_text())["finished"] == 2
    assert gr.recipe(tmp_path / "best") == gr.search.Study(ADDRESS).best()
    assert "<title>Study study</title>" in (tmp_path / "report").read_text()
    capsys.readouterr()
    monkeypatch.setattr(slurm, "require_sbatch", lambda: None)
    for words in ((), ("--engine", "slurm", "--workers", "2")):
        assert cli.main(["search", "work", ADDRESS, *words]) == 2
        assert f"study: on {ADDRESS} workers of --engine ray can work, and no others" in capsys.readouterr().err


def board_of(root, patience=2.0):
    """A worker's board with a copy of its own."""
    copy = mirror.Mirror(ADDRESS, root)
    copy.fetch()
    return ray_engine.ActorBoard(ADDRESS, root.name, patience, mirror=copy)


def until(condition):
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def state_of(board, claim):
    """The path of the state of a training that is under way, in the copy of its worker."""
    path = board.mirror.root / claim.checkpoints / "0" / "state.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_state_of_a_worker_that_was_killed_is_at_the_address(tmp_path, store, ray):
    make(tmp_path)
    board, other = board_of(tmp_path / "a"), mirror.Mirror(ADDRESS, tmp_path / "b")
    with board.claimed() as (claim,):
        state = state_of(board, claim)
        state.write_text("half")
        until(lambda: f"{claim.checkpoints}/0/state.pt" in names(store))  # four times per patience what is new goes
        other.fetch(claim.checkpoints)
        assert (other.root / claim.checkpoints / "0" / "state.pt").read_text() == "half"
        state.unlink()
        board.mirror.push(claim.checkpoints)
        assert not any(name.startswith("checkpoints/") for name in names(store))


def test_what_a_signal_leaves_goes_to_the_address_and_no_disk_fills(tmp_path, store, ray):
    make(tmp_path)
    board = board_of(tmp_path / "a", 3600.0)
    with contextlib.suppress(KeyboardInterrupt), board.claimed() as (claim,):
        state = state_of(board, claim)
        state.write_text("saved at the end")
        raise KeyboardInterrupt
    assert store[f"/bucket/study/{claim.checkpoints}/0/state.pt"].getvalue() == b"saved at the end"
    assert not state.exists()
    assert not any(name.startswith("leases/") for name in names(store))


@pytest.mark.parametrize("method", ["put_file", "get_file"])
def test_a_slow_transfer_costs_no_living_worker_its_job(tmp_path, store, ray, monkeypatch, method):
    make(tmp_path, patience=1.0)
    board, system = board_of(tmp_path / "a", 1.0), fsspec.implementations.memory.MemoryFileSystem
    with board.claimed() as (claim,):
        state_of(board, claim).write_text("half")
    plain = getattr(system, method)

    def slow(self, one, other, **more):
        if "checkpoints" in f"{one}{other}":
            time.sleep(3.0)
        return plain(self, one, other, **more)

    monkeypatch.setattr(system, method, slow)
    with board.claimed() as (claim,):  # which brings the state here
        state_of(board, claim).write_text("more")
        time.sleep(2.0)  # and now there
        assert board.ask("take", "other", "b")[0][0] != claim.job.key
        assert claim.is_held()


def test_a_worker_that_has_lost_its_job_leaves_the_checkpoints_of_the_next_one(tmp_path, store, ray):
    make(tmp_path)
    board, values = board_of(tmp_path / "a", 3600.0), {"rung": 0, "score": None, "error": "x"}
    with board.claimed() as (claim,):
        state_of(board, claim).with_name("checkpoint.safetensors").write_text("old")
        assert board.ask("take", board._name, "another attempt")[0][0] == claim.job.key  # begun again elsewhere
        next_one = board_of(tmp_path / "b")
        state_of(next_one, claim).with_name("checkpoint.safetensors").write_text("new")
        next_one.mirror.push(claim.checkpoints)
        claim.publish(values)
    assert store[f"/bucket/study/{claim.checkpoints}/0/checkpoint.safetensors"].getvalue() == b"new"


def test_a_result_that_did_not_arrive_is_said_and_arrives_later(tmp_path, store, monkeypatch):
    make(tmp_path)
    one = Dispatcher(ADDRESS)
    [(key, rung, _)] = one.take("w", "a")
    system = type(one._mirror.store._system)
    plain = system.put_file
    monkeypatch.setattr(system, "put_file", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("no bucket")))
    with pytest.raises(OSError, match=f"study: {ADDRESS} cannot be reached: there is no place for .*{key}"):
        one.publish(key, rung, {"rung": rung, "score": None, "error": "x"})
    monkeypatch.setattr(system, "put_file", plain)
    assert not one.publish(key, rung, {"rung": rung, "score": None, "error": "x"})  # asked again
    assert f"results/{key}.{rung}.json" in names(store)


def test_one_cluster_at_a_time_works_on_an_address(tmp_path, store):
    make(tmp_path)
    first, second = Dispatcher(ADDRESS), Dispatcher(ADDRESS)
    [(key, rung, _)] = first.take("w", "a")
    assert second.take("v", "b")[0][0] != key
    with pytest.raises(RuntimeError, match=f"another Ray cluster has begun to work on {ADDRESS}; one at a time can"):
        first.publish(key, rung, {"rung": rung, "score": None, "error": "x"})
    assert f"results/{key}.{rung}.json" not in names(store)


def test_what_vanishes_while_it_is_read_is_not_there(tmp_path, store, monkeypatch):
    made = make(tmp_path)
    Dispatcher(ADDRESS).take("w", "a")
    copy = mirror.Mirror(ADDRESS, tmp_path / "copy")
    found = copy.store.files("leases")
    monkeypatch.setattr(copy.store, "files", lambda folder="": {**found, "leases/gone.0": 3} if folder else {})
    copy.fetch("leases")
    assert sorted(path.name for path in (tmp_path / "copy" / "leases").iterdir()) == [
        name.partition("/")[2] for name in found
    ]
    assert made.status()["running"] == 1


def test_half_a_file_is_brought_again(tmp_path, store):
    made = make(tmp_path)
    Dispatcher(ADDRESS).take("w", "a")
    made.table()
    (path,) = (made.root / "configs").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    assert gr.search.Study(ADDRESS).status()["configs"] == 1
    assert path.read_bytes() == whole


def test_no_object_is_written_outside_the_copy(tmp_path, store):
    made = make(tmp_path)
    fsspec.filesystem("memory").store["/bucket/study/configs/../../evil.json"] = store["/bucket/study/study.json"]
    made.table()
    assert not list(tmp_path.rglob("evil.json"))


def test_a_folder_of_a_worker_that_was_killed_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror.tempfile, "tempdir", str(tmp_path))
    with mirror.workplace() as living:
        killed = living.parent / "killed"
        (killed / "checkpoints").mkdir(parents=True)
        with mirror.workplace() as later:
            assert later != living
            assert {path.name for path in living.parent.iterdir() if path.is_dir()} == {living.name, later.name}
    assert not [path for path in living.parent.iterdir() if path.is_dir()]


def test_experts_are_those_of_a_study_at_an_address(tmp_path, store, ray):
    pytest.importorskip("timm", reason="needs timm")
    made = make(tmp_path)
    ray_engine.work(made, None, None, None)
    found = planned(ADDRESS, 2, None, Schooling(model="test_resnet"))
    assert found.study == {"folder": ADDRESS, "k": 2}
    assert len(found.recipes) == 2


def test_a_dispatcher_that_begins_again_knows_who_works(tmp_path, store):
    make(tmp_path, patience=60.0)
    first = Dispatcher(ADDRESS)
    [(key, rung, _)] = first.take("w", "attempt")
    assert f"leases/{key}.{rung}" in names(store)
    again = Dispatcher(ADDRESS)  # on another node
    assert again.touch("attempt", key, rung)
    assert not again.touch("other", key, rung)
    assert again.take("v", "b")[0][0] != key
    assert again.take("w", "later")[0][0] == key  # a worker that has begun again gives up what it held
    again.drop("later", key, rung)
    assert f"leases/{key}.{rung}" not in names(store)
    assert not again.is_done()


def test_an_address_holds_one_study(tmp_path, store):
    made = make(tmp_path)
    assert make(tmp_path).space.fingerprint == made.space.fingerprint
    with pytest.raises(ValueError, match="is a study with another configs: 3; choose another"):
        make(tmp_path, configs=4)
    copy = made.mirror.root
    (copy / "configs").mkdir()
    (copy / "configs" / "old.json").write_text("{}")
    store.clear()
    with pytest.raises(ValueError, match=f"study: folder '{ADDRESS}' holds no study: it has no study.json"):
        gr.search.Study(ADDRESS)
    assert make(tmp_path, configs=4).status()["configs"] == 0  # the copy of the earlier one is gone
    store.clear()
    fsspec.filesystem("memory").pipe_file("/bucket/study/else.txt", b"x")
    with pytest.raises(ValueError, match=f"folder {ADDRESS} must be empty or a study; it has files but no study.json"):
        make(tmp_path)


@pytest.mark.parametrize("address", ["s3://", "memory://", "memory:///", "memory://a[1]", "memory://a*"])
def test_an_address_must_name_a_place(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"such as 's3://bucket/study', got {address!r}")):
        make(tmp_path, address)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_addresses_that_nobody_reaches_are_named(tmp_path, store, monkeypatch):
    with pytest.raises(ValueError, match=r"study: 'nothing://x' is no address that fsspec knows"):
        gr.search.Study("nothing://x")
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(RuntimeError, match=r"study: s3://bucket/study needs a package: .*s3fs"):
            gr.search.Study("s3://bucket/study")
    made = make(tmp_path)
    system = type(made.mirror.store._system)

    def fails(error):
        def raised(*_, **__):
            raise error

        monkeypatch.setattr(system, "ls", raised)

    for error, said in ((TimeoutError(), "TimeoutError"), (Exception("Access\nDenied"), "Access Denied")):
        fails(error)
        with pytest.raises(OSError, match=f"^study: {ADDRESS} cannot be reached: {said}$"):
            made.table()
    fails(OSError(28, "No space left on device", "/x"))
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '/x'$"):
        made.table()


def test_two_who_make_a_study_at_once_make_one(tmp_path, store, monkeypatch):
    plain = mirror.Mirror.create

    def late(self):
        monkeypatch.setattr(mirror.Mirror, "create", plain)
        make(tmp_path, configs=4)  # another process, which is faster
        plain(self)

    monkeypatch.setattr(mirror.Mirror, "create", late)
    with pytest.raises(ValueError, match="is a study with another configs: 4; choose another"):
        make(tmp_path, configs=3)
    assert gr.search.Study(ADDRESS).configs == 4


def test_a_file_appears_whole_where_files_can_be_renamed(tmp_path, monkeypatch):
    made = make(tmp_path, f"file://{tmp_path}/study")
    seen = []
    system = type(made.mirror.store._system)
    plain = system.put_file
    monkeypatch.setattr(
        system, "put_file", lambda self, one, other, **more: (seen.append(other), plain(self, one, other, **more))
    )
    (made.root / "results").mkdir(exist_ok=True)
    (made.root / "results" / "a.json").write_text("{}")
    made.mirror.push("results")
    assert all(".gpurender-unfinished-" in name for name in seen)
    assert [path.name for path in (tmp_path / "study" / "results").iterdir()] == ["a.json"]


def test_what_is_half_written_stays_here(tmp_path, store):
    made = make(tmp_path)
    for name in (".gpurender-unfinished-x", ".clock-1", "a.json"):
        path = made.root / "results" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    made.mirror.push("results")
    assert names(store) == ["results/a.json", "study.json"]
