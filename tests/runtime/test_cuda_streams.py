"""What is made once is there for every stream, and the host waits for no copy: over recorded calls, and on a GPU."""

import math

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.loading import pipeline
from gpurender.loading.cursor import Place
from gpurender.loading.plan import IndexBatch
from gpurender.recipes import ifs
from gpurender.runtime import cuda_streams
from tests.golden import DIVERGENT, SMALL, TRIANGLE
from tests.support.emulation import TINY, emulated_gpu

RECIPES = {
    "onepfrac": lambda: gr.OnePFrac(classes=30, base=TRIANGLE, points=300, image_size=40),
    "fractaldb": lambda: gr.FractalDB(categories=[TRIANGLE, DIVERGENT], patches=2, points=300, image_size=40),
}


@pytest.mark.parametrize("family", RECIPES)
def test_kept_bitmaps_are_waited_for_before_they_are_read_and_lent_after(family):
    recipe = RECIPES[family]()
    wanted = gr.Renderer(recipe)([3, 1])
    with emulated_gpu() as gpu:
        renderer = gr.Renderer(recipe)
        catalog = renderer.catalog
        gpu.log.clear()
        assert torch.equal(renderer([3, 1]), wanted)
        first = gpu.log.copy()
        gpu.log.clear()
        assert torch.equal(renderer([3, 1]), wanted)
    tensors = len(list(cuda_streams.tensors_of(catalog)))
    assert tensors > 3
    assert any(tensor is catalog.bitmaps.images.rows for tensor in cuda_streams.tensors_of(catalog))
    assert first == ["pinned", "chaos_game_cover", "chaos_game_mask", "wait", "chaos_game_paint", *["lent"] * tensors]
    assert gpu.log == ["pinned", "chaos_game_paint", *["lent"] * tensors]


