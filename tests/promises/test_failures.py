"""When things go wrong: exceptions, Ctrl-C, forks and spawns, abandoned and parallel iterators, what is left behind."""

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref

import pytest
import torch

import gpurender as gr
from gpurender.loading.prefetch import StreamPrefetcher
from gpurender.runtime import threads
from tests.support.messages import said

RECIPE = gr.VisualAtom(
    classes=5, instances=5, image_size=48, orbits=(8, 15), quantization=(30, 60), nucleus=(-0.2, 0.2), radius=(2, 10)
)


def loader(**keywords):
    keywords = {"batch_size": 4, "image_size": 24, "shuffle": True, "augment": gr.augment.Crop(), **keywords}
    return gr.DataLoader(RECIPE, **keywords)


def same(found, wanted):
    found, wanted = list(found), list(wanted)
    return len(found) == len(wanted) and all(
        torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(found, wanted, strict=True)
    )


class Fails:
    """A policy that fails at some batches, somewhere down in its own code."""

    def __init__(self, *firsts):
        self.firsts = set(firsts)

    def draw(self, numbers, **where):
        return {"numbers": torch.as_tensor(numbers)}

    def apply(self, canvases, parameters, **finish):
        self.deep_inside(int(parameters["numbers"][0]))
        return canvases[:, :1].expand(-1, 3, -1, -1).float()

    def deep_inside(self, number):
        if number in self.firsts:
            raise ZeroDivisionError(f"at sample {number}")


# --------------------------------------------------------------------------------------------------------- exceptions


@pytest.mark.parametrize("ahead", [None, 1, 3])
def test_an_exception_reaches_the_consumer_in_its_turn_with_its_traceback(ahead):
    policy = Fails(8)
    feed = loader(augment=policy, shuffle=False, prefetch_factor=ahead)
    batches = iter(feed)
    assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 0, 0, 0], [0, 1, 1, 1]]
    for _ in range(2):  # nothing has moved: asked again, it is the same batch
        with pytest.raises(ZeroDivisionError, match="at sample 8") as caught:
            next(batches)
        assert any(frame.name == "deep_inside" for frame in traceback.extract_tb(caught.value.__traceback__))
        assert feed.state_dict()["position"] == 8
    policy.firsts.clear()
    assert next(targets.tolist() for _, targets in batches) == [1, 1, 2, 2]
    assert sum(1 for _ in batches) == 4
    assert feed.state_dict()["epoch"] == 1


def test_an_error_in_one_image_stops_the_others():
    done = []

    def work(start, stop):
        if start == 0:
            raise ValueError("the first")
        time.sleep(0.01)
        done.append((start, stop))

    with pytest.raises(ValueError, match="the first"):
        threads.parallel_ranges(64 * 200, work)
    assert len(done) < 100


# ------------------------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
import atexit, signal, sys, threading, time, torch
import gpurender as gr
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this process inherits (nohup ignores it)
torch.set_num_threads(int(sys.argv[1]))
base = [[.5, 0, 0, .5, 0, 0], [.5, 0, 0, .5, .5, .5]]
recipe = gr.OnePFrac(classes=4000, image_size=256, points=1_000_000, base=base, fill_rate=0.0)
feed = gr.DataLoader(recipe, batch_size=4000, image_size=32, prefetch_factor=int(sys.argv[2]))
next(iter(gr.DataLoader(recipe, batch_size=1, image_size=32)))  # compiled
from gpurender.kernels.chaos_game import cpu
lines, drawn, draw = iter(["in the batch"]), [], cpu.render_cover

def counted(*arguments):
    for line in lines:
        print(line, flush=True)
        if sys.argv[3] == "thread":
            while sys._current_frames()[threading.main_thread().ident].f_code.co_name != "wait":
                time.sleep(0.01)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    draw(*arguments)
    drawn.append(1)

