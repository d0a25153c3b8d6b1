"""A study under kills is the study that nobody disturbs: trials/kill_search, shortened, and what it would notice."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")

TRIALS = """
import argparse, json, os, pathlib, sys
import gpurender as gr
from trials import kill_search

kill_search.LADDER = gr.search.Ladder((64, 128), eta=2, finetune_steps=1, seeds=1)
folder, options = pathlib.Path(sys.argv[1]), argparse.Namespace(seed=0, configs=3, workers=2, every=0.3)
kill_search.warm(folder)
rows = [kill_search.trial(folder, 0, options, 4)]
equal = kill_search.outcome(folder / "storm0") == kill_search.outcome(folder / "calm0")
victim = next((folder / "storm0" / "results").glob("*.json"))
values = json.loads(victim.read_text())
victim.write_text(json.dumps({**values, "score": values["score"] + 1e-12}))
rows.append(kill_search.trial(folder, 0, options, 0))  # of the studies that are there
kill_search.work = lambda root: os._exit(3)
rows.append(kill_search.trial(folder, 1, options, 0))
print(json.dumps({"rows": rows, "equal": equal, "victim": victim.name}))
"""


def test_kills_change_nothing_and_a_change_is_seen(tmp_path, root):
    """In a process of its own: a fork of one with threads, as this one may have, would hang."""
    done = subprocess.run(
        [sys.executable, "-c", TRIALS, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    killed, changed, crashed = found["rows"]
    assert killed["good"], killed
    assert found["equal"]
    assert 1 <= killed["kills"] <= 4
    assert (killed["results"], killed["stuck"], killed["crashes"], killed["different"]) == (4, 0, 0, [])
    assert not changed["good"]
    assert changed["different"] == [f"results/{found['victim']}"]
    assert not crashed["good"]
    assert crashed["crashes"] > 2  # and it ends