@pytest.mark.parametrize("family", RECIPES)
@pytest.mark.parametrize("batch", [1, 7, 4096])
@pytest.mark.parametrize("kind", ["images", "points"])
def test_bitmaps_made_in_several_batches_are_each_sample_s_own(kind, family, batch, monkeypatch):
    monkeypatch.setattr(ifs, "COVER_BATCH", batch)
    recipe = RECIPES[family]()
    samples = list(range(0, len(recipe), max(1, len(recipe) // 60)))
    systems = recipe.classes * (len(recipe.factors()) if family == "fractaldb" else 1)
    images = len(recipe) // getattr(recipe, "flips", 1)
    count = images if kind == "images" else systems
    budget = 320 * count if images != systems else 1 << 20  # a bitmap takes 40 rows of 2 words
    epoch = int(images == systems and kind == "points")  # whose masks are others, so that only points repeat
    with emulated_gpu(TINY) as gpu:
        renderer = gr.Renderer(recipe, cache_bytes=budget)
        found = renderer(samples, epoch=epoch, fresh=False)
        assert renderer.catalog.bitmaps.nbytes == 320 * count
        assert getattr(renderer.catalog.bitmaps, kind) is not None
    assert torch.equal(found, gr.Renderer(recipe, cache_bytes=0)(samples, epoch=epoch, fresh=False))
    assert gpu.log.count("chaos_game_cover") == math.ceil(count / batch)
    assert gpu.log.count("chaos_game_mask") == (math.ceil(count / batch) if kind == "images" else 0)
    assert gpu.log.count("wait") == 2  # for the catalog and for the bitmaps


@pytest.mark.parametrize("family", [*SMALL, "tail", "mixture"])
def test_catalogs_and_label_tables_are_waited_for_once_and_lent(family, monkeypatch):
    recipe = {
        "tail": lambda: gr.VisualAtom(classes=3, instances=9, image_size=32, class_prior=3, label_noise=0.5),
        "mixture": lambda: gr.Mixture({SMALL["onepfrac"](): 1, SMALL["visualatom"](): 2}),
    }.get(family, SMALL.get(family))()
    calls = []
    monkeypatch.setattr(cuda_streams, "settle", lambda device: calls.append("wait"))
    monkeypatch.setattr(
        cuda_streams, "lend", lambda kept, device: calls.append(len(list(cuda_streams.tensors_of(kept))))
    )
    renderer = gr.Renderer(recipe)
    for _ in range(2):
        assert len(renderer.labels([0, 1])) == 2
    tables = family == "tail"  # the other recipes have none to wait for
    assert calls == ["wait"] * tables + [3 * tables] * 2
    calls.clear()
    for _ in range(2):
        assert len(renderer([0, 1])) == 2
    lent = [call for call in calls if call != "wait"]
    assert calls[0] == "wait"
    assert "wait" not in calls[-2:]
    assert all(lent) if family != "mixture" else any(lent)
    if family == "mixture":  # each part's catalog, when it is first needed
        calls.clear()
        renderer([len(recipe) - 1])
        assert calls[0] == "wait"


class Stream:
    """A stream, as an allocator and a host see one."""

    def __init__(self):
        self.log = []

    def synchronize(self):
        self.log.append("wait")


def test_nothing_is_waited_for_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: pytest.fail("asked for a stream"))
    values = torch.arange(3)
    cuda_streams.settle(torch.device("cpu"))
    cuda_streams.lend(values, torch.device("cpu"))
    assert cuda_streams.pinned(values, torch.device("cpu")) is values


def test_the_stream_that_torch_works_on_is_waited_for_and_lent_to(monkeypatch):
    stream, device, told = Stream(), torch.device("cuda", 3), []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda found: stream if found == device else pytest.fail("which"))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, used: told.append((tensor, used)))
    cuda_streams.settle(device)
    assert stream.log == ["wait"]
    one, other = torch.arange(2), torch.arange(3)
    kept = ifs.Bitmaps(5, points=ifs.BitmapTable(other, np.zeros(3, bool)))
    cuda_streams.lend([one, kept, "x", None, ifs.Bitmaps(6)], device)
    assert [(tensor is wanted, used is stream) for (tensor, used), wanted in zip(told, (one, other), strict=True)] == [
        (True, True)
    ] * 2


# ------------------------------------------------------------------------------------------ what the host has chosen


@pytest.fixture
def copies(monkeypatch):
    """(the pinned copy, where it went, whether the host waited) of every copy from what counts as pinned memory."""
    pinned, made = [], []

    def pin(values, device):
        pinned.append(values.clone())
        return pinned[-1]

    copy, to = torch.Tensor.copy_, torch.Tensor.to

    def copied(place, source, non_blocking=False):
        if any(source is one for one in pinned):
            made.append((source, place, non_blocking))
        return copy(place, source, non_blocking)

    def moved(source, *where, **how):
        if any(source is one for one in pinned):
            made.append((source, None, how.get("non_blocking", False)))
        return to(source, *where, **how)

    monkeypatch.setattr(cuda_streams, "pinned", pin)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.Tensor, "to", moved)
    yield made
    assert len(pinned) == len(made), "something was pinned and not copied"


