"""Kill and resume: training processes are killed at random moments, and no sample is ever lost, repeated or changed.

    python -m trials.kill_resume [--trials 200] [--seed S] [--json FILE]

A trial trains for some epochs over a loader with random settings: one process a rank (RANK and WORLD_SIZE in its
environment), in step with each other as an all-reduce keeps them. Each rank appends to a journal what it was given
(samples, and a SHA-256 of every sample's bytes); after every step rank 0 saves the loader's state by a rename, as a
checkpoint is. One rank, or all, are killed by SIGKILL at a random step and moment, and the run is started anew from
the last state: the same ranks and batch size, or others. Steps behind the last state are given again, as a trainer
rolls back to its checkpoint. What was given in the end is compared with runs that nobody interrupted:

- batch by batch with the same ranks and batch size, where these did not change (the policy may mix samples);
- sample by sample with one process and batches of one, where they did: the global order, and every byte.

Most processes are forked from this one, which has everything compiled; in some trials they are new interpreters.
"""

import argparse
import contextlib
import dataclasses
import faulthandler
import functools
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from tqdm import tqdm

import gpurender as gr
from gpurender.util.atomic_files import check_writable, replacing
from gpurender.util.environment import environment

MOST_RANKS = 4
MOST_KILLS = 4
SPAWNED = 20  # one trial in so many has new interpreters
STATE_BYTES = 1000
PATIENCE = 20.0  # seconds for a step, and for a rank from its start to its end
TRIANGLE = ((0.5, 0.0, 0.0, 0.5, 0.0, 0.0), (0.5, 0.0, 0.0, 0.5, 0.5, 0.0), (0.5, 0.0, 0.0, 0.5, 0.25, 0.5))


class LostError(Exception):
    """The loader has lost its way."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a trial trains on; all of it can be pickled."""

    recipe: str  # JSON
    epochs: int
    shuffle: bool
    fresh: bool
    drop_last: bool
    policy: str
    seed: int
    prefetch_factor: int | None
    elastic: bool  # ranks and batch size change at a restart
    method: str  # "fork" or "spawn"

    @property
    def length(self) -> int:
        """Samples of an epoch."""
        return len(gr.Recipe.from_json(self.recipe))

    def loader(self, topology: "Topology", rank: int | None = None) -> gr.DataLoader:
        """The loader of a rank; without one, of the rank that the environment names."""
        named = {} if rank is None else {"rank": rank, "world_size": topology.ranks}
        return gr.DataLoader(
            gr.Recipe.from_json(self.recipe), batch_size=topology.batch_size, image_size=16,
            augment=POLICIES[self.policy](), shuffle=self.shuffle, drop_last=self.drop_last, fresh=self.fresh,
            seed=self.seed, device="cpu", prefetch_factor=self.prefetch_factor, **named,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Topology:
    """How many ranks there are, and how many samples each takes in a step."""

    ranks: int
    batch_size: int

    @property
    def step(self) -> int:
        """Samples of a step."""
        return self.ranks * self.batch_size


UNMIXED = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}
POLICIES = {
    "none": lambda: None,
    "crop": gr.augment.Crop,
    "unmixed": lambda: gr.augment.DeiT(**UNMIXED),
    "repeats": lambda: gr.augment.DeiT(**UNMIXED, num_aug_repeats=3),
    "deit": gr.augment.DeiT,
}
MIXES = {"deit"}


def recipes() -> dict[str, gr.Recipe]:
    """A small recipe of each family, one with a long tail and wrong labels, and a mixture."""
    tiny = {"image_size": 16, "seed": 9}
    found: dict[str, gr.Recipe] = {
        "onepfrac": gr.OnePFrac(**tiny, classes=5, instances=7, points=200, fill_rate=0.0, base=TRIANGLE),
        "fractaldb": gr.FractalDB(
            **tiny, points=200, weights="small", instances=23, patches=2, flips=2,
            categories=[[(*row, p) for row, p in zip(TRIANGLE, (0.25, 0.25, 0.5), strict=True)]],
        ),
        "visualatom": gr.VisualAtom(
            **tiny, classes=3, instances=9, orbits=(1, 4), quantization=(3, 20), radius=(1, 5)
        ),
        "long tail": gr.VisualAtom(
            **tiny, classes=4, instances=12, orbits=(1, 4), quantization=(3, 20), radius=(1, 5), class_prior=3.0,
            label_noise=0.3,
        ),
    }  # fmt: skip
    weights = zip(found.values(), (1, 3, 2, 1), strict=True)
    return {**found, "mixture": gr.Mixture(dict(weights))}


