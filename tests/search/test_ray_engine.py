"""Workers on Ray, in clusters of their own on this machine."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

import gpurender as gr
from gpurender.commands import cli
from tests.search import storm
from tests.search.support import TEMPLATE, task

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
    happened = json.loads(python(root, "tests.search.cluster", str(tmp_path)).splitlines()[-1])
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
    made = [gr.search.create(tmp_path / name, space, tasks, ladder=ladder, configs=2) for name in ("ray", "local")]
    words = ("gpurender", "search", "work", str(made[0].root), "--engine", "ray", "--workers", "2")
    assert python(root, *words).splitlines()[-1] == "3 results here; 2 of 2 configs finished"
    assert python(root, "gpurender", "search", "work", str(made[1].root)).startswith("3 results here")
    assert outcome(made[0].root) == outcome(made[1].root)
    assert not list((made[0].root / "leases").iterdir())


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    gr.search.create(tmp_path / "s", gr.search.Space(TEMPLATE), {"a": task(tmp_path)})
    assert cli.main(["search", "work", str(tmp_path / "s"), "--engine", "ray"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("engine 'ray' needs the extra 'ray': pip install 'gpurender[ray]'")