def test_a_sampler_s_numbers_are_copied_from_pinned_memory_that_is_not_written_again(copies):
    recipe = SMALL["visualatom"]()
    chosen = [[5, 5, 7], [9], [100, 101, 102, 3], [1, 2, 3]]
    feed = gr.DataLoader(recipe, batch_sampler=chosen, image_size=16, device="cpu")
    labels = [targets.tolist() for _, targets in feed]
    assert labels == [[sample // recipe.instances for sample in batch] for batch in chosen]
    assert [source[0].tolist() for source, _, _ in copies] == chosen  # still what it was
    assert len({source.data_ptr() for source, _, _ in copies}) == len(chosen)
    for source, place, non_blocking in copies:
        assert non_blocking
        assert place.is_contiguous()  # one copy; what is not contiguous would be put together on the device
        assert place.shape == source.shape


def test_a_mixture_s_and_a_renderer_s_numbers_are_copied_so_too(copies):
    mixture = gr.Mixture({SMALL["onepfrac"](): 1, SMALL["visualatom"](): 1})
    assert len(gr.Renderer(mixture)([0, 1, len(mixture) - 1])) == 3
    assert len(copies) == 1 + 2 * 2
    assert all(non_blocking for _, _, non_blocking in copies)


@pytest.mark.parametrize("family", ["onepfrac", "mixture"])
def test_indices_are_rendered_where_their_recipe_reads_them(copies, monkeypatch, family):
    """Those that a host has chosen: the device's copy, but of a mixture, which needs their values, the host's own."""
    recipe = gr.Mixture({SMALL["onepfrac"](): 1, SMALL["visualatom"](): 1}) if family == "mixture" else SMALL[family]()
    read, render = [], gr.Renderer.render

    def rendered(self, indices, *rest):
        read.append(indices.data_ptr())
        return render(self, indices, *rest)

    monkeypatch.setattr(gr.Renderer, "render", rendered)
    next(iter(gr.DataLoader(recipe, sampler=[3, 1, 2], batch_size=3, image_size=16, device="cpu")))
    _, place, _ = copies[0]
    assert (read[0] == place.data_ptr()) == (family == "onepfrac")


def test_pinned_memory_is_asked_of_torch(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    values = torch.arange(3)
    assert cuda_streams.pinned(values, torch.device("cuda", 0)).tolist() == [1, 2, 3]
    assert cuda_streams.pinned(values, torch.device("cpu")) is values


# -------------------------------------------------------------------------------------------- the cursor and the graphs


def loader(**keywords):
    recipe = gr.VisualAtom(classes=20, instances=4, image_size=32, orbits=(1, 3), quantization=(5, 9))
    return gr.DataLoader(recipe, image_size=16, device="cpu", augment=gr.augment.Crop(), **keywords)


def test_a_batch_that_failed_midway_does_not_leave_the_place_unknown():
    """All has been launched, so the cursor has moved on, and then something fails: the same batch is drawn again."""
    feed, failing = loader(batch_size=4, shuffle=True), []
    next(iter(feed))  # makes the pipeline
    drawer = feed._pipeline
    run = drawer._graph_cache.run

    def once(*arguments):
        tensors = run(*arguments)
        if failing:
            raise failing.pop()
        return tensors

    drawer._graph_cache.run = once
    wanted = [drawer.render(IndexBatch(0, 0, first, 4, 4, None, Place()), True) for first in (0, 4, 8)]
    again = [drawer.render(IndexBatch(0, 0, 0, 4, 4, None, Place()), True)]
    failing.append(RuntimeError("no memory"))
    with pytest.raises(RuntimeError, match="no memory"):
        drawer.render(IndexBatch(0, 0, 4, 4, 4, None, Place()), True)
    again += [drawer.render(IndexBatch(0, 0, first, 4, 4, None, Place()), True) for first in (4, 8)]
    for (images, labels), (others, targets) in zip(wanted, again, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, targets)


def test_graphs_are_forgotten_when_the_memory_that_they_read_moves():
    sizes = [2, 2, 1, 5, 3, 5, 6]
    feed = loader(batch_sampler=[list(range(size)) for size in sizes])
    forgotten, places = [], []
    next(iter(feed))  # makes the pipeline
    cache = feed._pipeline._graph_cache
    cache.clear = lambda: forgotten.append(len(places))
    launch = pipeline.BatchPipeline._launch_chosen

    def launched(self, policy, given, host):
        places.append(given.data_ptr())
        return launch(self, policy, given, host)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.BatchPipeline, "_launch_chosen", launched)
        assert len(list(feed)) == len(sizes)
    assert forgotten == [3, 6]  # the batches that are larger than all before
    assert [len({*places[a:b]}) for a, b in ((0, 3), (3, 6), (6, 7))] == [1, 1, 1]  # elsewhere it stays where it is


def test_dali_s_batches_are_waited_for_on_a_stream_of_their_own(monkeypatch):
    """DALI does not wait for the stream that a batch was made on, so it must be whole when it is handed over."""
    from gpurender.interop import dali

    log = []

    class Own:
        def __init__(self, device):
            log.append(f"a stream of {device}")

        def synchronize(self):
            log.append("wait")

    class Entered:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            log.append("enter")

        def __exit__(self, *error):
            log.append("leave")

    monkeypatch.setattr(torch.cuda, "Stream", Own)
    monkeypatch.setattr(torch.cuda, "stream", Entered)
    source = object.__new__(dali.Source)
    source._device, source._stream, source._kept = torch.device("cuda", 0), None, dali.deque(maxlen=4)
    drawn = (log.append("drawn") or (torch.zeros(2), torch.tensor([i, i])) for i in range(2))
    source._pass = drawn
    for i in range(2):
        log.append("next")
        canvases, labels = source._batch_on_gpu()
        log.append("handed over")
        assert labels.tolist() == [[i], [i]]
        assert source._kept[-1][0] is canvases
    once = ["enter", "drawn", "leave", "wait", "handed over"]
    assert log == ["next", "a stream of cuda:0", *once, "next", *once]


# ---------------------------------------------------------------------------------------------------------- on a GPU


def busy():
    """Keep the current stream busy for some milliseconds."""
    torch.cuda._sleep(20_000_000)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["onepfrac-1k", "fractaldb-1k"])
def test_two_streams_share_a_renderer(name):
    """The first makes the bitmaps behind other work; the second asks at once, and the renderer is let go at once."""
    recipe = gr.recipe(name)
    samples = list(range(0, len(recipe), len(recipe) // 100))[:100]
    wanted = gr.Renderer(recipe)(samples)
    one, other = torch.cuda.Stream(), torch.cuda.Stream()
    renderer = gr.Renderer(recipe, "cuda")
    assert renderer.catalog is not None
    with torch.cuda.stream(one):
        busy()
        first = renderer(samples)
    with torch.cuda.stream(other):
        busy()
        second = renderer(samples)
    del renderer
    with torch.cuda.stream(one):  # what the renderer had is overwritten as soon as it is given back
        for _ in range(50):
            torch.full((1 << 22,), 255, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    assert torch.equal(first.cpu(), wanted)
    assert torch.equal(second.cpu(), wanted)


@pytest.mark.gpu
def test_the_host_runs_ahead_of_a_user_s_sampler():
    """Batches of a sampler, and of a mixture, are asked for while the GPU is busy; all are right in the end."""
    recipe = SMALL["visualatom"]()
    mixture = gr.Mixture({SMALL["onepfrac"](): 1, SMALL["visualatom"](): 1})
    generator = torch.Generator().manual_seed(3)
    for dataset in (recipe, mixture):
        chosen = [torch.randint(len(dataset), (3000,), generator=generator).tolist() for _ in range(8)]
        keywords = {"batch_sampler": chosen, "image_size": 16}
        feed = gr.DataLoader(dataset, device="cuda", **keywords)
        list(feed)  # compiles, and captures the graphs
        ready = [torch.zeros(size, dtype=torch.int64).pin_memory() for size in (9000, 1500) for _ in range(40)]
        del ready  # torch has pinned memory in hand: to get more might wait for the GPU
        done = torch.cuda.Event()
        torch.cuda._sleep(2_000_000_000)  # a second: far longer than the host takes to ask for all batches
        done.record()
        kept = list(feed)
        assert not done.query(), "the host has waited"
        slow = gr.DataLoader(dataset, device="cpu", **keywords)
        for (images, targets), (others, labels) in zip(kept, slow, strict=True):
            assert torch.equal(images.cpu(), others)
            assert torch.equal(targets.cpu(), labels)


class Reads:
    """A policy that claims that a graph may hold it, and reads from the GPU."""

    capturable = True

    def __init__(self):
        self.real = gr.augment.Crop()

    def draw(self, numbers, **where):
        return self.real.draw(numbers, **where)

    def apply(self, canvases, parameters, **finish):
        assert parameters["boxes"].min().item() >= 0
        return self.real.apply(canvases, parameters, **finish)


@pytest.mark.gpu
def test_a_policy_that_cannot_be_captured_costs_no_memory_and_no_random_numbers():
    """A failed capture must leave torch's allocator giving memory back, and its generator drawing."""
    recipe = gr.VisualAtom(classes=100, instances=20, image_size=64, orbits=(1, 3), quantization=(5, 9))
    feed = gr.DataLoader(recipe, batch_size=64, image_size=112, device="cuda", augment=Reads())
    used = []

    def batches_for_ever():
        while True:
            yield from feed

    for count, (images, _) in zip(range(300), batches_for_ever(), strict=False):
        images.mul_(2.0)  # on the consumer's stream
        if count in (50, 299):
            torch.cuda.synchronize()
            used += [torch.cuda.memory_allocated(), torch.cuda.memory_reserved()]
        del images
    assert feed._pipeline._graph_cache._off
    assert used[2] < used[0] + (64 << 20)  # 250 batches would be 2.4 GB
    assert used[3] < used[1] + (64 << 20)
    assert torch.rand(3, device="cuda").shape == (3,)
    assert torch.nn.functional.dropout(torch.ones(4, device="cuda")).shape == (4,)


@pytest.mark.gpu
def test_two_loaders_and_a_captured_step_at_once():
    """Graphs of two loaders, beside a training step that is itself replayed from a graph, are each right."""
    recipes = SMALL["visualatom"](), SMALL["onepfrac"]()
    keywords = {"batch_size": 8, "image_size": 32, "augment": gr.augment.Crop(), "shuffle": True}
    feeds = [gr.DataLoader(recipe, device="cuda", **keywords) for recipe in recipes]
    slow = [gr.DataLoader(recipe, device="cpu", **keywords) for recipe in recipes]
    place = torch.zeros(8, 3, 32, 32, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = place.sum()
    for (a, x), (b, y), (c, z), (d, w), _ in zip(*feeds, *slow, range(9), strict=False):
        place.copy_(a)
        graph.replay()
        assert torch.equal(total, a.sum())
        for found, wanted in ((a, c), (x, z), (b, d), (y, w)):
            assert torch.equal(found.cpu(), wanted)
    assert all(feed._pipeline._graph_cache._graphs for feed in feeds)


@pytest.mark.gpu
def test_a_graph_s_tables_stay_whatever_other_policies_ask_for(monkeypatch):
    """The table of the loader's policy is not kept for others any more, and its memory is not given away."""
    from gpurender.augment import normalise
    from gpurender.util import device_tables as kept

    monkeypatch.setattr(kept, "KEPT", 2)
    monkeypatch.setattr(normalise, "lookup_table", kept.on_device(normalise.lookup_table.__wrapped__))
    recipe, keywords = SMALL["visualatom"](), {"batch_size": 8, "image_size": 32, "augment": gr.augment.Crop()}
    feed, slow = gr.DataLoader(recipe, device="cuda", **keywords), gr.DataLoader(recipe, device="cpu", **keywords)
    for count, ((images, _), (others, _)) in enumerate(zip(feed, slow, strict=True)):
        if count > 3:
            for i in range(4):
                normalise.lookup_table((i / 8, 0.0, 0.0), (0.5, 0.5, 0.5), torch.float32, images.device)
        assert torch.equal(images.cpu(), others)
    assert feed._pipeline._graph_cache._graphs
