"""Iteration over the rest of an epoch, batch by batch."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gpurender.loading.cursor import EMPTY_DIGEST, Cursor
from gpurender.loading.pipeline import Batch
from gpurender.loading.plan import IndexBatch, Plan
from gpurender.loading.prefetch import BatchTimeoutError, Prefetcher, Prefetching
from gpurender.loading.ranks import Ranks
from gpurender.loading.watch import WAIT, Watch, stage


class Pass(NamedTuple):
    """The values that a pass needs and that are not known before its first batch is requested.

    Attributes:
        ranks: the ranks that share the epoch; the process group may not exist before.
        render: renders a batch; it may be called repeatedly for the same one.
    """

    ranks: Ranks
    render: Callable[[IndexBatch], Batch]


class EpochIterator(Iterator[Any]):
    """Iterator over the rest of an epoch. It owns its place and the prefetched batches, so abandoning it is free.

    The cursor moves when a batch is handed out, including the last one, because Lightning never requests one more. If a
    batch raises, the cursor stays, and the next request renders the same batch.

    Args:
        plan: the source of the next batches.
        cursor: the place where the pass begins; it moves with the pass.
        begin: returns the values that the pass needs; called at its first batch.
        prefetching: returns how batches are prefetched; called at every batch, because the process may have forked.
        collate: converts a batch to the object that is handed out.
        watch: returns what measures the batches, or ``None``.

    Attributes:
        ended: whether the batch handed out is the last one.
    """

    def __init__(
        self,
        plan: Plan,
        cursor: Cursor,
        begin: Callable[[], Pass],
        prefetching: Callable[[], Prefetching],
        collate: Callable[[Batch], Any],
        watch: Callable[[], Watch | None] = lambda: None,
    ) -> None:
        self._plan, self._cursor, self._begin = plan, cursor, begin
        self._prefetching, self._collate, self._watch = prefetching, collate, watch
        self._version, self._place = cursor.version, cursor.start(plan.restart)
        self._pass: Pass | None = None
        self._steps: Iterator[IndexBatch] = iter(())
        self._pending: deque[IndexBatch] = deque()  # batches that are known and not handed out yet
        self._in_flight: deque[Any] = deque()  # handles of the first pending batches
        self._prefetcher: Prefetcher | None = None  # the prefetcher of these handles
        self._failure: Exception | None = None  # error of the plan, after the pending batches
        self.ended = False

    def __next__(self) -> Any:
        if self.ended:
            raise StopIteration
        begun = self._begun()
        ahead = self._prefetching()
        if ahead.prefetcher is not self._prefetcher:  # first batch, or the process has forked and has no threads yet
            self._in_flight.clear()
            self._prefetcher = ahead.prefetcher
        self._fetch_steps(ahead.depth + 1)
        if not self._pending:
            self._end()
        watch, ready = self._watch(), 0
        try:
            first = self._pending[0]
            if watch is not None and ahead.prefetcher is not None:
                ready = sum(map(ahead.prefetcher.ready, self._in_flight))
            with stage(watch, WAIT):
                batch = (
                    begun.render(first)
                    if ahead.prefetcher is None
                    else self._prefetched(ahead.prefetcher, ahead, begun)
                )
            collated = self._collate(batch)
            self._fetch_steps(2)
        except BatchTimeoutError:  # the batch is still in flight: the next request waits for it
            raise
        except BaseException:
            self._drop()
            raise
        self.ended = len(self._pending) == 1 and self._failure is None
        given, self._place = self._place, self._plan.next_pass(first.after) if self.ended else first.after
        self._pending.popleft()
        self._cursor.advance(self._place, self._version, given)
        if watch is not None:
            watch.handed_out(first.size, ready)
        return collated

    def _begun(self) -> Pass:
        """Return the values that the pass needs; the first call also decides where the pass begins."""
        if self._pass is None:
            begun = self._begin()
            if self._version != self._cursor.version:  # a state was loaded, or an epoch set, after iter()
                self._place, self._version = self._cursor.start(self._plan.restart), self._cursor.version
            self._steps = self._plan.batches(self._place, begun.ranks)
            self._pass = begun
        return self._pass

    def _fetch_steps(self, count: int) -> None:
        """Fetch batches of the plan until ``count`` are pending, or all that are left."""
        while self._failure is None and len(self._pending) < count:
            try:
                self._pending.append(next(self._steps))
            except StopIteration:
                return
            except Exception as error:  # raised after the batches before it, which are complete
                self._failure = error
            except BaseException:  # Ctrl-C: raised at once; the next request restarts the pass at its place
                self._drop()
                self._pending.clear()
                self._pass = None
                raise

    def _end(self) -> None:
        """End the pass, or raise the sampler's error."""
        failure, self._failure = self._failure, None
        if failure is None:
            self.ended = True
            self._cursor.advance(self._plan.next_pass(self._place._replace(digest=EMPTY_DIGEST)), self._version)
            raise StopIteration
        self._pass = None  # the next request restarts the pass at its place
        raise failure

    def _prefetched(self, prefetcher: Prefetcher, ahead: Prefetching, begun: Pass) -> Batch:
        """Return the first pending batch; up to ``depth`` batches after it are then in flight."""
        if not self._in_flight:
            self._in_flight.append(self._start(prefetcher, begun, self._pending[0]))
        for step in list(self._pending)[len(self._in_flight) : ahead.depth + 1]:
            try:
                self._in_flight.append(self._start(prefetcher, begun, step))
            except Exception:  # the batch is rendered again, and raises, when it is requested
                break
        batch = prefetcher.hand_over(self._in_flight[0], ahead.timeout)
        self._in_flight.popleft()
        return batch

    @staticmethod
    def _start(prefetcher: Prefetcher, begun: Pass, step: IndexBatch) -> Any:
        return prefetcher.start(lambda: begun.render(step))

    def _drop(self) -> None:
        """Discard the prefetched batches."""
        while self._in_flight and self._prefetcher is not None:
            self._prefetcher.drop(self._in_flight.popleft())

    def __del__(self) -> None:
        if getattr(self, "_in_flight", None):
            self._drop()