cpu.render_cover = counted
atexit.register(lambda: print(len(drawn)))  # after all threads have ended
next(iter(feed))
"""


@pytest.mark.parametrize(
    ("cores", "ahead", "to"), [(2, 0, "process"), (1, 0, "process"), (2, 3, "process"), (2, 3, "thread")]
)
def test_ctrl_c_returns_at_once(root, cores, ahead, to):
    """Of a batch of 4,000 images no more are drawn than those of the ranges that have begun.

    The system may give the signal to any thread, and wakes no other; Python handles it when the main thread wakes.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(cores), str(ahead), to], env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "in the batch\n"
        if to == "process":
            process.send_signal(signal.SIGINT)
        drawn, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert int(drawn) < 1000


def test_ctrl_c_while_a_thread_starts_leaves_none_at_work(monkeypatch):
    """The interrupt comes when the thread runs and its start has not returned."""
    start, started, working = threading.Thread.start, [], threading.Event()

    def interrupted(thread):
        start(thread)
        started.append(thread)
        assert working.wait(60)
        raise KeyboardInterrupt

    def work(begin, end):
        working.set()
        time.sleep(0.2)  # longer than an interrupt takes to come out, if nobody waits for this

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.parallel_ranges(1000, work)
    (thread,) = started
    assert not thread.is_alive()


# --------------------------------------------------------------------------------------------------- forks and spawns


def first_batches(feed, queue):
    queue.put([(images.numpy(), targets.numpy()) for images, targets in feed])


@contextlib.contextmanager
def other_process(method, feed):
    """Another process that draws all of ``feed``: what gives its batches. It ends here, whatever becomes of it."""
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=first_batches, args=(feed, queue))

    def batches():
        found = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in queue.get(timeout=300)]
        process.join(60)
        assert process.exitcode == 0
        return found

    process.start()
    try:
        yield batches
    finally:
        process.kill()
        process.join(60)


@pytest.mark.parametrize("ahead", [None, 2])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_draw_the_same(method, ahead):
    feed = loader(prefetch_factor=ahead)
    wanted = list(feed)  # threads have been at work
    feed.set_epoch(0)
    with other_process(method, feed) as found:
        assert same(found(), wanted)


@pytest.mark.parametrize("ahead", [None, 2])
def test_a_fork_midway_goes_on_in_both_processes(ahead):
    wanted = list(loader())
    batches = iter(loader(prefetch_factor=ahead))
    assert same([next(batches)], wanted[:1])
    with other_process("fork", batches) as found:
        rest = list(batches)
        assert same(found(), wanted[1:])
    assert same(rest, wanted[1:])


def test_torchs_workers_and_ours_live_side_by_side():
    """A dataset in torch's forked workers while a thread of ours draws ahead."""
    dataset = gr.Dataset(RECIPE, transform=lambda image: torch.tensor(image.getpixel((24, 24))))
    ours, theirs = loader(prefetch_factor=2), torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=2)
    pairs = list(zip(ours, theirs, strict=True))
    assert len(pairs) == 7
    assert same([pair[0] for pair in pairs], loader())


# ---------------------------------------------------------------------------------------------------------- iterators


@pytest.mark.parametrize("ahead", [None, 2])
def test_two_iterators_over_one_loader_are_independent(ahead):
    wanted, feed = list(loader()), loader(prefetch_factor=ahead)
    one, other = iter(feed), iter(feed)
    taken = [next(one), next(one), next(one)]
    assert same([next(other)], wanted[:1])
    assert same([*taken, *one], wanted)
    assert same(list(other), wanted[1:])


@pytest.mark.parametrize("ahead", [None, 2])
def test_threads_may_share_a_loader(ahead):
    wanted, feed = list(loader()), loader(prefetch_factor=ahead)
    passes, found = [iter(feed) for _ in range(4)], [[] for _ in range(4)]
    for batches in passes:
        batches._begun()  # all of them in epoch 0
    workers = [threading.Thread(target=lambda i=i: found[i].extend(passes[i])) for i in range(4)]
    [worker.start() for worker in workers]
    [worker.join(60) for worker in workers]
    assert all(same(batches, wanted) for batches in found)


