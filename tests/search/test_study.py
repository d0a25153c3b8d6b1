"""Studies: whatever happens to workers, nothing is lost, done twice or different."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

import gpurender as gr
from gpurender.kernels.philox import philox
from gpurender.numerics.streams import Stream
from gpurender.search import desk, folder, proposers, study
from gpurender.search.leases import leased
from tests.search.support import TEMPLATE, score_of, task

pytest.importorskip("timm", reason="needs timm")
LADDER = gr.search.Ladder((32, 64, 128), eta=2, finetune_steps=2, seeds=2)


def make(path, tmp_path, **options):
    tasks = {"a": task(tmp_path, "a"), "b": task(tmp_path, "b", shift=1)}
    given = {"ladder": LADDER, "configs": 8, "patience": 5.0, **options}
    return gr.search.create(path, gr.search.Space(TEMPLATE), tasks, **given)


def fake(monkeypatch, failing=()):
    """Let jobs take no time; return the list of those done."""
    done = []

    def trained(config, tasks, ladder, rung, checkpoints, work, device):
        done.append((config.key, rung))
        if len(done) - 1 in failing:
            return {"rung": rung, "score": None, "error": "the loss is nan"}
        figures = {name: {"score": score_of(config.key, rung) * (1 + (name == "b")), "accuracy": 0.5} for name in tasks}
        return {
            "rung": rung,
            "score": score_of(config.key, rung),
            "tasks": figures,
            "seconds": {"training": time.time()},
        }

    monkeypatch.setattr(study, "trained", trained)
    return done


def results(root):
    """What a study has measured, without the times."""
    found = {}
    for path in sorted((root / "results").glob("*.json")):
        values = json.loads(path.read_text())
        values.pop("seconds", None)
        found[path.name] = values
    return found


def test_a_study_tries_its_configs_and_promotes_the_best(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path)
    assert made.work(device="cpu") == len(done) == len(set(done))
    keys = [made.space.random(0, number).key for number in range(8)]
    assert [key for key, rung in done if rung == 0] == keys
    best = set()
    for n in range(2, 9):  # asynchronous halving, worked out again: after n results the best n // 2 go on
        best |= set(sorted(keys[:n], key=lambda key: -score_of(key, 0))[: n // 2])
    assert {key for key, rung in done if rung == 1} == best
    assert 1 <= sum(rung == 2 for _, rung in done) < len(best)
    assert made.work(device="cpu") == 0
    status = made.status()
    assert (status["configs"], status["finished"], status["running"], status["stuck"]) == (8, 8, 0, 0)
    assert status["done"]
    assert status["results"] == [8, len(best), sum(rung == 2 for _, rung in done)]
    top = max((key for key, rung in done if rung == 2), key=lambda key: score_of(key, 2))
    assert status["best"]["key"] == made.table()[0]["key"] == top
    assert made.best().fingerprint == made.space.random(0, keys.index(top)).recipe.fingerprint
    assert made.best("b") == made.best()
    assert made.best_config().model == made.space.random(0, keys.index(top)).model
    assert not list((made.root / "leases").iterdir())


def test_promotions_come_before_new_configs(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    make(tmp_path / "s", tmp_path).work(device="cpu")
    rungs = [rung for _, rung in done]
    assert rungs[:3] == [0, 0, 1]


def test_the_table_has_a_row_per_result(tmp_path, monkeypatch):
    fake(monkeypatch, failing=(0,))
    made = make(tmp_path / "s", tmp_path, configs=2)
    made.work(device="cpu")
    rows = made.table()
    assert [row["rung"] for row in rows] == [2, 1, 0, 0]  # the other one goes up alone
    failed = rows[-1]
    assert (failed["number"], failed["score"], failed["error"], failed["tasks"]) == (0, None, "the loss is nan", {})
    assert rows[0]["number"] == 1
    assert rows[0]["images"] == 128
    assert rows[0]["error"] is None
    assert set(rows[0]["tasks"]) == {"a", "b"}
    config = made.space.random(0, 1)
    assert rows[0]["recipe"] == json.loads(config.recipe.to_json())
    assert (rows[0]["model"], rows[0]["choices"]) == (config.model, config.choices)
    assert made.status()["done"]


def test_a_failed_config_never_goes_on(tmp_path, monkeypatch):
    fake(monkeypatch, failing=range(100))
    made = make(tmp_path / "s", tmp_path, configs=3)
    assert made.work(device="cpu") == 3
    assert made.status()["finished"] == 3
    with pytest.raises(ValueError, match="has no results yet: run gpurender search work"):
        made.best()


@pytest.mark.parametrize("failing", [(), (0,)])
def test_states_go_when_the_result_is_there(tmp_path, monkeypatch, failing):
    """Not before: a kill between the two would cost the whole training."""
    made = make(tmp_path / "s", tmp_path, configs=1)
    done = fake(monkeypatch, failing)
    plain, add, seen = study.trained, folder.Folder.add_result, []

    def trained(config, tasks, ladder, rung, checkpoints, room, device):
        (checkpoints / str(rung)).mkdir(parents=True)
        (checkpoints / str(rung) / "state.pt").touch()
        return plain(config, tasks, ladder, rung, checkpoints, room, device)

    def added(self, key, rung, values):
        seen.append((rung, (self.checkpoints(key) / str(rung) / "state.pt").exists()))
        found = add(self, key, rung, values)
        seen.append(len(list(made.root.rglob("state.pt"))))
        return found

    monkeypatch.setattr(study, "trained", trained)
    monkeypatch.setattr(folder.Folder, "add_result", added)
    left = []
    tidy = desk.Desk.tidy
    monkeypatch.setattr(
        desk.Desk, "tidy", lambda self, state: left.append([*made.root.rglob("state.pt")]) or tidy(self, state)
    )
    made.work(device="cpu")
    assert seen == ([(0, True), 1] if failing else [(0, True), 1, (1, True), 2, (2, True), 3])
    assert left == [[]]
    assert len(done) == (1 if failing else 3)


def test_best_on_a_task_may_be_another(tmp_path, monkeypatch):
    fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path, configs=3, ladder=gr.search.Ladder((32,), eta=2))
    made.work(device="cpu")
    last = made.table()[-1]
    path = made.root / "results" / f"{last['key']}.0.json"
    values = json.loads(path.read_text())
    values["tasks"]["a"]["score"] = 0.999
    path.write_text(json.dumps(values))
    again = gr.search.Study(made.root)
    assert again.best("a").fingerprint == made.space.random(0, last["number"]).recipe.fingerprint
    assert again.best("b") == again.best() != again.best("a")
    with pytest.raises(ValueError, match="task must be one of 'a', 'b', got 'c'"):
        again.best("c")


def test_two_halves_merge_by_copying(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    whole = make(tmp_path / "whole", tmp_path)
    whole.work(device="cpu")
    count = len(done)
    one, two = make(tmp_path / "one", tmp_path), make(tmp_path / "two", tmp_path)
    monkeypatch.setattr(study.time, "monotonic", lambda: float(len(done)))  # a result takes a second
    assert 2 <= one.work(minutes=0.1, device="cpu") < count
    two.work(device="cpu")
    for name in ("configs", "results"):
        for path in (one.root / name).iterdir():
            os.remove(two.root / name / path.name)
            shutil.copy(path, two.root / name)
    merged = gr.search.Study(two.root)
    assert merged.work(device="cpu") == 0
    assert results(two.root) == results(whole.root)
    for path in (two.root / "results").iterdir():  # the other way round: what is missing is done
        shutil.copy(path, one.root / "results")
    rest = gr.search.Study(one.root)
    rest.work(device="cpu")
    assert results(one.root) == results(whole.root)


def test_workers_under_kills_do_what_one_does(tmp_path, root):
    """Processes are killed while they work, and others begin: no job is lost, every result is that of a calm run."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.search.storm", str(tmp_path)], cwd=root, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert (status["done"], status["running"], status["stuck"]) == (True, 0, 0)
    assert status["kills"] >= 4
    assert results(tmp_path / "stormy") == results(tmp_path / "calm")
    configs = [{path.name for path in (tmp_path / name / "configs").glob("*.json")} for name in ("stormy", "calm")]
    assert configs[0] == configs[1]
    assert len(configs[0]) == 16


