"""gpurender.interop.dali.Source against DALI itself, on a CPU: recipes in its pipelines."""

import collections
import contextlib
import json
import os
import pickle
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import gpurender as gr
from gpurender.interop import dali as interop

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI, of the extra 'dali-cuda12' or 'dali-cuda13'")
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIClassificationIterator, DALIGenericIterator

TRIANGLE = [[0.5, 0, 0, 0.5, 0, 0], [0.5, 0, 0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5, 0.25, 0.5]]
CPU = {"num_threads": 1, "device_id": None}


def tiny(classes=2, instances=5, **parameters):
    return gr.OnePFrac(
        classes=classes, instances=instances, image_size=32, points=300, fill_rate=0.0, base=TRIANGLE, **parameters
    )


def source(recipe=None, batch_size=4, **keywords):
    return interop.Source(recipe or tiny(), batch_size, **{"shuffle": True, "seed": 5, **keywords})


@pipeline_def(**CPU)
def canvases(drawn, parallel=False):
    """A pipeline that passes on what the source gives."""
    images, labels = fn.external_source(**drawn.keywords, parallel=parallel)
    return images, labels


@pipeline_def(**CPU)
def augmented(drawn):
    images, labels = fn.external_source(**drawn.keywords)
    images = fn.random_resized_crop(images, size=16)
    return fn.crop_mirror_normalize(images, mean=[127.5], std=[127.5], mirror=fn.random.coin_flip()), labels


def through(pipeline):
    return DALIGenericIterator(pipeline, ["data", "label"], auto_reset=True)


def epochs(iterator, count):
    """The batches of some epochs: pairs of arrays, epoch by epoch."""
    return [[(b[0]["data"].numpy().copy(), b[0]["label"].numpy().copy()) for b in iterator] for _ in range(count)]