def drawn(rng: Random, spawned: bool) -> tuple[Settings, Topology]:
    """A trial."""
    elastic = rng.random() < 0.6
    name = rng.choice(list(recipes()))
    policy = rng.choice([policy for policy in POLICIES if not (elastic and policy in MIXES)])
    settings = Settings(
        recipe=recipes()[name].to_json(),
        epochs=rng.randint(2, 4),
        shuffle=rng.random() < 0.7,
        fresh=rng.random() < 0.4,
        drop_last=rng.random() < 0.4,
        policy=policy,
        seed=rng.getrandbits(64),
        prefetch_factor=rng.choice((None, None, 1, 3)),
        elastic=elastic,
        method="spawn" if spawned else "fork",
    )
    return settings, _topology(rng, settings)


def _topology(rng: Random, settings: Settings) -> Topology:
    """Ranks and batch size, with at least a step in an epoch."""
    most = MOST_RANKS if settings.method == "fork" else 2
    while True:
        topology = Topology(rng.randint(1, most), rng.randint(1, 5))
        if topology.step <= settings.length:
            return topology


# --------------------------------------------------------------------------------------------------------- training


def record(images: torch.Tensor, targets: torch.Tensor) -> list[str]:
    """A SHA-256 of each sample's image and target."""
    return [
        hashlib.sha256(x.contiguous().numpy().tobytes() + y.numpy().tobytes()).hexdigest()
        for x, y in zip(images, targets, strict=True)
    ]


def epochs_of(loader: gr.DataLoader, epochs: int) -> Iterator[dict[str, Any]]:
    """Train until the epochs are complete; what was given in every step, and the place behind it."""
    while loader.state_dict()["epoch"] < epochs:
        before = loader.state_dict()
        for samples, (images, targets) in zip(list(loader.batch_sampler), loader, strict=True):
            after = loader.state_dict()
            if len(json.dumps(after)) >= STATE_BYTES:
                raise LostError(f"the state takes {len(json.dumps(after))} bytes")
            yield {
                "epoch": before["epoch"],
                "position": before["position"],
                "samples": samples,
                "digests": record(images, targets),
                "after": after,
            }
            before = after


