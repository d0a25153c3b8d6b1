"""Which policies a CUDA graph may hold: those that say so, of the methods that they have."""

from dataclasses import dataclass

import pytest
import torch

import gpurender as gr
from gpurender.augment.adapter import as_policy
from gpurender.augment.policy import capturable
from gpurender.interop import dali
from gpurender.loading import cuda_graphs, pipeline
from gpurender.runtime import devices

CROP = gr.augment.Crop()
OURS = [
    CROP, gr.augment.Resize(), gr.augment.DeiT(), gr.augment.DeiT.onepfrac().unmixed(),
    gr.augment.DeiT(mixup_off_epoch=3).at_epoch(5), gr.augment.TwoViews(CROP),
    gr.augment.MultiCrop((CROP, 2), (gr.augment.Resize(), 6, 96)), dali._Canvases(),
]  # fmt: skip


class Silent:
    """A user's policy that says nothing."""

    def draw(self, numbers, **where):
        return {"numbers": torch.as_tensor(numbers)}

    def apply(self, canvases, parameters, **finish):
        return canvases[:, :1].expand(-1, 3, -1, -1).float()


class Says(Silent):
    """One that does."""

    capturable = True


class Overrides(Says):
    """One that says nothing of what it has changed."""

    def apply(self, canvases, parameters, **finish):
        return super().apply(canvases, parameters) * float(parameters["numbers"].max().item())


class Renamed(Says):
    """One that has changed nothing that is launched."""

    def describe(self):
        return "mine"


@pytest.mark.parametrize("policy", OURS, ids=lambda policy: type(policy).__name__)
def test_the_library_s_policies_say_so(policy):
    assert capturable(policy) is True


def test_timm_s_policies_say_so():
    timm = pytest.importorskip("gpurender.interop.timm")
    assert capturable(timm.Training(re_split=True))
    assert capturable(timm.CenterCrop())


def test_a_user_s_policy_must_say_so_itself():
    assert capturable(as_policy(Says())) is True
    assert capturable(as_policy(Renamed())) is True
    assert capturable(as_policy(Silent())) is False
    assert capturable(as_policy(Overrides())) is False
    own = Overrides()
    own.capturable = True
    assert capturable(as_policy(own)) is True
    off = Says()
    off.capturable = False
    assert capturable(as_policy(off)) is False


@pytest.mark.parametrize("method", ["draw", "apply", "targets"])
def test_a_class_that_overrides_what_is_launched_says_it_anew(method):
    changed = type("Mine", (gr.augment.DeiT,), {method: lambda self, *given, **more: None})
    assert not capturable(changed())
    assert capturable(type("Mine", (gr.augment.DeiT,), {method: lambda *_, **__: None, "capturable": True})())


def test_views_may_be_captured_if_all_of_them_may():
    assert not capturable(gr.augment.TwoViews(CROP, Silent()))
    assert not capturable(gr.augment.MultiCrop((CROP, 2), (Silent(), 1)))
    assert capturable(gr.augment.MultiCrop((CROP, 2), (Says(), 1)))


@dataclass
class Unhashable(Says):
    """A policy that says so and cannot be told from another."""

    strength: float = 1.0


class Epochs(Says):
    """A policy that is another one from epoch 1 on."""

    def __init__(self, later):
        self.later = later

    def at_epoch(self, epoch):
        return self.later if epoch else self


@pytest.fixture
def keys(monkeypatch):
    """The keys that a loader's cache was given, on a GPU that is none."""
    given = []

    def run(self, key, launches, restart, watch):
        given.append(key)
        return launches()

    monkeypatch.setattr(cuda_graphs.GraphCache, "run", run)
    monkeypatch.setattr(cuda_graphs.devices, "on_gpu", lambda device: False)
    return given


def loader(policy, **keywords):
    recipe = gr.VisualAtom(classes=3, instances=2, image_size=32, orbits=(1, 3), quantization=(5, 9))
    return gr.DataLoader(recipe, batch_size=2, image_size=16, device="cpu", augment=policy, **keywords)


@pytest.mark.parametrize("keywords", [{}, {"sampler": [0, 1, 2, 3]}])
def test_what_a_policy_does_not_say_is_launched_plainly(keys, keywords):
    assert list(loader(Silent(), **keywords))
    assert list(loader(Overrides(), **keywords))
    assert set(keys) == {None}
    keys.clear()
    assert list(loader(Says(), **keywords))
    assert len(set(keys)) == 1
    assert None not in keys


def test_the_policy_in_force_is_asked(keys):
    for later, captured in ((Silent(), False), (Unhashable(), False), (Renamed(), True)):
        feed = loader(Epochs(later))
        assert list(feed)
        assert None not in keys
        keys.clear()
        assert list(feed)
        assert (None not in keys) is captured
        keys.clear()
    assert list(loader(Unhashable()))  # the loader's own needs no name
    assert None not in keys


def test_it_is_said_once_how_a_policy_is_captured(monkeypatch, caplog):
    feed = loader(Silent())
    assert list(feed)
    assert not caplog.records  # a CPU captures nothing
    monkeypatch.setattr(devices, "on_gpu", lambda device: True)
    cache = cuda_graphs.GraphCache(torch.device("cpu"))
    drawer = object.__new__(pipeline.BatchPipeline)
    drawer._policy, drawer._graph_cache = as_policy(Silent()), cache
    with caplog.at_level("INFO", logger="gpurender"):
        for _ in range(3):
            assert drawer._key(drawer._policy, 4, 4) is None
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "Silent lacks capturable = True" in caplog.text
