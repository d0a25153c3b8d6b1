"""Workers on Ray: tasks that Ray places and begins again, and one actor that hands out their jobs.

The actor is a :class:`gpurender.search.dispatcher.Dispatcher`: detached, one per study and cluster, begun again by Ray
wherever it was lost. It alone writes leases, configs and results, so no file locks go between nodes. For the trainings
themselves, workers need gpurender and the study's folder at the same path, or they bring checkpoints from and to its
address. What a worker does with a job is what it does without Ray.
"""

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gpurender.search.config import Config
from gpurender.search.desk import Job
from gpurender.search.dispatcher import Dispatcher
from gpurender.search.leases import BEATS
from gpurender.search.mirror import CHECKPOINTS, Mirror, workplace
from gpurender.search.store import is_address
from gpurender.search.study import Study
from gpurender.util import checks

log = logging.getLogger("gpurender")

NAMESPACE = "gpurender"
PAUSE = 1.0  # seconds before a dispatcher that is away is asked again


def require_ray() -> Any:
    """Return the package ``ray``.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("engine 'ray' needs the extra 'ray': pip install 'gpurender[ray]'") from error
    return ray


def work(
    study: Study, workers: int | None, minutes: float | None, address: str | None, together: int = 1
) -> int:  # fmt: skip
    """Let workers on Ray do the jobs of a study until none is left; return how many results they have made.

    What a worker made before it was lost is not in the number.

    Args:
        study: whose folder all nodes see at the same path, or whose address they reach.
        workers: how many, each with a GPU where the cluster has GPUs, else with a CPU; ``None``: one for each of them.
            Those that find no place wait for it.
        minutes: begin no job after so long; ``None``: no limit.
        address: of the cluster; ``None``: that of ``RAY_ADDRESS``, else the one on this machine, else one is begun
            here and ended after the work. In a process that is connected to a cluster, that one is used.
        together: how many configs a worker trains at once, in step, if they see the same batches.

    Raises:
        ValueError: an argument is not allowed, a task has changed, or a file of the study is damaged.
        RuntimeError: Ray or another package is missing, there is no cluster at the address, or a worker has failed.
        OSError: the disk is full or broken.
    """
    if workers is not None:
        checks.integer("workers", workers, 1, 100_000)
    if minutes is not None:
        checks.real("minutes", minutes, 0.0, 1e9)
    ray = require_ray()
    place = study.place if study.mirror is not None else str(study.root.resolve())
    with connected(ray, address):
        try:
            return sum(spread(ray, _work, workers, place, minutes, together))
        finally:
            _end(ray, dispatcher(place))


def spread(ray: Any, body: Callable[..., Any], workers: int | None, *arguments: Any, most: int = 100_000) -> list[Any]:
    """Run a function in workers of the connected cluster until all have ended; return what each has returned.

    Ray begins a worker that was lost again.

    Args:
        ray: the package.
        body: the function, which is called with a name of the worker's own, and the arguments.
        workers: how many, each with a GPU where the cluster has GPUs, else with a CPU; ``None``: one for each of them,
            at most ``most``.
        arguments: of the function.

    Raises:
        Exception: the first that a worker has raised, when all have ended.
        RuntimeError: a worker has failed in another way.
    """
    resources = ray.cluster_resources()
    unit = "GPU" if resources.get("GPU", 0) >= 1 else "CPU"
    task = ray.remote(body).options(num_cpus=1, num_gpus=1 if unit == "GPU" else 0, max_retries=-1)
    count = min(most, max(1, int(resources.get(unit, 1)))) if workers is None else workers
    name = os.urandom(4).hex()
    return _gathered(ray, [task.remote(f"{name}-{i}", *arguments) for i in range(count)])


def dispatcher(place: str) -> Any:
    """Return the handle of a study's dispatcher, which is begun if there is none in the cluster."""
    ray = require_ray()
    actor = ray.remote(Dispatcher).options(
        name=name_of(place), namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0, max_restarts=-1,
        max_task_retries=-1,
    )  # fmt: skip
    return actor.remote(place)


