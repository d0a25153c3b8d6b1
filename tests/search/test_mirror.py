"""Studies at an address: a copy here, changes there, and workers that share nothing but the address."""

import importlib.util
import json
import sys
import time

import fsspec
import pytest

import gpurender as gr
from gpurender.commands import cli
from gpurender.search import mirror, ray_engine, study
from gpurender.search.dispatcher import Dispatcher
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
    """The paths of the objects in the study."""
    return sorted(path.removeprefix("/bucket/study/") for path in list(store))


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
    assert {**fresh.status(), "running": 0} == local.status()
    for path in [*local.root.glob("configs/*"), *local.root.glob("results/*")]:
        assert store[f"/bucket/study/{path.relative_to(local.root)}"].getvalue() == path.read_bytes()
    kinds = [name.partition("/")[0] for name in names(store)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "checkpoints": 8, "configs": 3, "results": 4, "study.json": 1,
    }  # fmt: skip
    assert not any(name.endswith("state.pt") for name in names(store))


def test_commands_take_an_address(tmp_path, store, ray, capsys):
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
    for words in ((), ("--engine", "slurm", "--workers", "2")):
        assert cli.main(["search", "work", ADDRESS, *words]) == 2
        assert f"study: on {ADDRESS} workers of --engine ray can work, and no others" in capsys.readouterr().err


def test_the_state_of_a_worker_that_was_killed_is_at_the_address(tmp_path, store, ray):
    made = make(tmp_path)
    one, other = (mirror.Mirror(ADDRESS, tmp_path / name) for name in "ab")
    for copy in (one, other):
        copy.fetch()
    board = ray_engine.ActorBoard(ADDRESS, "w", 4.0, mirror=one)
    with board.claimed() as (claim,):
        state = one.root / claim.checkpoints / "0" / "state.pt"
        state.parent.mkdir(parents=True)
        state.write_text("half")
        end = time.monotonic() + 60.0
        while f"{claim.checkpoints}/0/state.pt" not in names(store) and time.monotonic() < end:
            time.sleep(0.01)  # four times per patience what is new goes there
        other.fetch(claim.checkpoints)
        assert (other.root / claim.checkpoints / "0" / "state.pt").read_text() == "half"
        state.unlink()
        one.push(claim.checkpoints)
        assert not any(name.startswith("checkpoints/") for name in names(store))
        state.write_text("other")
        one.push(claim.checkpoints)
    assert not state.exists()  # a node's disk does not fill with what is at the address
    assert f"{claim.checkpoints}/0/state.pt" in names(store)
    assert made.status()["results"] == [0, 0]


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


def test_addresses_that_nobody_reaches_are_named(tmp_path, store, monkeypatch):
    with pytest.raises(ValueError, match=r"study: 'nothing://x' is no address that fsspec knows"):
        gr.search.Study("nothing://x")
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(RuntimeError, match=r"study: s3://bucket/study needs a package: .*s3fs"):
            gr.search.Study("s3://bucket/study")
    made = make(tmp_path)
    monkeypatch.setattr(type(made.mirror._system), "cat_file", lambda *_, **__: 1 / 0)
    with pytest.raises(OSError, match=f"^study: {ADDRESS} cannot be reached: division by zero$"):
        made.table()


def test_what_is_half_written_stays_here(tmp_path, store):
    made = make(tmp_path)
    for name in (".gpurender-unfinished-x", ".clock-1", "a.json"):
        path = made.root / "results" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    made.mirror.push("results")
    assert names(store) == ["results/a.json", "study.json"]
