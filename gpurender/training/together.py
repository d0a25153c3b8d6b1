"""Trainings in step: several models learn from one stream of images, each batch of which is drawn once."""

import contextlib
import logging
import signal
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gpurender.training.journal import Journal, Waiting
from gpurender.training.loop import Batch, Training
from gpurender.training.stopping import Interrupted, Request

log = logging.getLogger("gpurender")


def together(trainings: Iterable[Training], log_every: int, save_every: int) -> None:
    """Take the steps that are left of trainings that see the same batches; each ends as it would alone.

    In every round, those that are furthest behind take a step each with the next batch: so trainings that were cut off
    at different steps come together. One that fails leaves, the others go on, and nothing is raised: whoever goes on
    with it alone, from what it has saved, meets the failure again.

    Args:
        trainings: of one process and one precision, without accumulation, each at the place that its folder holds.
        log_every, save_every: of :meth:`Training.run`.

    Raises:
        Interrupted: a signal came; the checkpoints of those that go on are written.
    """
    stopped: list[Interrupted] = []
    with contextlib.ExitStack() as journals, Request().watched() as request:
        students = [
            _Student(training, request, log_every, save_every, journals, shown=not number)
            for number, training in enumerate(one for one in trainings if one.step < one.settings.steps)
        ]
        front = students[0] if students else None  # who draws
        while students:
            behind = min(student.training.step for student in students)
            takers = [student for student in students if student.training.step == behind]
            front = front if front in takers else takers[0]
            with _leaving(front, students, stopped):
                drawn = front.draw()
                for student in takers:
                    with _leaving(student, students, stopped):
                        student.step(drawn)
    if stopped:
        raise stopped[0]
    if request.number:  # it came in the last step: the caller is to end
        signal.raise_signal(request.number)


class _Drawn(NamedTuple):
    """A batch, the place of the stream behind it, and the moments before and after it was drawn."""

    batch: Batch
    place: dict[str, Any]
    first: Any
    last: Any


class _Student:
    """One of several trainings in step.

    Args:
        training: what it is.
        request, log_every, save_every: of :meth:`Training.course`.
        journals: closes its journal.
        shown: whether its bar is.
    """

    def __init__(
        self, training: Training, request: Request, log_every: int, save_every: int, journals: contextlib.ExitStack,
        shown: bool,
    ) -> None:  # fmt: skip
        self.training = training
        self._stream = training.feed.batches()
        self._batch: Batch | None = None
        self._waiting = Waiting(training.accelerator.device)
        self._left = self._waiting.mark()  # the end of its last step
        journal = Journal(training.folder, training.step, training.settings.steps, True, False, shown)
        journals.callback(journal.close)
        self._course = training.course(self._given(), self._waiting, request, journal, log_every, save_every)

    def is_done(self) -> bool:
        """Return whether no step is left."""
        return self.training.step >= self.training.settings.steps

    def draw(self) -> _Drawn:
        """Draw the next batch, for all who are at the same place."""
        first = self._waiting.mark()
        batch = next(self._stream)
        return _Drawn(batch, self.training.feed.state_dict(), first, self._waiting.mark())

    def step(self, drawn: _Drawn) -> None:
        """Take a step. Its report has the time of its own steps and of the drawing, as if it were alone."""
        self._waiting.was_away(self._left, drawn.first)
        self._waiting.waited(drawn.first, drawn.last)
        self._waiting.was_away(drawn.last, self._waiting.mark())
        if self.training.feed.state_dict() != drawn.place:  # it has not drawn itself
            self.training.feed.load_state_dict(drawn.place)
        images, targets = drawn.batch
        self._batch = images.clone(), targets.clone()  # a model may write into its images
        next(self._course)
        self._left = self._waiting.mark()

    def _given(self) -> Iterator[Batch]:
        while self._batch is not None:
            batch, self._batch = self._batch, None
            yield batch


@contextlib.contextmanager
def _leaving(student: _Student, students: list[_Student], stopped: list[Interrupted]) -> Iterator[None]:
    """Remove a student that has failed, was stopped or is done."""
    try:
        yield
    except Interrupted as error:
        stopped.append(error)
    except Exception as error:  # only its text is kept: its traceback holds the model
        log.warning("%s leaves its group: %s", student.training.folder, " ".join(str(error).split()))
    else:
        if not student.is_done():
            return
    if student in students:
        students.remove(student)
