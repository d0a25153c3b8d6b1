"""1p-frac's search for perturbations; its images are compared in test_fidelity.py."""

import types

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.recipes import onepfrac


@pytest.mark.parametrize(("draw_type", "expected"), [("patch_gray", [7, 7, 6]), ("patch_color", [3, 3, 3, 3, 3, 3, 2])])
def test_on_a_gpu_a_search_renders_as_many_classes_at_once_as_fit_its_bytes(monkeypatch, draw_type, expected):
    """Nine canvases of one channel, three of three."""
    sizes = []
    monkeypatch.setattr(onepfrac.dispatch, "on_host", lambda device: False)
    monkeypatch.setattr(onepfrac, "GPU_BATCH_BYTES", 9 * 32 * 32)
    monkeypatch.setattr(gr.OnePFrac, "_fill", lambda self, catalog, sparse, device: sizes.append(len(sparse)))
    catalog = types.SimpleNamespace(attempts=np.full(20, onepfrac.UNKNOWN))
    recipe = gr.OnePFrac(classes=20, image_size=32, draw_type=draw_type)
    recipe._find_attempts(catalog, np.arange(20), torch.device("cpu"))
    assert sizes == expected