def test_a_worker_waits_for_results_that_may_promote(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path, configs=2, ladder=gr.search.Ladder((32, 64), eta=2))
    made._folder.make()
    key = made.space.random(0, 0).key
    slept = []
    with leased(made.root / "leases" / f"{key}.0", 60.0) as other:
        assert other.held()

        def sleep(seconds):
            slept.append(seconds)
            assert made.status()["running"] == 1
            figures = {name: {"score": 0.9, "accuracy": 0.9} for name in made.tasks}
            made._folder.add_result(key, 0, {"rung": 0, "score": 0.9, "tasks": figures, "seconds": {}})
            other.release() if len(slept) == 1 else None

        monkeypatch.setattr(study.time, "sleep", sleep)
        made.work(device="cpu")
        monkeypatch.undo()
        other.release = lambda: None
    assert slept == [0.5]  # a tenth of the patience
    assert done == [(made.space.random(0, 1).key, 0), (key, 1)]


def test_a_worker_that_stood_still_gives_way(tmp_path, monkeypatch, caplog):
    """Another one has taken its job over, and its folder away; what it would have written is done once."""
    made = make(tmp_path / "s", tmp_path, configs=1)
    done = fake(monkeypatch)
    real = study.trained

    def lost(config, tasks, ladder, rung, checkpoints, room, device):
        values = real(config, tasks, ladder, rung, checkpoints, room, device)
        if len(done) == 1:
            (path,) = (made.root / "leases").iterdir()
            os.unlink(path)
            with made._folder.workroom(config.key, rung):  # the other worker's
                (room / "checkpoint.safetensors").write_bytes(b"")
        return values

    monkeypatch.setattr(study, "trained", lost)
    assert made.work(device="cpu") == 3
    assert "another worker has taken it over" in caplog.text
    assert done[0] == done[1]


