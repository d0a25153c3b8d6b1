"""The acceptance step of the category search: its program runs, and knows nothing from before."""

import json

import gpurender as gr
from bench.steps import search


def test_the_program_searches_and_says_what_it_found(monkeypatch, root):
    monkeypatch.setenv("PYTHONPATH", str(root))
    seconds, found = search.timed("cpu", 3)
    assert seconds > 0.0
    catalog = gr.Renderer(gr.FractalDB(classes=3, seed=search.SEED)).catalog
    assert found == json.loads(json.dumps(catalog.maps.double().flatten().tolist()))
