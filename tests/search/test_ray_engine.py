"""Workers on Ray, in clusters of their own on this machine."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest

import gpurender as gr
from gpurender.commands import cli
from gpurender.search import desk, ray_engine, study
from tests.search import fake_ray, storm
from tests.search.support import TEMPLATE, score_of, task
from tests.server.support import recipe

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray, of the extra 'ray'")


def python(root, *words):
    """Run Python in a process of its own, from the root of the checkout."""
    env = {
        **os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=root, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcome(root):
    """All configs and results of a study, without the times."""
    found = {}
    for path in sorted([*root.glob("configs/*.json"), *root.glob("results/*.json")]):
        values = json.loads(path.read_text())
        values.pop("seconds", None)
        found[path.parent.name, path.name] = values
    return found


@needs_ray
def test_nothing_is_lost_with_a_worker_the_dispatcher_and_a_node(tmp_path, root):
    """The result is that of one process without Ray."""
    lines = python(root, "tests.search.cluster", str(tmp_path)).splitlines()
    happened = json.loads(next(line for line in lines if line.startswith("{")))  # Ray may print between
    assert {"worker", "dispatcher", "node"} <= happened.keys()
    assert (happened["done"], happened["running"], happened["stuck"]) == (True, 0, 0)
    assert happened["workers"] > 3  # others than the first ones
    assert not happened["left"]
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "calm")
    assert sum(kind == "configs" for kind, _ in outcome(tmp_path / "ray")) == storm.CONFIGS
    assert 1 <= happened["made"] <= sum(happened["results"])  # a worker that was lost has counted for itself


@needs_ray
def test_the_command_s_results_are_those_without_ray_bit_for_bit(tmp_path, root):
    """Two configs, trained and measured in earnest by two workers."""
    space, tasks = gr.search.Space({**TEMPLATE, "model": "test_vit"}), {"a": task(tmp_path)}
    ladder = gr.search.Ladder((16, 32), eta=2, finetune_steps=1, seeds=1)
    places = [tmp_path / "ray", f"file://{tmp_path}/store", tmp_path / "local"]
    for place in places:
        gr.search.create(place, space, tasks, ladder=ladder, configs=2)
    for place in places[:2]:  # the second one stands for an object store: no worker sees the folder
        words = ("gpurender", "search", "work", str(place), "--engine", "ray", "--workers", "2")
        assert "3 results here; 2 of 2 configs finished" in python(root, *words).splitlines()
    assert python(root, "gpurender", "search", "work", str(places[2])).startswith("3 results here")
    calm = outcome(tmp_path / "local")
    assert outcome(tmp_path / "ray") == calm
    assert outcome(tmp_path / "store") == calm
    for name in ("ray", "store"):
        assert not list((tmp_path / name / "leases").iterdir())
        kept = {path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name / "checkpoints").rglob("*.*")}
        assert kept == {
            f"checkpoints/{key}/{rung}/{file}"
            for key, rung in (path.stem.split(".") for path in (tmp_path / name / "results").iterdir())
            for file in ("checkpoint.safetensors", "metrics.jsonl")
        }


@needs_ray
def test_the_experts_of_two_workers_are_those_of_one_process(tmp_path, root):
    """Here and not with the tests of servers: of two clusters at once on a machine, one may take the other's work."""
    for number in range(2):
        (tmp_path / f"{number}.json").write_text(recipe(number).to_json())
    words = ["gpurender", "experts", "build", tmp_path / "0.json", tmp_path / "1.json", "--model", "test_resnet"]
    words += ["--image-size", 32, "--images", 32, "--batch-size", 8]
    for name, engine in {"ray": ["--engine", "ray", "--workers", 2], "local": ["--device", "cpu"]}.items():
        python(root, *map(str, [*words, *engine, "-o", tmp_path / name]))
    ray, local = (json.loads((tmp_path / name / "catalogue.json").read_text()) for name in ("ray", "local"))
    assert ray == local  # with the digests of the experts


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    gr.search.create(tmp_path / "s", gr.search.Space(TEMPLATE), {"a": task(tmp_path)})
    assert cli.main(["search", "work", str(tmp_path / "s"), "--engine", "ray"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("engine 'ray' needs the extra 'ray': pip install 'gpurender[ray]'")


# ------------------------------------------------------------------------------------------- by what stands for Ray


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A study of three configs whose trainings take no time."""

    def trained(config, tasks, ladder, rung, checkpoints, room, device):
        score = score_of(config.key, rung)
        return {"rung": rung, "score": score, "tasks": {"a": {"score": score, "accuracy": 0.5}}, "seconds": {}}

    monkeypatch.setattr(study, "trained", trained)
    monkeypatch.setattr(ray_engine.time, "sleep", lambda seconds: None)
    ladder = gr.search.Ladder((32, 64), eta=2, finetune_steps=1, seeds=1)
    space = gr.search.Space(TEMPLATE)
    return gr.search.create(tmp_path / "s", space, {"a": task(tmp_path)}, ladder=ladder, configs=3, patience=60.0)


def fake(monkeypatch, **resources):
    found = fake_ray.FakeRay(**resources)
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


@pytest.mark.parametrize(
    ("resources", "workers", "count", "gpus"),
    [
        ({"CPU": 3.0}, None, 3, 0),
        ({"CPU": 3.0}, 5, 5, 0),
        ({"CPU": 3.0, "GPU": 2.0}, None, 2, 1),
        ({"CPU": 3.0, "GPU": 0.5}, None, 3, 0),
        ({}, None, 1, 0),
    ],
)
def test_a_worker_for_each_gpu_or_cpu(made, monkeypatch, resources, workers, count, gpus):
    ray = fake(monkeypatch, **resources)
    assert ray_engine.work(made, workers, None, "host:1") == 4
    assert made.status()["done"]
    assert ray.begun == [{"address": "host:1", "namespace": "gpurender"}]
    assert not ray.connected
    assert [options for options, _ in ray.tasks] == [{"num_cpus": 1, "num_gpus": gpus, "max_retries": -1}] * count
    names, roots, minutes, together = zip(*(arguments for _, arguments in ray.tasks), strict=True)
    assert set(together) == {1}
    assert set(roots) == {str(made.root)}
    assert len(set(names)) == count
    assert set(minutes) == {None}
    name = ray_engine.name_of(str(made.root))
    assert ray.actors == [{
        "name": name, "namespace": "gpurender", "lifetime": "detached", "get_if_exists": True, "num_cpus": 0,
        "max_restarts": -1, "max_task_retries": -1,
    }]  # fmt: skip
    assert ray.named == {}  # the dispatcher has ended with the work


def test_a_connected_process_stays_so(made, monkeypatch):
    ray = fake(monkeypatch, CPU=1)
    ray.init()
    assert ray_engine.work(made, None, 0.0, None) == 0
    assert ray.begun == [{}]
    assert ray.connected
    assert not made.status()["configs"]


def test_a_dispatcher_that_is_away_is_waited_for(made, monkeypatch):
    """Another command has ended it, or Ray is beginning it again: the question is asked again."""
    ray, slept = fake(monkeypatch, CPU=1), []
    monkeypatch.setattr(ray_engine.time, "sleep", slept.append)
    ray.trouble += [fake_ray.ActorUnavailableError("x"), fake_ray.ActorUnavailableError("x")]
    board = ray_engine.ActorBoard(str(made.root), "w", 60.0)
    with board.claimed() as (claim,):
        assert slept == [1.0, 1.0]
        ray.kill(ray.named[ray_engine.name_of(str(made.root))])
        assert claim.is_held()
        assert slept == [1.0, 1.0, 1.0]
        assert len(ray.actors) == 2
        assert claim.publish({"rung": 0, "score": None, "error": "x"})
        assert not claim.publish({"rung": 0, "score": None, "error": "x"})
        assert claim.job == desk.Job(made.space.random(0, 0).key, 0, made.space.random(0, 0))
        (lease,) = (made.root / "leases").iterdir()
        assert json.loads(lease.read_text())["worker"] == "w"
    assert not list((made.root / "leases").iterdir())


def test_a_job_is_given_back_whatever_happens(made, monkeypatch):
    fake(monkeypatch, CPU=1)
    board, seen = ray_engine.ActorBoard(str(made.root), "w", 60.0), []
    with contextlib.suppress(KeyboardInterrupt), board.claimed():
        seen += (made.root / "leases").iterdir()
        raise KeyboardInterrupt
    assert len(seen) == 1
    assert not list((made.root / "leases").iterdir())
    assert not board.is_done()


def test_a_worker_says_that_it_lives_four_times_in_the_patience(made, monkeypatch, caplog):
    ray = fake(monkeypatch, CPU=1)
    board = ray_engine.ActorBoard(str(made.root), "w", 60.0)
    with board.claimed() as claims:
        ray.asked.clear()
        ray.trouble += [RuntimeError("lost\nfor once")]
        waits = []

        class Ended:
            def wait(self, seconds):
                waits.append(seconds)
                return len(waits) == 4

        board._repeat(board._touch, claims, Ended())
    assert waits == [15.0] * 4
    assert [name for name, *_ in ray.asked] == ["touch"] * 3 + ["drop"]
    assert "lost for once" in caplog.messages


def test_the_first_error_is_raised_when_all_workers_have_ended(made, monkeypatch):
    ray = fake(monkeypatch, CPU=2)
    plain, begun = gr.search.Study.work_for, []

    def worked(self, board, minutes):
        begun.append(board)
        if len(begun) == 1:
            raise OSError(28, "No space left on device", "/x")
        return plain(self, board, minutes)

    monkeypatch.setattr(gr.search.Study, "work_for", worked)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '/x'$"):
        ray_engine.work(made, None, None, None)
    assert made.status()["done"]
    assert ray.named == {}
    assert not ray.connected


def test_a_dispatcher_whose_workers_live_stays(made, monkeypatch):
    """Those of another command."""
    ray = fake(monkeypatch, CPU=1)
    board = ray_engine.ActorBoard(str(made.root), "other", 60.0)
    with board.claimed():
        assert ray_engine.work(made, None, 0.0, None) == 0
        assert len(ray.named) == 1
    assert ray_engine.work(made, None, 0.0, None) == 0
    assert ray.named == {}


def test_what_is_wrong_with_the_study_is_said_in_its_own_words(made, monkeypatch):
    fake(monkeypatch, CPU=1)
    task(made.root.parent, "a", shift=1)
    with pytest.raises(
        ValueError, match=r"^task 'a': .*a\.npz has other classes or labels than when the study was made$"
    ):
        ray_engine.work(made, None, None, None)


def test_what_ray_says_of_itself_is_one_line(made, monkeypatch):
    ray = fake(monkeypatch, CPU=1)
    monkeypatch.setattr(ray_engine, "_work", lambda *_: (_ for _ in ()).throw(fake_ray.RayError("the task\nis gone")))
    with pytest.raises(RuntimeError, match=r"^a worker on Ray has failed: the task is gone$"):
        ray_engine.work(made, None, None, None)
    ray.init = lambda **_: (_ for _ in ()).throw(ConnectionError("no\nanswer"))
    with pytest.raises(RuntimeError, match=r"^there is no Ray cluster at 'host:1': no answer$"):
        ray_engine.work(made, None, None, "host:1")