def same(a, b):
    return len(a) == len(b) and all(
        np.array_equal(x, u) and np.array_equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


def expected(count, recipe=None, batch_size=4, fresh=False, **keywords):
    """What the renderer draws of the samples of gr.DataLoader's batches, epoch by epoch."""
    recipe = recipe or tiny()
    loader = gr.DataLoader(recipe, batch_size, device="cpu", fresh=fresh, **{"shuffle": True, "seed": 5, **keywords})
    renderer = gr.Renderer(recipe)
    drawn = []
    for epoch in range(count):
        loader.set_epoch(epoch)
        drawn.append(
            [
                (
                    renderer(samples, epoch if fresh else 0, fresh=fresh).permute(0, 2, 3, 1).numpy(),
                    renderer.labels(samples).numpy()[:, None],
                )
                for samples in loader.batch_sampler
            ]
        )
    return drawn


# ------------------------------------------------------------------------------------------------- into a DALI pipeline


@pytest.mark.parametrize(
    "keywords",
    [{}, {"shuffle": False}, {"fresh": True}, {"drop_last": True}, {"rank": 1, "world_size": 2}],
    ids=["shuffle", "in order", "fresh", "drop_last", "rank 1 of 2"],
)
def test_a_pipeline_passes_on_the_canvases_of_the_renderer(keywords):
    drawn = source(**keywords)
    got, want = epochs(through(canvases(drawn, batch_size=4)), 3), expected(3, **keywords)
    assert [len(epoch) for epoch in got] == [len(drawn)] * 3
    assert all(map(same, got, want))
    assert got[0][0][0].dtype == np.uint8
    assert got[0][0][1].dtype == np.int64
    if keywords.get("shuffle", True):
        assert not same(got[0], got[1])


def test_a_family_of_several_colours_comes_channels_last():
    recipe = gr.FractalDB(classes=2, instances=4, image_size=32, points=300)
    got = epochs(through(canvases(source(recipe), batch_size=4)), 1)
    assert same(got[0], expected(1, recipe)[0])
    assert got[0][0][0].shape == (4, 32, 32, recipe.channels)


@pytest.mark.parametrize("spaces", ["joint", "separate"])
def test_a_mixture_comes_as_from_the_loader(spaces):
    recipe = gr.Mixture({tiny(seed=1): 1.0, tiny(classes=3, seed=2): 2.0}, labels=spaces)
    loader = gr.DataLoader(recipe, 4, image_size=32, shuffle=True, seed=5, fresh=True, device="cpu")
    for got in epochs(through(canvases(source(recipe, fresh=True), batch_size=4)), 2):
        want = list(loader)
        assert [targets.reshape(len(targets), -1).tolist() for _, targets in want] == [
            targets.tolist() for _, targets in got
        ]
        for (images, _), (canvas, _) in zip(want, got, strict=True):
            assert np.array_equal(((images[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy(), canvas[..., 0])


@pytest.mark.parametrize("prepare_first_batch", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_epochs_do_not_depend_on_how_far_dali_looks_ahead(prepare_first_batch, depth):
    pipeline = canvases(source(), batch_size=4, prefetch_queue_depth=depth)
    iterator = DALIClassificationIterator(pipeline, prepare_first_batch=prepare_first_batch)
    got = []
    for _ in range(3):
        got += epochs(iterator, 1)
        with pytest.raises(StopIteration):
            next(iterator)
        iterator.reset()
    assert all(map(same, got, expected(3)))


def test_an_explicit_size_ends_the_epochs_at_the_same_batches():
    with pytest.warns(Warning, match="reader_name"):
        iterator = DALIClassificationIterator(canvases(source(batch_size=5), batch_size=5), size=10)
    assert len(iterator) == 2
    assert all(map(same, epochs(iterator, 3), expected(3, batch_size=5)))


def test_what_dali_does_with_canvases_and_its_own_checkpoints():
    """DALI's checkpoint of every batch holds the place of the source and of DALI's generators."""

    def iterator(**keywords):
        return through(augmented(source(fresh=True), batch_size=4, seed=1, enable_checkpointing=True, **keywords))

    run = iterator()
    batches, checkpoints = [], []
    for _ in range(2):
        for batch in run:
            batches.append((batch[0]["data"].numpy().copy(), batch[0]["label"].numpy().copy()))
            checkpoints.append(run.checkpoints()[0])
    assert [images.shape for images, _ in batches] == [(4, 1, 16, 16), (4, 1, 16, 16), (2, 1, 16, 16)] * 2
    assert batches[0][0].dtype == np.float32
    for done in (1, 2, 4, 5):
        left = epochs(iterator(checkpoint=checkpoints[done - 1]), 2)
        assert same((left[0] + left[1])[: 6 - done], batches[done:])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [4, 5])  # of 10 samples: with a tail, and without
def test_every_place_is_the_loaders_and_can_be_resumed_at(drop_last, size):
    run = through(canvases(source(batch_size=size, drop_last=drop_last), batch_size=size))
    whole = [batch for epoch in epochs(run, 4) for batch in epoch]
    loader = gr.DataLoader(tiny(), size, image_size=8, shuffle=True, seed=5, drop_last=drop_last, device="cpu")
    length = len(loader)
    assert len(whole) == 4 * length
    done = 0
    for epoch in range(2):
        for batches, _ in enumerate(loader, start=1):
            done += 1
            state = source(batch_size=size, drop_last=drop_last).state_dict(epoch, batches)
            assert state == loader.state_dict()
            resumed = source(batch_size=size, drop_last=drop_last)
            resumed.load_state_dict(json.loads(json.dumps(state)))
            assert resumed.epoch == epoch + (batches == length)
            assert resumed.state_dict(resumed.epoch, 0) == state
            left = epochs(through(canvases(resumed, batch_size=size)), 2)
            assert [len(part) for part in left] == [length - batches % length, length]
            assert same(left[0] + left[1], whole[done : done + len(left[0]) + length])


def test_places_of_a_resumed_source_count_from_where_it_began():
    resumed = source(batch_size=2)
    resumed.load_state_dict(source(batch_size=2).state_dict(3, 2))  # 4 of 10 samples
    assert [resumed.state_dict(*place)["position"] for place in ((3, 0), (3, 2), (3, 3), (4, 1))] == [4, 8, 0, 2]
    assert resumed.state_dict(3, 3)["epoch"] == 4
    with pytest.raises(ValueError, match=r"batches must be an integer in \[0, 3\], got 4"):
        resumed.state_dict(3, 4)
    with pytest.raises(ValueError, match=r"epoch must be an integer in \[3, "):
        resumed.state_dict(2, 0)


def test_other_ranks_go_on_in_the_same_order():
    """Two ranks stop, three go on: nothing twice, nothing lost."""
    recipe = tiny(instances=12)

    def samples(states, world_size, batch_size, count):
        """What all ranks draw, step by step, rank after rank."""
        ranks = []
        for rank in range(world_size):
            drawn = source(recipe, batch_size, rank=rank, world_size=world_size)
            if states:
                drawn.load_state_dict(states[0])
            ranks.append(epochs(through(canvases(drawn, batch_size=batch_size)), 1)[0][:count])
        images = [np.concatenate([batch[0] for batch in step]) for step in zip(*ranks, strict=True)]
        return [image.tobytes() for image in np.concatenate(images)]

    first = samples(None, 2, 3, 2)
    state = source(recipe, 3, rank=0, world_size=2).state_dict(0, 2)
    rest = samples([state], 3, 2, None)
    whole = np.concatenate([images for images, _ in expected(1, recipe)[0]])
    assert first + rest == [image.tobytes() for image in whole]


def test_a_tail_that_is_dropped_on_resuming_is_the_next_epochs_beginning():
    state = source(batch_size=3).state_dict(0, 3)  # 9 of 10 samples
    resumed = source(drop_last=True)
    resumed.load_state_dict(state)
    assert resumed.epoch == 1
    assert same(epochs(through(canvases(resumed, batch_size=4)), 1)[0], expected(2, drop_last=True)[1])


PARALLEL = """
import torch
import numpy as np
from tests.interop import test_dali as t
torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # OpenMP's threads, which a forked process lacks
if __name__ == "__main__":
    drawn = t.source(batch_size=2)
    pipeline = t.canvases(drawn, parallel=True, batch_size=2, py_num_workers=2, py_start_method="fork")
    got = t.epochs(t.through(pipeline), 2)
    assert all(map(t.same, got, t.expected(2, batch_size=2)))
    print("as expected")
"""


def test_worker_processes_draw_the_same(root, tmp_path):
    script = tmp_path / "parallel.py"
    script.write_text(PARALLEL)
    process = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        if process.poll() is None:  # the workers hang, too
            os.killpg(process.pid, signal.SIGKILL)
    assert output.split() == ["as", "expected"], errors


def test_a_copy_of_a_source_that_has_begun_begins_for_itself():
    drawn = source()
    first = drawn(types.BatchInfo(0, 0))
    again = pickle.loads(pickle.dumps(drawn))
    assert same([again(types.BatchInfo(0, 0)), again(types.BatchInfo(2, 1))], [first, drawn(types.BatchInfo(2, 1))])


# --------------------------------------------------------------------------------------------------------- refusals


def test_a_pipeline_of_another_batch_size_is_refused():
    with pytest.raises(ValueError, match="batch_size must be that of the pipeline, 8, the source's is 4"):
        canvases(source(), batch_size=8)


def test_keywords_belong_into_a_definition():
    with pytest.raises(RuntimeError, match="where a pipeline is defined"):
        _ = source().keywords


def test_a_source_without_batch_info_says_what_it_needs():
    @pipeline_def(**CPU, batch_size=4)
    def pipeline():
        return tuple(fn.external_source(source(), num_outputs=2))

    with pytest.raises(TypeError, match=r"info must be DALI's BatchInfo, got 0; .*batch_info=True"):
        pipeline().run()


def test_an_epoch_of_many_samples_ends():
    """More than 256: Python keeps one object for each small integer alone."""
    drawn = source(tiny(classes=2, instances=150), 300)
    place = collections.namedtuple("Place", ("epoch_idx", "iteration"))
    assert len(drawn(place(0, 0))[0]) == 300
    with pytest.raises(StopIteration):
        drawn(place(0, 1))


def test_a_state_is_checked_and_comes_before_the_first_batch():
    drawn = source()
    with pytest.raises(ValueError, match="its seed is 5, this loader's is 6"):
        source(seed=6).load_state_dict(drawn.state_dict(0, 1))
    through(canvases(drawn, batch_size=4))
    with pytest.raises(RuntimeError, match="before a pipeline has asked"):
        drawn.load_state_dict(drawn.state_dict(0, 1))


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"device": "mps"}, ValueError, "device"),
        ({"seed": -1}, ValueError, "seed"),
        ({"drop_last": 1}, TypeError, "drop_last"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank"),
        ({"rank": 0}, ValueError, "rank and world_size"),
        ({"recipe": "no such preset"}, ValueError, "no such preset"),
    ],
)
def test_wrong_arguments_are_named(keywords, error, says):
    with pytest.raises(error, match=says):
        source(**keywords)


def test_without_dali_the_error_names_the_extras_and_the_iterator_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali.types", None)
    with pytest.raises(ImportError, match=r"gpurender\[dali-cuda13\].*gpurender\[dali-cuda12\]"):
        source()
    assert len(interop.Iterator(gr.DataLoader(tiny(), 4, device="cpu"))) == 3


# ------------------------------------------------------------------------------------------------- examples and GPUs


@pytest.mark.parametrize("example", ["dali_source.py", "dali_iterator.py"])
def test_an_example_runs(example, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [example, "--epochs", "1"])
    threads = torch.get_num_threads()
    runpy.run_path(str(root / "examples" / example), run_name="__main__")
    assert torch.get_num_threads() == threads
    printed = capsys.readouterr().out
    assert printed.startswith("epoch 0  12 batches  torch.float32 [32, 3, 32, 32]  loss ")


def test_a_source_and_its_loader_are_on_one_device(monkeypatch):
    """That which was asked for, where a GPU is the default."""
    asked = []
    monkeypatch.setattr(interop.devices, "resolve", lambda device=None: asked.append(device) or torch.device("cpu"))
    source(device="cuda:1")
    assert asked[:2] == ["cuda:1", torch.device("cpu")]


@pytest.mark.parametrize(("depth", "kept"), [(1, 4), (2, 4), (5, 7), ({"cpu_size": 3, "gpu_size": 2}, 8)])
def test_a_gpus_batches_are_kept_for_as_many_further_ones_as_dali_may_need(depth, kept):
    drawn = source()
    drawn._keep_for(canvases(source(), batch_size=4, prefetch_queue_depth=depth))
    assert drawn._kept.maxlen == kept


@pytest.mark.gpu
@pytest.mark.parametrize("depth", [2, 4])
def test_canvases_on_a_gpu_are_whole(depth):
    """Many batches through few buffers: one that DALI read too early or that was reused too soon would differ."""
    recipe = tiny(classes=4, instances=64)
    drawn = source(recipe, 16, device="cuda")
    pipeline = canvases(drawn, batch_size=16, device_id=drawn._device.index, prefetch_queue_depth=depth)
    assert all(map(same, epochs_on_gpu(pipeline, 3), expected(3, recipe, 16)))


def epochs_on_gpu(pipeline, count):
    """The batches of some epochs, copied to the host by DALI."""
    done = [[] for _ in range(count)]
    for batches in done:
        with contextlib.suppress(StopIteration):
            while True:
                batches.append(tuple(np.array(part.as_cpu().as_tensor()) for part in pipeline.run()))
        pipeline.reset()
    return done


@pytest.mark.gpu
def test_canvases_on_a_gpu_are_not_copied():
    drawn, looked = source(device="cuda", batch_size=1), set()

    def look(canvas):  # a CuPy array
        looked.add(canvas.data.ptr)
        return canvas

    @pipeline_def(num_threads=1, device_id=drawn._device.index, batch_size=1)
    def pipeline():
        images, labels = fn.external_source(**drawn.keywords)
        return fn.python_function(images, function=look, device="gpu"), labels

    assert same(epochs_on_gpu(pipeline(), 1)[0], expected(1, batch_size=1)[0])
    kept = {canvases.data_ptr() for canvases, _ in drawn._kept}
    assert kept
    assert kept <= looked


@pytest.mark.gpu
def test_a_training_loop_on_a_gpu_sees_whole_batches():
    recipe = tiny(classes=4, instances=64)
    drawn = source(recipe, 16, device="cuda")
    iterator = through(canvases(drawn, batch_size=16, device_id=drawn._device.index))
    want = expected(3, recipe, 16)
    weights = torch.randn(4096, 4096, device="cuda")
    for epoch in want:
        kept = []
        for batch in iterator:
            for _ in range(10):
                weights = weights @ weights / 64  # a step that is longer than the drawing of a batch
            kept.append((batch[0]["data"].clone(), batch[0]["label"].clone()))
        assert same([(images.cpu().numpy(), targets.cpu().numpy()) for images, targets in kept], epoch)


@pytest.mark.gpu
def test_a_pipeline_on_another_device_is_refused():
    with pytest.raises(ValueError, match="device must be that of the pipeline, which has device_id=None"):
        canvases(source(device="cuda"), batch_size=4)
