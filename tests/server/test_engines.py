"""Experts by workers on Ray: in a cluster of its own on this machine, and by what stands for Ray."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpurender.server import building, engines
from gpurender.server.building import begin
from gpurender.server.catalogue import CATALOGUE
from tests.search import fake_ray
from tests.server.support import MODEL, recipe

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("accelerate", reason="needs accelerate")
SMALL = {
    "k": None, "task": "rotation", "partition": None, "model": MODEL, "image_size": 32, "images": 32, "batch_size": 8,
    "lr": 1e-3, "seed": 0,
}  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray, of the extra 'ray'")
def test_the_experts_of_two_workers_are_those_of_one_process(tmp_path, root):
    for number in range(2):
        (tmp_path / f"{number}.json").write_text(recipe(number).to_json())
    words = ["gpurender", "experts", "build", tmp_path / "0.json", tmp_path / "1.json", "--model", MODEL]
    words += ["--image-size", 32, "--images", 32, "--batch-size", 8]
    env = {
        **os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "",
    }  # fmt: skip
    for name, engine in {"ray": ["--engine", "ray", "--workers", 2], "local": ["--device", "cpu"]}.items():
        command = map(str, [sys.executable, "-m", *words, *engine, "-o", tmp_path / name])
        subprocess.run(command, cwd=root, env=env, timeout=600, check=True)
    ray, local = (json.loads((tmp_path / name / CATALOGUE).read_text()) for name in ("ray", "local"))
    assert ray == local  # with the digests of the experts


@pytest.mark.parametrize(
    ("resources", "workers", "count", "gpus"),
    [
        ({"CPU": 2.0}, None, 2, 0),
        ({"CPU": 8.0}, None, 3, 0),  # one for each expert
        ({"CPU": 8.0}, 5, 5, 0),
        ({"CPU": 8.0, "GPU": 2.0}, None, 2, 1),
    ],
)
def test_how_many_workers_go_on_with_the_server(tmp_path, monkeypatch, resources, workers, count, gpus):
    ray, went_on = fake_ray.FakeRay(**resources), []
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(engines, "go_on", lambda place, device: went_on.append(place))
    monkeypatch.setattr(engines, "DataServer", lambda place: place)
    folder = begin([recipe(number) for number in range(3)], tmp_path / "server", **SMALL)
    assert engines.on_ray(folder, workers, "host:1") == folder
    assert ray.begun == [{"address": "host:1", "namespace": "gpurender"}]
    assert [options for options, _ in ray.tasks] == [{"num_cpus": 1, "num_gpus": gpus, "max_retries": -1}] * count
    assert went_on == [Path(tmp_path / "server")] * count
    assert not ray.connected


def test_what_goes_wrong_in_a_worker_is_said(tmp_path, monkeypatch):
    ray = fake_ray.FakeRay(CPU=1.0)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(building._Builder, "build", lambda self: 1 / 0)
    folder = begin([recipe()], tmp_path / "server", **SMALL)
    with pytest.raises(ZeroDivisionError):
        engines.on_ray(folder, None, None)
    with pytest.raises(ValueError, match="workers must be an integer"):
        engines.on_ray(folder, 0, None)
    with pytest.raises(ValueError, match="is no server that was begun"):
        engines.on_ray(tmp_path / "nothing", 1, None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match="engine 'ray' needs the extra 'ray'"):
        engines.on_ray(folder, None, None)