def test_an_error_of_the_disk_ends_a_worker_that_has_its_job(tmp_path, monkeypatch):
    made = make(tmp_path / "s", tmp_path, configs=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(study, "trained", full)
    with pytest.raises(OSError, match="No space left"):
        made.work(device="cpu")
    assert not list((made.root / "leases").iterdir())
    assert not list((made.root / "work").iterdir())
    assert not list((made.root / "results").iterdir())


def test_a_second_result_that_differs_is_a_warning(tmp_path, caplog):
    made = folder.Folder(tmp_path, 1, [])
    made.make()
    values = {"rung": 0, "score": 0.5, "tasks": {}, "seconds": {"training": 1}}
    assert made.add_result("k", 0, values)
    assert not made.add_result("k", 0, {**values, "seconds": {"training": 2}})
    assert not caplog.text
    assert not made.add_result("k", 0, {**values, "score": 0.25})
    assert "holds other values than this worker measured, and stays" in caplog.text
    assert made.results()["k", 0]["score"] == 0.5


def test_the_same_study_is_opened_and_another_is_refused(tmp_path, monkeypatch):
    made = make(tmp_path / "s", tmp_path)
    before = (made.root / "study.json").read_bytes()
    assert make(tmp_path / "s", tmp_path).root == made.root
    assert (made.root / "study.json").read_bytes() == before
    for name, value in {"seed": 1, "configs": 9, "proposer": "tpe", "patience": 6.0}.items():
        with pytest.raises(ValueError, match=f"is a study with another {name}: "):
            make(tmp_path / "s", tmp_path, **{name: value})
    with pytest.raises(ValueError, match="is a study with another ladder"):
        make(tmp_path / "s", tmp_path, ladder=gr.search.Ladder((32,)))
    other = gr.search.Space({**TEMPLATE, "seed": 3})
    with pytest.raises(ValueError, match="is a study with another space"):
        gr.search.create(tmp_path / "s", other, {"a": task(tmp_path)}, ladder=LADDER, configs=8, patience=5.0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ValueError, match=r"must be new, empty or a study; it has files but no study\.json"):
        make(tmp_path / "full", tmp_path)
    with pytest.raises(ValueError, match="cannot be made: Not a directory"):
        make(tmp_path / "full" / "x" / "y", tmp_path)


WRONG = {
    "space must be a gr.search.Space, got {}": {"space": {}},
    "tasks must be a mapping of names to gr.tasks.Task, got {}": {"tasks": {}},
    "tasks: a name must be letters, digits, - and _, got 'a/b'": {"tasks": {"a/b": 1}},
    "tasks: 'a' must be a gr.tasks.Task, got 1": {"tasks": {"a": 1}},
    "ladder must be a gr.search.Ladder, got 3": {"ladder": 3},
    "proposer must be one of 'random', 'grid', 'tpe', 'gp', got 'best'": {"proposer": "best"},
    "for a grid, got 'log'": {"proposer": "grid"},
    "configs must be an integer in [1, 1000000], got 0": {"configs": 0},
    "seed must be an integer": {"seed": -1},
    "patience must be a finite number in [1, 86400], got 0.5": {"patience": 0.5},
}


@pytest.mark.parametrize("text", WRONG)
def test_bad_arguments_leave_no_study(tmp_path, text):
    given = {"space": gr.search.Space(TEMPLATE), "tasks": {"a": task(tmp_path)}, **WRONG[text]}
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        gr.search.create(tmp_path / "s", **given)
    assert not (tmp_path / "s").exists()


def test_a_task_that_vanished_or_changed_is_named(tmp_path, monkeypatch):
    fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path)
    task(tmp_path, "b", shift=2)
    with pytest.raises(ValueError, match=r"task 'b': .*b\.npz has other classes or labels than when the study"):
        made.work(device="cpu")
    os.remove(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"task 'b': .*b\.npz"):
        made.work(device="cpu")
    with pytest.raises(ValueError, match="task 'b'"):
        gr.search.create(tmp_path / "new", made.space, made.tasks)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"number": 0}', '{"rung": 0, "score": 1}', '{"number": []}'])