def rank_process(settings: Settings, topology: Topology, rank: int, folder: Path, attempt: int, shared: Any) -> None:
    """A rank of a training run, from the last state (if there is one) to the end."""
    barrier, steps = shared
    stuck = (folder / f"stuck-{attempt}-{rank}").open("w")
    faulthandler.dump_traceback_later(PATIENCE, file=stuck)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(topology.ranks)}
    try:
        loader = settings.loader(topology)
        with contextlib.suppress(FileNotFoundError):
            loader.load_state_dict(json.loads((folder / "state.json").read_text()))
        journal = os.open(folder / f"journal-{attempt}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for step in epochs_of(loader, settings.epochs):
            os.write(journal, json.dumps(step).encode() + b"\n")
            barrier.wait(PATIENCE)  # as an all-reduce: nobody is a step ahead
            if rank == 0:
                (folder / "state.new").write_text(json.dumps(step["after"]))
                os.replace(folder / "state.new", folder / "state.json")
                steps.value += 1
            barrier.wait(PATIENCE)
    except BaseException:
        (folder / f"error-{attempt}-{rank}").write_text(traceback.format_exc())
        raise


@dataclasses.dataclass
class Attempt:
    """Processes from one start to a kill or the end.

    Attributes:
        number: of the attempt.
        topology: of its ranks.
        first: the place it began at: (epoch, position).
        last: the place that was saved when it ended.
        kills: processes that were killed while they ran.
    """

    number: int
    topology: Topology
    first: tuple[int, int]
    last: tuple[int, int] = (0, 0)
    kills: int = 0


def place_of(folder: Path) -> tuple[int, int]:
    """The place of the last state."""
    try:
        state = json.loads((folder / "state.json").read_text())
    except FileNotFoundError:
        return 0, 0
    return state["epoch"], state["position"]


def run(settings: Settings, attempt: Attempt, folder: Path, kill: tuple[int, float, int] | None) -> Attempt:
    """Start the ranks and wait for their end, or kill them.

    Args:
        settings: of the trial.
        attempt: which.
        folder: with its state and journals.
        kill: after how many steps, how many seconds later, and which rank first (-1: all at once); ``None``: not.
    """
    context = multiprocessing.get_context(settings.method)
    steps = context.Value("q", 0, lock=False)
    shared = (context.Barrier(attempt.topology.ranks), steps)
    processes = [
        context.Process(target=rank_process, args=(settings, attempt.topology, rank, folder, attempt.number, shared))
        for rank in range(attempt.topology.ranks)
    ]
    for process in processes:
        process.start()
    if kill is not None:
        after, delay, rank = kill
        deadline = time.monotonic() + 2 * PATIENCE
        while steps.value < after and all(process.is_alive() for process in processes):
            if time.monotonic() > deadline:
                raise _hangs(processes, folder, attempt)
            time.sleep(0.001)
        time.sleep(delay)
        order = processes if rank < 0 else [processes[rank % len(processes)], *processes]
        for process in order:
            process.kill()
    for process in processes:
        process.join(2 * PATIENCE)
    if any(process.is_alive() for process in processes):
        raise _hangs(processes, folder, attempt)
    codes = [process.exitcode for process in processes]
    attempt.kills = sum(code == -9 for code in codes)
    if any(code not in ((0, -9) if kill else (0,)) for code in codes):
        errors = [path.read_text() for path in sorted(folder.glob("error-*"))]
        raise LostError(f"ranks ended with {codes}: {' '.join(errors)[-2000:]}")
    attempt.last = place_of(folder)
    return attempt


def _hangs(processes: list[Any], folder: Path, attempt: Attempt) -> LostError:
    for process in processes:
        process.kill()
    where = [path.read_text() for path in sorted(folder.glob(f"stuck-{attempt.number}-*"))]
    return LostError(f"a rank hangs: {' '.join(where)[-4000:]}")


def train(settings: Settings, topology: Topology, rng: Random, folder: Path) -> list[Attempt]:
    """Train to the end, with kills in between."""
    attempts: list[Attempt] = []
    kills = rng.randint(1, MOST_KILLS if settings.method == "fork" else 1)
    for number in range(kills + 1):
        place = place_of(folder)
        attempt = Attempt(number, topology, place)
        left = (settings.epochs - place[0]) * settings.length - place[1]
        most = max(0, left // topology.step - 2)
        kill = (rng.randint(0, most), rng.uniform(0.0, 0.012), rng.randint(-2, topology.ranks - 1))
        attempts.append(run(settings, attempt, folder, kill if number < kills else None))
        if not attempt.kills:  # it was over before the kill
            break
        if settings.elastic:
            topology = _topology(rng, settings)
    return attempts


# -------------------------------------------------------------------------------------------------------- comparing

Steps = list[list[dict[str, Any]]]  # by step, then by rank


def committed(attempts: list[Attempt], folder: Path) -> list[tuple[Topology, list[dict[str, Any]]]]:
    """The steps that count, each with its ranks' records: those before the place that was saved at the end of their
    attempt. What was given behind it must be what the next attempt is given, but that is compared elsewhere.
    """
    steps = []
    for attempt in attempts:
        journals = [_journal(folder / f"journal-{attempt.number}-{r}") for r in range(attempt.topology.ranks)]
        for records in zip(*journals, strict=False):  # a rank that was killed first has fewer
            places = {(record["epoch"], record["position"], tuple(record["after"].items())) for record in records}
            if len(places) != 1:
                raise LostError(f"ranks are at different places: {places}")
            if _place(records[0]) < attempt.last:
                steps.append((attempt.topology, list(records)))
    return steps


def _place(record: dict[str, Any]) -> tuple[int, int]:
    return record["epoch"], record["position"]


def _journal(path: Path) -> list[dict[str, Any]]:
    """Complete lines of a journal; the kill may have torn the last one."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


@functools.lru_cache(maxsize=8)
def uninterrupted(settings: Settings, topology: Topology) -> list[list[dict[str, Any]]]:
    """What every rank is given if nobody interrupts it."""
    return [list(epochs_of(settings.loader(topology, rank), settings.epochs)) for rank in range(topology.ranks)]


def compare_batches(settings: Settings, topology: Topology, steps: list[tuple[Topology, list[dict[str, Any]]]]) -> int:
    """Every record must be the uninterrupted run's, states included; how many samples that are."""
    expected = uninterrupted(settings, topology)
    if len(steps) != len(expected[0]):
        raise LostError(f"{len(steps)} steps instead of {len(expected[0])}")
    for number, (_, records) in enumerate(steps):
        for rank, record in enumerate(records):
            if record != expected[rank][number]:
                raise LostError(f"step {number} of rank {rank} is {record} instead of {expected[rank][number]}")
    return sum(len(record["samples"]) for _, records in steps for record in records)


def compare_samples(settings: Settings, steps: list[tuple[Topology, list[dict[str, Any]]]], last: Topology) -> int:
    """All samples in the global order must be those of one process with batches of one; how many there are."""
    single = dataclasses.replace(settings, drop_last=False)
    expected = {_place(record): record for record in uninterrupted(single, Topology(1, 1))[0]}
    place, count = (0, 0), 0
    for topology, records in steps:
        place = _next(settings, place, topology)
        if _place(records[0]) != place:
            raise LostError(f"a step begins at {_place(records[0])} instead of {place}")
        epoch, position = place
        left = settings.length - position
        given = [pair for record in records for pair in zip(record["samples"], record["digests"], strict=True)]
        if len(given) != max(min(topology.step, left), topology.ranks):
            raise LostError(f"a step at {place} has {len(given)} samples")
        for i, (sample, digest) in enumerate(given):  # ranks without a sample of their own take the first ones
            one = expected[epoch, position + i if i < left else i - left]
            if (sample, digest) != (one["samples"][0], one["digests"][0]):
                raise LostError(f"sample {i} of the step at {place} is {sample}, {digest} instead of {one}")
        count += len(given)
        place = _next(settings, (epoch, position + topology.step), topology)
        after = records[0]["after"]
        if (after["epoch"], after["position"]) != place:
            raise LostError(f"the state behind the step at {(epoch, position)} is {after}")
    if _next(settings, place, last) != (settings.epochs, 0):
        raise LostError(f"the run ends at {place}")
    return count


def _next(settings: Settings, place: tuple[int, int], topology: Topology) -> tuple[int, int]:
    """Where the next step begins: in the next epoch, if this one is over, or what is left of it is dropped."""
    epoch, position = place
    left = settings.length - position
    return (epoch + 1, 0) if left < (topology.step if settings.drop_last else 1) else place


def trial(seed: int, number: int) -> dict[str, Any]:
    """One trial; a row of the table."""
    rng = Random(f"{seed}/{number}")
    settings, topology = drawn(rng, spawned=number % SPAWNED == SPAWNED - 1)
    row: dict[str, Any] = {
        "trial": number,
        "family": json.loads(settings.recipe)["family"],
        "start": "new interpreters" if settings.method == "spawn" else "forked",
        "restart": "other ranks" if settings.elastic else "same ranks",
        "policy": settings.policy,
    }
    with tempfile.TemporaryDirectory(prefix="kill-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        try:
            attempts = train(settings, topology, rng, Path(name))
            steps = committed(attempts, Path(name))
            samples = 0
            if settings.policy not in MIXES:
                samples = compare_samples(settings, steps, attempts[-1].topology)
            if not settings.elastic:
                samples = compare_batches(settings, topology, steps)
        except LostError as error:
            return row | {"kills": 0, "steps": 0, "samples": 0, "lost": f"{error} ({settings})"}
    killed = [attempt for attempt in attempts if attempt.kills]
    return row | {"kills": len(killed), "steps": len(steps), "samples": samples, "lost": None}


# ---------------------------------------------------------------------------------------------------------- far away


def far() -> dict[str, float]:
    """Milliseconds from a fresh loader to its first batch: at the beginning, and two billion samples in."""
    recipe = gr.OnePFrac(classes=1, instances=2**31 - 1, image_size=16, points=200, fill_rate=0.0, base=TRIANGLE)
    seconds: dict[int, list[float]] = {0: [], 2**31 - 100: []}
    for _ in range(9):
        for position, some in seconds.items():
            start = time.perf_counter()
            loader = gr.DataLoader(recipe, batch_size=4, image_size=16, shuffle=True, device="cpu")
            loader.load_state_dict({**loader.state_dict(), "epoch": 0, "position": position})
            next(iter(loader))
            some.append(time.perf_counter() - start)
    near, away = (sorted(some)[len(some) // 2] * 1000 for some in seconds.values())
    return {"at_0_ms": round(near, 3), "at_2147483548_ms": round(away, 3)}


def warm_up() -> None:
    """Compile everything once, here: forked processes have it then."""
    for recipe in recipes().values():
        for policy in POLICIES.values():
            next(iter(gr.DataLoader(recipe, batch_size=3, image_size=16, augment=policy(), shuffle=True, device="cpu")))


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of the same kind together."""
    lines = [
        f"{'family':<12}{'start':<18}{'restart':<13}{'trials':>7}{'kills':>7}{'steps':>8}{'samples':>9}{'lost':>6}"
    ]
    for kind in sorted({(row["family"], row["start"], row["restart"]) for row in rows}):
        same = [row for row in rows if (row["family"], row["start"], row["restart"]) == kind]
        sums = [sum(row[name] for row in same) for name in ("kills", "steps", "samples")]
        lost = sum(row["lost"] is not None for row in same)
        lines.append(
            f"{kind[0]:<12}{kind[1]:<18}{kind[2]:<13}{len(same):>7}{sums[0]:>7}{sums[1]:>8}{sums[2]:>9}{lost:>6}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the trials; 1 if a loader lost its way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="default 200")
    parser.add_argument("--seed", type=int, default=0, help="of the trials; default 0")
    parser.add_argument("--trial", type=int, metavar="N", help="only trial N")
    parser.add_argument("--json", metavar="FILE", help="write a JSON result")
    options = parser.parse_args(arguments)
    if options.json:
        check_writable(options.json)
    start = time.perf_counter()
    warm_up()
    numbers = range(options.trials) if options.trial is None else [options.trial]
    rows = []
    for number in (bar := tqdm(numbers, unit="trial")):
        rows.append(trial(options.seed, number))
        kills, lost = sum(row["kills"] for row in rows), [row for row in rows if row["lost"]]
        bar.set_postfix(kills=kills, lost=len(lost))
    seek = far()
    print(table(rows))
    print(
        f"{len(rows)} trials, {kills} kills, {sum(row['samples'] for row in rows)} samples compared, {len(lost)} lost"
    )
    print(f"first batch after loading: {seek['at_0_ms']} ms at 0, {seek['at_2147483548_ms']} ms at 2,147,483,548")
    for row in lost:
        print(f"trial {row['trial']}: {row['lost']}")
    if options.json:
        result = {
            "environment": environment(),
            "kill_trials": {"trials": len(rows), "kills": kills, "lost": len(lost), "seed": options.seed, "seek": seek},
            "seconds": round(time.perf_counter() - start, 1),
            "trials": rows,
        }
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