def name_of(place: str) -> str:
    """Return the name of a study's dispatcher, by the absolute path of its folder, or its address."""
    return f"dispatcher-{hashlib.sha256(place.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def connected(ray: Any, address: str | None) -> Iterator[None]:
    """Be connected to the cluster at an address while the block lasts (see :func:`work`)."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, namespace=NAMESPACE)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RuntimeError(f"there is no Ray cluster at {address!r}: {' '.join(str(error).split())}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _end(ray: Any, actor: Any) -> None:
    """End a dispatcher, unless living workers have jobs of it; those who wait for jobs begin it again."""
    with contextlib.suppress(ray.exceptions.RayError):
        if ray.get(actor.is_idle.remote()):
            ray.kill(actor)


def _gathered(ray: Any, running: list[Any]) -> list[Any]:
    """Wait for workers; return their results, or raise the first error when all have ended."""
    done, errors = list[Any](), list[Exception]()
    for one in running:
        try:
            done.append(ray.get(one))
        except ray.exceptions.RayTaskError as error:
            errors.append(error.cause)
        except ray.exceptions.RayError as error:
            errors.append(RuntimeError(f"a worker on Ray has failed: {' '.join(str(error).split())}"))
    if errors:
        raise errors[0]
    return done


def _work(name: str, place: str, minutes: float | None, together: int) -> int:
    """Do jobs until none is left; the body of a task."""
    if not is_address(place):
        study = Study(place)
        return study.work_for(ActorBoard(place, name, study.patience, together), minutes)
    with workplace() as folder:  # workers of a node have no common copy
        mirror = Mirror(place, folder)
        mirror.fetch()
        study = Study(mirror)
        return study.work_for(ActorBoard(place, name, study.patience, together, mirror), minutes)


class ActorBoard:
    """Jobs that the dispatcher hands out.

    Args:
        place: of the study.
        name: of this worker; Ray begins a worker again under the same name.
        patience: seconds.
        together: the most jobs that it takes at once.
        mirror: the worker's copy of a study at an address.
    """

    def __init__(
        self, place: str, name: str, patience: float, together: int = 1, mirror: Mirror | None = None
    ) -> None:  # fmt: skip
        self._place, self._name, self._patience, self._together = place, name, patience, together
        self.mirror = mirror
        self._attempt = os.urandom(8).hex()
        self._ray = require_ray()
        self._actor = dispatcher(place)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[Sequence["ActorClaim"]]:
        """Hold jobs while the block lasts, of one rung and with the same batches; none if there is none now."""
        claims = [
            ActorClaim(self, Job(key, rung, Config.from_data(json.loads(config))), self._attempt)
            for key, rung, config in self.ask("take", self._name, self._attempt, self._together)
        ]
        ended, threads = threading.Event(), list[threading.Thread]()

        def repeat(what: Callable[[Sequence[ActorClaim]], None]) -> None:
            threads.append(threading.Thread(target=self._repeat, args=(what, claims, ended), daemon=True))
            threads[-1].start()

        try:
            if claims:
                repeat(self._touch)  # apart from what may take long, and before it
            if claims and self.mirror is not None:
                self.mirror.fetch(*(claim.checkpoints for claim in claims))
                repeat(self._bring)
            yield claims
        finally:
            ended.set()
            for thread in threads[1:]:
                thread.join()
            for claim in claims:
                self._give_back(claim)

    def _give_back(self, claim: "ActorClaim") -> None:
        """Bring what a signal has left of a training to the address, remove it here, and give the job back."""
        if self.mirror is not None:
            try:
                self._bring([claim])
            except Exception as error:  # the job is begun again from what is there
                log.warning("%s", error)
            self.mirror.discard(claim.checkpoints)
        self.ask("drop", self._attempt, claim.job.key, claim.job.rung)

    def is_done(self) -> bool:
        """Return whether no job is left."""
        return self.ask("is_done")

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what the dispatcher answers; where it is away, wait for the next one.

        Raises:
            Exception: what the dispatcher has raised.
        """
        exceptions = self._ray.exceptions
        while True:
            try:
                return self._ray.get(getattr(self._actor, method).remote(*arguments))
            except exceptions.ActorDiedError:  # ended on purpose, by a command that saw no one at work
                time.sleep(PAUSE)
                self._actor = dispatcher(self._place)
            except exceptions.ActorUnavailableError:
                time.sleep(PAUSE)
            except exceptions.RayTaskError as error:
                raise error.cause from None

    def _repeat(
        self, what: Callable[[Sequence["ActorClaim"]], None], claims: Sequence["ActorClaim"], ended: threading.Event
    ) -> None:  # fmt: skip
        """Do something four times per patience, whatever it raises: the next time may succeed."""
        while not ended.wait(self._patience / BEATS):
            try:
                what(claims)
            except Exception as error:
                log.warning("%s", " ".join(str(error).split()) or type(error).__name__)

    def _touch(self, claims: Sequence["ActorClaim"]) -> None:
        """Say that this worker is alive."""
        for claim in claims:
            claim.is_held()

    def _bring(self, claims: Sequence["ActorClaim"]) -> None:
        """Bring the checkpoints of jobs that are still this worker's to the address."""
        for claim in claims:
            if self.mirror is not None and claim.is_held():
                self.mirror.push(claim.checkpoints)


class ActorClaim:
    """A job that this worker has from the dispatcher.

    Args:
        board: that asks.
        job: what is to be done.
        attempt: of the worker.
    """

    def __init__(self, board: ActorBoard, job: Job, attempt: str) -> None:
        self.job = job
        self._board, self._attempt = board, attempt

    @property
    def checkpoints(self) -> str:
        """The folder of the config's trainings in the study."""
        return f"{CHECKPOINTS}/{self.job.key}"

    def is_held(self) -> bool:
        """Say that this worker is alive; return whether no other one has taken the job over."""
        return self._board.ask("touch", self._attempt, self.job.key, self.job.rung)

    def publish(self, values: dict[str, Any]) -> bool:
        """Hand the result in, after what was trained for it; return whether it is new."""
        self._board._bring([self])
        return self._board.ask("publish", self.job.key, self.job.rung, values)