@pytest.mark.parametrize("kind", ["configs", "results"])
def test_a_damaged_file_is_named_and_nothing_else_is_touched(tmp_path, monkeypatch, kind, text):
    fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path, configs=3)
    made.work(device="cpu")
    before = {path: path.read_bytes() for path in made.root.rglob("*") if path.is_file()}
    victim = sorted((made.root / kind).iterdir())[0]
    victim.write_text(text)
    with pytest.raises(ValueError, match=f"{victim.name} is damaged .*: remove it, and it is made again"):
        gr.search.Study(made.root).work(device="cpu")
    victim.unlink()
    gr.search.Study(made.root).work(device="cpu")
    after = {path: path.read_bytes() for path in made.root.rglob("*") if path.is_file()}
    assert before.keys() == after.keys()
    assert results(made.root)
    assert {path for path in before if before[path] != after[path]} <= {victim}


def test_a_folder_that_is_no_study_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no study: it has no study\.json"):
        gr.search.Study(tmp_path)
    (tmp_path / "study.json").write_text('{"layout": 2}')
    with pytest.raises(ValueError, match="has layout 2, and this version of gpurender reads layout 1"):
        gr.search.Study(tmp_path)
    (tmp_path / "study.json").write_text('{"layout": 1}')
    with pytest.raises(ValueError, match="the entry 'space' is missing"):
        gr.search.Study(tmp_path)


def test_a_small_space_ends_before_the_number_of_configs(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    space = gr.search.Space({"recipe": "ofdb-1k", "model": "test_vit", "seed": {"range": [0, 2]}})
    for proposer in ("random", "grid"):
        done.clear()
        made = gr.search.create(tmp_path / proposer, space, {"a": task(tmp_path)}, proposer=proposer, configs=10)
        made.work(device="cpu")
        assert len({key for key, rung in done if rung == 0}) == 3
        assert made.status()["done"]
        assert (made.status()["configs"], made.status()["finished"]) == (3, 3)


def test_no_job_begins_when_the_time_is_over(tmp_path, monkeypatch):
    done = fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path)
    assert made.work(minutes=0.0, device="cpu") == 0
    assert done == []
    with pytest.raises(ValueError, match="minutes must be a finite number"):
        made.work(minutes=-1.0)


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_optuna_proposes_from_what_is_known(tmp_path, monkeypatch, name):
    """Where the scores say that one model is better, it is proposed more often; the same history, the same config."""
    pytest.importorskip("optuna", reason="needs optuna")
    if name == "gp":
        pytest.importorskip("scipy", reason="needs scipy")
    space = gr.search.Space({
        "recipe": {"family": "onepfrac", "classes": 4, "points": {"log": [500, 4000]}, "image_size": 32},
        "model": {"choice": ["test_vit", "test_resnet"]},
    })  # fmt: skip
    tried = []
    for number in range(14):
        config = space.random(0, number)
        score = 0.9 if config.model == "test_resnet" else 0.1
        tried.append(proposers.Tried(config.choices, {0: score} if number < 12 else {}))
    first = proposers.proposed(name, space, 0, 14, tried)
    assert proposers.proposed(name, space, 0, 14, tried) == first
    found = [proposers.proposed(name, space, seed, 14, tried).model for seed in range(6)]
    assert found.count("test_resnet") >= 5


