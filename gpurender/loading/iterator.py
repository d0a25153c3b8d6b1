"""One pass over a loader: the rest of one epoch, batch by batch."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from gpurender.loading.pipeline import Batch
from gpurender.loading.prefetch import BatchTimeoutError, Producer
from gpurender.loading.ranks import Ranks
from gpurender.loading.samplers import NOTHING

if TYPE_CHECKING:
    from gpurender.loading.data_loader import DataLoader


class Step(NamedTuple):
    """A batch that can be drawn, as often as one likes, and the place behind it.

    Attributes:
        draw: draws it.
        position: of the epoch, behind it.
        mark: of the user's sampler there.
    """

    draw: Callable[[], Batch]
    position: int
    mark: str


class Pass(Iterator[Any]):
    """It holds a place and what was drawn ahead, so leaving it midway costs nothing.

    The loader's state moves on when a batch is handed out, the last one included: Lightning never asks for one more.
    If a batch raises, nothing has moved: asking again draws the same one.
    """

    def __init__(self, loader: "DataLoader") -> None:
        self._loader = loader
        self._moves = loader._moves
        self._place = loader._start()  # epoch, position, mark
        self._world: Ranks | None = None  # looked up at the first batch; the process group may not exist before
        self._steps: Iterator[Step] = iter(())
        self._coming: deque[Step] = deque()  # not handed out yet
        self._under_way: deque[Any] = deque()  # of these the first, being drawn
        self._producer: Producer | None = None  # which draws them
        self._failure: Exception | None = None  # of a user's sampler, asked for steps behind those
        self._over = False

    def __next__(self) -> Any:
        if self._over:
            raise StopIteration
        loader = self._loader
        self._begin()
        producer, depth = loader._producer(), loader._depth()
        if producer is not self._producer:  # the first batch, or a process forked midway, which has no threads yet
            self._under_way.clear()
            self._producer = producer
        self._look(depth + 1)
        if not self._coming:
            self._end()
        try:
            batch = self._coming[0].draw() if producer is None else self._drawn(producer, depth)
            batch = loader._collated(batch)
            self._look(2)
        except BatchTimeoutError:  # it is still under way: whoever asks again waits for the same batch
            raise
        except BaseException:
            self._drop()
            raise
        epoch, step = self._place[0], self._coming[0]
        self._over = len(self._coming) == 1 and self._failure is None
        self._place = (epoch + 1, 0, step.mark) if self._over else (epoch, step.position, step.mark)
        self._coming.popleft()
        loader._handed_out(*self._place, self._moves)
        return batch

    def _begin(self) -> None:
        """Find out where and among whom, once."""
        if self._world is None:
            world = self._loader._world()
            if self._moves != self._loader._moves:  # a state was loaded, or an epoch set, after iter()
                self._place, self._moves = self._loader._start(), self._loader._moves
            self._steps = self._loader._steps(*self._place, world)
            self._world = world

    def _look(self, count: int) -> None:
        """Know the next ``count`` steps, or all that are left."""
        while self._failure is None and len(self._coming) < count:
            try:
                self._coming.append(next(self._steps))
            except StopIteration:
                return
            except Exception as error:  # when its turn has come: the batches before it are whole
                self._failure = error
            except BaseException:  # Ctrl-C: at once; asked again, the pass begins anew at its place
                self._drop()
                self._coming.clear()
                self._world = None
                raise

    def _end(self) -> None:
        """There is no (further) step, or it cannot be known."""
        failure, self._failure = self._failure, None
        if failure is None:
            self._over = True
            self._loader._handed_out(self._place[0] + 1, 0, NOTHING, self._moves)
            raise StopIteration
        self._world = None  # asked again, the pass begins anew at its place
        raise failure

    def _drawn(self, producer: Producer, depth: int) -> Batch:
        """The first batch; when this returns, as many as ``depth`` of those behind it are under way."""
        if not self._under_way:
            self._under_way.append(producer.start(self._coming[0].draw))
        for step in list(self._coming)[len(self._under_way) : depth + 1]:
            try:
                self._under_way.append(producer.start(step.draw))
            except Exception:  # then it is drawn, and raises, when its turn has come
                break
        batch = producer.hand_over(self._under_way[0], self._loader.timeout)
        self._under_way.popleft()
        return batch

    def _drop(self) -> None:
        """Let go what was drawn ahead."""
        while self._under_way and self._producer is not None:
            self._producer.drop(self._under_way.popleft())

    def __del__(self) -> None:
        if getattr(self, "_under_way", None):
            self._drop()
