"""A study under kills is the study that nobody disturbs: trials/kill_search, shortened, and what it would notice."""

import argparse
import json
import os

import pytest
import torch

import gpurender as gr
from trials import kill_search

pytest.importorskip("timm", reason="needs timm, of the extra 'train'")
pytest.importorskip("accelerate", reason="needs accelerate, of the extra 'train'")


def test_kills_change_nothing_and_a_change_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(kill_search, "LADDER", gr.search.Ladder((64, 128), eta=2, finetune_steps=1, seeds=1))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # a setting of the whole process
    kill_search.warm(tmp_path)
    options = argparse.Namespace(seed=0, configs=3, workers=2, every=0.3)
    row = kill_search.trial(tmp_path, 0, options, 4)
    assert row["good"], row
    assert 1 <= row["kills"] <= 4
    assert (row["results"], row["stuck"], row["crashes"], row["different"]) == (4, 0, 0, [])
    calm = kill_search.outcome(tmp_path / "calm0")
    assert kill_search.outcome(tmp_path / "storm0") == calm
    victim = next((tmp_path / "storm0" / "results").glob("*.json"))
    values = json.loads(victim.read_text())
    victim.write_text(json.dumps({**values, "score": values["score"] + 1e-12}))
    again = kill_search.trial(tmp_path, 0, options, 0)
    assert not again["good"]
    monkeypatch.setattr(kill_search, "work", lambda root: os._exit(3))
    assert kill_search.trial(tmp_path, 1, options, 0)["crashes"] > 2  # and it ends
    assert again["different"] == [f"results/{victim.name}"]