@pytest.mark.parametrize(("name", "sampler"), [("tpe", "TPESampler"), ("gp", "GPSampler")])
def test_the_seed_of_a_sampler_is_a_word_of_philox(monkeypatch, name, sampler):
    """At an address of the study's seed and the config's number, so that studies of seeds 1 and 2 share nothing."""
    optuna = pytest.importorskip("optuna", reason="needs optuna")
    seeds = []

    def noted(*, seed, **_):
        seeds.append(seed)
        return optuna.samplers.RandomSampler(seed)

    monkeypatch.setattr(optuna.samplers, sampler, noted)
    space = gr.search.Space(TEMPLATE)
    for seed in (1, 2, 2**64 - 1):
        for number in range(3):
            proposers.proposed(name, space, seed, number, [])
            draw_id = int.from_bytes(hashlib.sha256(f"sampler\n{number}".encode()).digest()[:8], "little")
            counter = np.array([[0, Stream.CONFIG, draw_id % 2**32, draw_id >> 32]], np.uint32)
            assert seeds[-1] == philox(counter, (seed % 2**32, seed >> 32))[0, 0]
            assert type(seeds[-1]) is int
    assert len(set(seeds)) == 9


def test_configs_are_compared_on_the_highest_rung_that_ten_have_reached():
    tried = [
        proposers.Tried({}, {0: 0.1, **({1: 0.2} if n < 10 else {}), **({2: 0.3} if n < 9 else {})}) for n in range(20)
    ]
    assert proposers.judged(tried) == 1
    assert proposers.judged(tried[10:]) == 0
    assert proposers.judged([]) == 0


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(
        RuntimeError, match=r"'tpe' and 'gp' need the extra 'search': pip install 'gpurender\[search\]'"
    ):
        make(tmp_path / "s", tmp_path, proposer="tpe")
    assert not (tmp_path / "s").exists()