def own_threads():
    """The threads of the package; those of an earlier test may still be about to end."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("gpurender")}


@pytest.mark.parametrize("ahead", [None, 3])
def test_abandoned_iterators_leave_nothing(ahead):
    before = own_threads()
    feed = loader(prefetch_factor=ahead)
    for _ in range(200):
        next(iter(feed))
    feed.set_epoch(1), feed.set_epoch(0)
    assert same(feed, loader())
    assert len([thread for thread in own_threads() - before if thread.is_alive()]) <= 1 + (ahead is not None)


@pytest.mark.parametrize("ahead", [None, 2])
def test_del_frees_at_once(ahead):
    """No cycle keeps a loader, its renderer or its batches: memory is free without the garbage collector."""
    before = own_threads()
    feed = loader(prefetch_factor=ahead)
    batches = iter(feed)
    batch = next(batches)
    watched = [
        weakref.ref(x) for x in (feed, batches, feed._pipeline, feed._renderer, feed._renderer.catalog, batch[0])
    ]
    if ahead:
        watched.append(weakref.ref(feed._prefetcher))
    gc.disable()
    try:
        del feed, batches, batch
        end = time.monotonic() + 60
        while any(ref() is not None for ref in watched) and time.monotonic() < end:
            time.sleep(0.01)  # the thread lets go of the batch that it was drawing
        assert [ref() for ref in watched] == [None] * len(watched)
    finally:
        gc.enable()
    for thread in own_threads() - before:
        thread.join(60)
        assert not thread.is_alive()


def printed(code, root, timeout=300):
    """What a script prints that ends well, on standard output and error; there, without what the first kernels say."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, said(done.stderr)


def test_a_process_ends_although_iterators_live(root):
    """Of 3 x 64 batches that wait for their thread at the interpreter's end, none is drawn but those under way."""
    code = """
import atexit, threading, time
import gpurender as gr
drawn, draw, ending = [], gr.DataLoader._render, threading.Event()
threading._register_atexit(ending.set)  # called before those that were registered earlier

def counted(self, step, mixes):
    drawn.append(step.first)
    if step.first > 0:  # drawn ahead: it lasts beyond the main thread's end
        ending.wait()
        time.sleep(0.2)
    return draw(self, step, mixes)

gr.DataLoader._render = counted
recipe = gr.VisualAtom(classes=500, instances=1000, image_size=64)
feeds = [gr.DataLoader(recipe, batch_size=50, image_size=32, prefetch_factor=64) for _ in range(3)]
passes = [iter(feed) for feed in feeds]
print([len(next(batches)[1]) for batches in passes])
atexit.register(lambda: print(len(drawn)))  # after all threads have ended
"""
    out, errors = printed(code, root)
    lines = out.splitlines()
    assert (lines[0], errors) == ("[50, 50, 50]", "")
    assert 3 <= int(lines[1]) <= 3 * 4


def test_a_thread_draws_on_while_the_interpreter_ends(root):
    """Python starts no thread of a pool then, and what waited for one was cancelled."""
    code = """
import concurrent.futures.thread, threading, time
import gpurender as gr
recipe = gr.VisualAtom(classes=2, instances=4, image_size=32)
feed = gr.DataLoader(recipe, batch_size=2, image_size=16, prefetch_factor=2)
batches = iter(feed)
next(batches)

def late():
    while not concurrent.futures.thread._shutdown:
        time.sleep(0.01)
    print(len(list(batches)), len(list(feed)))

threading.Thread(target=late).start()
"""
    assert printed(code, root) == ("3 4\n", "")


# ------------------------------------------------------------------------------------------- fewer threads than hoped


