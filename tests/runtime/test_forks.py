"""Forks while other threads import or compile what draws: the child draws, too. In fresh interpreters."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from gpurender.runtime import forks
from gpurender.util.lazy import cached_property


def run(code, root, *arguments, **more):
    """What a script prints that succeeds."""
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **more}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# A thread stops in the middle of an import or of a compilation until a fork has been asked for, and then stays for as
# long as a fork would need that does not wait for it: a child that was made before it goes on has what it held.
FORK = """
    import os, signal, sys, threading, time

    import numpy as np
    import torch

    import gpurender as gr
    from gpurender.kernels import philox
    from gpurender.numerics.streams import Stream
    from gpurender.runtime import threads
    from gpurender.loading.prefetch import ThreadPrefetcher

    where, who = sys.argv[1:]
    if where == "import after Numba":
        import numba.core.event
    place = "compile" if where == "compile" else "import"
    begun = {"import": threading.Event(), "compile": threading.Event()}
    asked, forked = threading.Event(), threading.Event()
    os.register_at_fork(before=asked.set, after_in_parent=forked.set)  # hooks from before run last to first: at once

    def stay(here):
        if threading.current_thread() is threading.main_thread() or begun[here].is_set():
            return
        begun[here].set()
        if here == place:
            assert asked.wait(200)
            in_time.append(forked.wait(1))

    in_time = []

    def listen():
        from numba.core import event

        class Stay(event.Listener):
            def on_start(self, found):
                stay("compile")

            def on_end(self, found):
                pass

        event.register("numba:compile", Stay())

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "gpurender.runtime.numba_jit":
                listen()
            if name == "gpurender.kernels.philox.cpu":
                stay("import")

    def draw(out):
        out.append(philox.words(3, Stream.ORDER, np.arange(5, dtype=np.uint64), 2))

    sys.meta_path.insert(0, Finder())
    if where == "compile":
        import gpurender.kernels.philox.cpu

    drawn = []
    if who == "thread":
        thread = threading.Thread(target=draw, args=(drawn,))
    elif who == "workers":
        def in_workers():
            both = threading.Barrier(2)
            threads.parallel_ranges(2, lambda a, b: (both.wait(), draw(drawn)))
        thread = threading.Thread(target=in_workers)
    else:
        producer = ThreadPrefetcher()
        def ask():
            producer.hand_over(producer.start(lambda: draw(drawn)))
        thread = threading.Thread(target=ask)
    torch.set_num_threads(2)
    thread.start()
    assert begun[place].wait(200)
    child = os.fork()
    if not child:
        signal.alarm(200)  # a child that hangs is ended, and has failed
        found = []
        other = threading.Thread(target=draw, args=(found,))  # not the thread that forked
        other.start()
        other.join(150)
        draw(found)
        print(found[0].tolist(), flush=True)
        os._exit(0 if len(found) == 2 and np.array_equal(*found) else 1)
    assert os.waitpid(child, 0)[1] == 0, "the child did not draw"
    thread.join(200)
    assert not thread.is_alive()
    assert begun["compile"].is_set()
    assert in_time == [False], "the fork did not wait"
    print(drawn[-1].tolist())
"""


@pytest.mark.parametrize(
    ("where", "who"),
    [
        ("import", "thread"), ("import", "loader"), ("import after Numba", "thread"),
        ("compile", "thread"), ("compile", "loader"), ("compile", "workers"),
    ],
)  # fmt: skip
def test_a_fork_while_another_thread_prepares_draws(where, who, root, tmp_path):
    lines = run(FORK, root, where, who, NUMBA_CACHE_DIR=str(tmp_path)).splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]


WATCHED = """
    import sys, threading

    import gpurender as gr
    from gpurender.runtime import forks

    found = []

    def preparing():
        compiler = forks._compiler_lock()
        return forks.IMPORTS._is_owned() or compiler is not None and compiler.is_locked()

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if not preparing():
                found.append(name)

    def draw():
        for recipe in (*plain, gr.Mixture({plain[0]: 1, plain[1]: 1})):
            for policy in (None, gr.augment.Crop(), gr.augment.DeiT(), gr.augment.TwoViews(gr.augment.Crop())):
                feed = gr.DataLoader(recipe, 4, True, image_size=16, augment=policy, device="cpu")
                assert list(feed)

    shared = {"classes": 3, "instances": 3, "image_size": 32}
    plain = [
        gr.VisualAtom(**shared, label_noise=0.2, class_prior=2),
        gr.FractalDB(**shared),
        gr.OnePFrac(**shared, points=200),
    ]
    thread = threading.Thread(target=draw)
    sys.meta_path.insert(0, Finder())
    thread.start()
    thread.join()
    print(found)
"""


def test_whatever_a_thread_imports_a_fork_waits_for(root):
    assert run(WATCHED, root) == "[]\n"


def test_a_compiler_that_comes_while_a_fork_begins_is_waited_for(monkeypatch):
    """Another thread imports Numba between a fork's look for its lock and the fork's own lock."""
    compiler = threading.Lock()
    looks = iter([None, compiler])
    monkeypatch.setattr(forks, "_compiler_lock", lambda: next(looks, compiler))
    forks._before()
    try:
        assert compiler.locked()
    finally:
        forks._after()
    assert not compiler.locked()


def test_a_cached_property_holds_no_lock_while_it_is_computed():
    class Slow:
        def __init__(self):
            self.begun, self.may_end = threading.Event(), threading.Event()

        @cached_property
        def value(self):
            """A value."""
            self.begun.set()
            assert self.may_end.wait(60)
            return object()

    first, second = Slow(), Slow()
    thread = threading.Thread(target=lambda: first.value)
    thread.start()
    try:
        assert first.begun.wait(60)
        second.may_end.set()
        other = threading.Thread(target=lambda: second.value, daemon=True)
        other.start()
        other.join(60)
        assert not other.is_alive()
    finally:
        first.may_end.set()
        thread.join()
    assert second.value is second.value is not first.value
    assert Slow.value.__doc__ == "A value."
