"""From a recipe to batches by the GPU's path, without a GPU and with one."""

import subprocess
import sys

import pytest
import torch

import gpurender as gr
from tests.support import ROOT
from tests.support.emulation import require_compiler


def test_every_family_draws_the_cpu_s_batches_by_the_gpu_s_path():
    """Loaders (shuffled, fresh, resumed, ranks, dtypes, layouts, samplers, mixtures, priors, noise), renderers (with
    and without kept bitmaps), and the canvases of 60 random recipes.
    """
    require_compiler()
    pytest.importorskip("triton")
    words = [sys.executable, "-m", "tests.support.gpu_path"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    loaders, renderers = (done.stdout.count(f"{what} ok\n") for what in ("loader", "renderer"))
    assert (loaders, renderers) == (34, 21), done.stdout
    assert f"\n{loaders + renderers + 3} comparisons\n" in done.stdout
    assert done.stdout.count("20 random recipes ok\n") == 3


PRESETS = [name for name in gr.presets() if name.endswith("-1k")]  # larger ones only have more classes


@pytest.mark.gpu
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_on_the_gpu_is_the_cpu_s(name):
    fast, slow = gr.Renderer(name, "cuda"), gr.Renderer(name)
    samples = torch.arange(0, len(slow.recipe), len(slow.recipe) // 40)
    for epoch in (0, 3):
        assert torch.equal(fast(samples, epoch).cpu(), slow(samples, epoch))
    assert torch.equal(gr.Renderer(name, "cuda", cache_bytes=0)(samples).cpu(), slow(samples))
    assert torch.equal(fast.labels(samples).cpu(), slow.labels(samples))