@pytest.fixture
def threads_left(monkeypatch):
    """Let so many threads be started, then no more, as under a container's limit."""
    start = threading.Thread.start

    def allow(count):
        def limited(thread):
            nonlocal count
            if count == 0:
                raise RuntimeError("can't start new thread")
            count -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)

    before, cores = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(4)
    yield allow
    monkeypatch.undo()
    torch.set_num_threads(cores)
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "gpurender"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_every_range_is_done_once_by_as_many_threads_as_there_are(threads_left, count):
    threads_left(count)
    together, done, by = threading.Barrier(1 + min(count, 3)), [], set()

    def work(start, stop):
        if threading.get_ident() not in by:
            by.add(threading.get_ident())
            together.wait(60)  # each of them has a range
        done.extend(range(start, stop))

    threads.parallel_ranges(1000, work)
    assert sorted(done) == list(range(1000))
    assert len(by) == 1 + min(count, 3)
    assert threading.get_ident() in by


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_with_fewer_threads_is_the_first_ranges(threads_left, count):
    threads_left(count)
    together = threading.Barrier(1 + count)

    def work(start, stop):
        together.wait(60)
        raise ValueError(str(start))

    with pytest.raises(ValueError, match=r"^0$"):
        threads.parallel_ranges(1000, work)


@pytest.mark.parametrize("ahead", [None, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_batches_are_the_same_with_fewer_threads(threads_left, monkeypatch, ahead, count):
    wanted = [*loader(), *loader(seed=1)]
    feed, other = loader(prefetch_factor=ahead), loader(prefetch_factor=ahead, seed=1)
    names, draw = [], gr.DataLoader._render
    monkeypatch.setattr(
        gr.DataLoader,
        "_render",
        lambda *given, **more: names.append(threading.current_thread().name) or draw(*given, **more),
    )
    threads_left(count)
    assert same([*feed, *other], wanted)
    threads_left(1000)  # nothing is remembered
    names.clear()
    feed.set_epoch(0)
    assert same(feed, wanted[:7])
    assert len(names) == 7
    assert all(name.startswith("gpurender-ahead") == (ahead is not None) for name in names)


def test_a_thread_that_the_system_refuses_is_done_without():
    """No fake: no stack of 32 TiB is to be had."""
    wanted = list(loader())
    before = threading.stack_size(1 << 45)
    try:
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=int).start()
            pytest.skip("this system promises memory that it does not have")
        found = list(loader(prefetch_factor=2))
    finally:
        threading.stack_size(before)
    assert same(found, wanted)


def test_a_batch_that_is_dropped_is_not_drawn(monkeypatch):
    drawn, may_end, draw = [], threading.Event(), gr.DataLoader._render

    def counted(self, step, mixes):
        drawn.append(step.first)
        assert step.first == 0 or may_end.wait(60)
        return draw(self, step, mixes)

    monkeypatch.setattr(gr.DataLoader, "_render", counted)
    feed = loader(batch_size=2, prefetch_factor=8)
    batches = iter(feed)
    next(batches)
    del batches
    may_end.set()
    feed._prefetcher.hand_over(feed._prefetcher.start(lambda: None))  # behind all that was given to the thread
    assert drawn in ([0], [0, 2])  # the second one may have begun


def test_a_loader_is_pickled_with_its_place():
    feed = loader(prefetch_factor=2)
    batches = iter(feed)
    next(batches)
    copied = pickle.loads(pickle.dumps(feed))
    assert copied.state_dict() == feed.state_dict()
    copied.load_state_dict(feed.state_dict())
    assert same(copied, list(batches))


@pytest.mark.gpu
def test_del_frees_the_gpus_memory():
    def used():
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    before = used()
    feed = loader(device="cuda", augment=gr.augment.DeiT(), prefetch_factor=3)
    for _ in range(3):
        list(feed)
    batches = iter(feed)
    next(batches)
    assert isinstance(feed._prefetcher, StreamPrefetcher)
    assert used() > before
    del feed, batches
    tables = 1 << 20  # of quantiles and coefficients, shared by all loaders and kept
    assert used() - before < tables