def test_a_file_system_without_links_takes_results(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert folder.publish(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert not folder.publish(tmp_path / "x.json", {"a": 2})
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left") as caught:
        folder.publish(tmp_path / "x.json", {"a": 1})
    assert caught.value.filename == str(tmp_path / "x.json")
    assert os.listdir(tmp_path) == []


def test_tasks_are_found_from_every_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task(tmp_path, "a")
    tasks = {"a": gr.tasks.Task("a.npz"), "b": gr.tasks.Task("./a.npz", labels_per_class=2)}
    made = gr.search.create("s", gr.search.Space(TEMPLATE), tasks, ladder=LADDER)
    assert [one.data for one in made.tasks.values()] == [str(tmp_path / "a.npz")] * 2
    assert study.absolute(gr.tasks.Task("CIFAR10:data", kind="torchvision")) == f"CIFAR10:{tmp_path}/data"
    monkeypatch.chdir("/")
    assert set(gr.search.Study(tmp_path / "s")._opened()) == {"a", "b"}


def test_a_task_of_one_class_is_refused(tmp_path):
    ones, images = np.zeros(4, np.int64), np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "one.npz", x_train=images, y_train=ones, x_test=images, y_test=ones)
    with pytest.raises(ValueError, match=r"task 'one': data: .*one\.npz must have two or more classes, got 1"):
        gr.search.create(tmp_path / "s", gr.search.Space(TEMPLATE), {"one": gr.tasks.Task(tmp_path / "one.npz")})


def test_a_grid_of_billions_is_refused_at_once(tmp_path):
    space = gr.search.Space({"recipe": "ofdb-1k", "model": "test_vit", "seed": {"range": [0, 10**9]}})
    with pytest.raises(
        ValueError, match="space must have at most 1,000,000 points for a grid, and it has 1,000,000,001"
    ):
        gr.search.create(tmp_path / "s", space, {"a": task(tmp_path)}, proposer="grid")
    small = {**TEMPLATE, "recipe": {"choice": ["ofdb-1k", "onepfrac-1k"]}, "training": {}}
    assert gr.search.Space(small).grid_size() == 4


def test_a_config_that_was_lost_is_proposed_again(tmp_path, monkeypatch):
    fake(monkeypatch)
    space = gr.search.Space({"recipe": "ofdb-1k", "model": "test_vit", "seed": {"range": [0, 2]}})
    made = gr.search.create(tmp_path / "s", space, {"a": task(tmp_path)}, ladder=LADDER, configs=10)
    made.work(device="cpu")
    before = results(made.root)
    victim = sorted((made.root / "configs").iterdir())[1]
    victim.unlink()
    gr.search.Study(made.root).work(device="cpu")
    assert victim.exists()
    assert results(made.root) == before


def test_what_optuna_proposes_twice_is_tried_once(tmp_path, monkeypatch):
    """A sampler likes its best point; the other points of a small space are tried all the same."""
    pytest.importorskip("optuna", reason="needs optuna")
    fake(monkeypatch)
    space = gr.search.Space({"recipe": "ofdb-1k", "model": "test_vit", "seed": {"range": [0, 3]}})
    made = gr.search.create(tmp_path / "s", space, {"a": task(tmp_path)}, proposer="tpe", configs=4, ladder=LADDER)
    made.work(device="cpu")
    assert made.status()["configs"] == 4
    assert made.status()["done"]


def test_a_study_that_may_only_be_read_says_how_far_it_is(tmp_path, monkeypatch):
    fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path, configs=2)
    made.work(minutes=0.0, device="cpu")
    made._folder.add_config(0, made.space.random(0, 0))
    lease = made.root / "leases" / f"{made.space.random(0, 0).key}.0"
    lease.write_text("{}")
    real = os.open

    def refuse(name, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", str(name))
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    assert gr.search.Study(made.root).status()["running"] == 1
    os.utime(lease, (time.time() - 90.0,) * 2)
    assert gr.search.Study(made.root).status()["stuck"] == 1


def test_what_killed_workers_have_left_goes_when_the_study_is_done(tmp_path, monkeypatch):
    fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path, configs=1)
    made._folder.make()
    key = made.space.random(0, 0).key
    left = [f"leases/{key}.0", "leases/.clock-1", "leases/x.taken-1", "configs/.gpurender-unfinished-1",
            "results/.gpurender-unfinished-2"]  # fmt: skip
    old = [made.root / name for name in left]
    (made.root / "checkpoints" / key / "0").mkdir(parents=True)
    (made.root / "checkpoints" / key / "0" / "state.pt").touch()
    (made.root / "work" / f"{key}.0.1234").mkdir()
    for path in old:
        path.touch()
        os.utime(path, (time.time() - 90.0,) * 2)
    made.work(device="cpu")
    assert not [path for path in old if path.exists()]
    assert not list((made.root / "work").iterdir())
    assert not list(made.root.rglob("state.pt"))


def test_a_study_goes_where_another_init_was_killed(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".gpurender-unfinished-1234").touch()
    assert make(tmp_path / "s", tmp_path).configs == 8


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("tasks", []),
        ("digests", {}),
        ("ladder", {"images": [2, 1]}),
        ("proposer", "best"),
        ("configs", 0),
        ("space", 3),
    ],
)
def test_a_damaged_study_is_one_line(tmp_path, entry, value):
    made = make(tmp_path / "s", tmp_path)
    values = json.loads((made.root / "study.json").read_text())
    (made.root / "study.json").write_text(json.dumps({**values, entry: value}))
    with pytest.raises(ValueError, match=r"study: '.*study\.json' is damaged: ") as caught:
        gr.search.Study(made.root)
    assert "\n" not in str(caught.value)


def test_a_result_of_no_rung_is_named(tmp_path, monkeypatch):
    fake(monkeypatch)
    made = make(tmp_path / "s", tmp_path, configs=1)
    made.work(device="cpu")
    for name in ("x.json", "x.7.json"):
        (made.root / "results" / name).write_text("{}")
        with pytest.raises(ValueError, match=f"{name} is no result of this study: it has rungs 0 to 2"):
            gr.search.Study(made.root).status()
        (made.root / "results" / name).unlink()


BOTH = ("accuracy", "seconds")


def timed(made, seconds, scores=None):
    """Let a study's configs have these seconds and scores on rung 0."""
    made._folder.make()
    for number, (own, score) in enumerate(zip(seconds, scores or [0.5] * len(seconds), strict=True)):
        config = made.space.random(0, number)
        made._folder.add_config(number, config)
        figures = {name: {"score": score, "accuracy": score} for name in made.tasks}
        made._folder.add_result(
            config.key, 0, {"rung": 0, "score": score, "tasks": figures, "seconds": {"training": own}}
        )


def test_the_front_has_those_that_none_beats_in_both(tmp_path):
    made = make(tmp_path / "s", tmp_path, configs=5, objectives=BOTH)
    assert made.front() == made.status()["front"] == []
    timed(made, [40.0, 10.0, 20.0, 20.0, 5.0], [0.9, 0.5, 0.7, 0.6, 0.2])
    assert [row["number"] for row in made.front()] == [4, 1, 2, 0]
    assert made.status()["front"][2] == {"number": 2, "score": 0.7, "seconds": 20.0}
    assert made.best() == made.space.random(0, 0).recipe
    for seconds, number in ((40.0, 0), (39.9, 2), (20.0, 2), (19.0, 1), (5.0, 4)):
        assert made.best(seconds=seconds) == made.space.random(0, number).recipe
        assert made.best("a", seconds=seconds) == made.space.random(0, number).recipe
    with pytest.raises(ValueError, match=r"^seconds: no config was trained within 4 seconds; the quickest took 5$"):
        made.best(seconds=4.0)
    with pytest.raises(ValueError, match="seconds must be a finite number in"):
        made.best(seconds=-1.0)


def test_the_front_counts_all_rungs_and_compares_the_highest(tmp_path):
    made = make(tmp_path / "s", tmp_path, configs=3)
    timed(made, [8.0, 10.0, 20.0], [0.9, 0.9, 0.9])
    for number, seconds in ((1, 5.0), (2, 1.0)):
        config = made.space.random(0, number)
        figures = {name: {"score": 0.4, "accuracy": 0.4} for name in made.tasks}
        values = {"rung": 1, "score": 0.4 + number / 10, "tasks": figures, "seconds": {"training": seconds}}
        made._folder.add_result(config.key, 1, values)
    assert [(row["number"], row["rung"], row["training_seconds"]) for row in made.front()] == [
        (1, 1, 15.0),
        (2, 1, 21.0),
    ]
    tried = made.desk.state().tried()
    assert [dict(one.seconds) for one in tried] == [{0: 8.0}, {0: 10.0, 1: 15.0}, {0: 20.0, 1: 21.0}]


def test_studies_of_before_have_one_objective(tmp_path):
    made = make(tmp_path / "s", tmp_path)
    values = json.loads((made.root / "study.json").read_text())
    assert values.pop("objectives") == ["accuracy"]
    (made.root / "study.json").write_text(json.dumps(values))
    assert gr.search.Study(made.root).objectives == ("accuracy",)
    assert make(tmp_path / "s", tmp_path).objectives == ("accuracy",)
    with pytest.raises(ValueError, match="is a study with another objectives"):
        make(tmp_path / "s", tmp_path, objectives=BOTH)
    assert make(tmp_path / "t", tmp_path, objectives=BOTH).objectives == BOTH


@pytest.mark.parametrize("given", ["accuracy", ["seconds"], [], ("seconds", "accuracy"), 3, ["accuracy", "speed"]])
def test_other_objectives_are_refused(tmp_path, given):
    with pytest.raises(ValueError, match=r"^objectives must be \('accuracy',\) or \('accuracy', 'seconds'\), got "):
        make(tmp_path / "s", tmp_path, objectives=given)
    assert not (tmp_path / "s").exists()


def test_optuna_prefers_what_is_quick_where_nothing_is_better(tmp_path):
    """Both models are as good on average; one is a hundred times quicker."""
    pytest.importorskip("optuna", reason="needs optuna")
    space = gr.search.Space({**TEMPLATE, "recipe": TEMPLATE["recipe"]["choice"][1]})
    tried = []
    for number in range(14):
        config = space.random(0, number)
        seconds = 100.0 if config.model == "test_vit" else 1.0
        tried.append(proposers.Tried(config.choices, {0: 0.5 + number % 2 / 10}, seconds={0: seconds}))
    found = [proposers.proposed("tpe", space, seed, 14, tried, BOTH).model for seed in range(6)]
    assert found.count("test_resnet") >= 5


def test_seconds_of_another_kind_are_damage(tmp_path):
    made = make(tmp_path / "s", tmp_path, configs=1)
    timed(made, [1.0])
    (path,) = (made.root / "results").iterdir()
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "seconds": {"training": "long"}}))
    with pytest.raises(ValueError, match=r"is damaged \(tasks must be an object, and seconds one of numbers\)"):
        gr.search.Study(made.root).table()
