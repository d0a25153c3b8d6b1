"""Malformed recipes, states and arguments by the hundred thousand: accepted and sound, or refused by name.

    python -m trials.fuzz [--cases 100000] [--seed S] [--only TARGET] [--json FILE]
    python -m trials.fuzz --case N [--seed S]                       one case again, with its traceback
    python -m trials.fuzz --atheris json|state|csv -- -runs=100000  coverage-guided, by atheris (extra 'fuzz')

What a case is, and what counts as a finding, stands in cases.py. Cases run in processes of their own, so that
one that crashes, hangs or takes all memory is itself a finding. Exit status 1 if there are findings.
"""

import argparse
import collections
import contextlib
import faulthandler
import json
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

# atheris traces these
READERS = ["gpurender.util.checks", "gpurender.recipes.base", "gpurender.recipes", "gpurender.loading.data_loader"]


def _tracing() -> Any:
    """Inside, modules are imported with atheris' counters, if that is asked for."""
    if "--atheris" not in sys.argv:
        return contextlib.nullcontext()
    try:
        import atheris
    except ImportError:
        sys.exit("trials.fuzz: --atheris needs the package atheris: pip install 'gpurender[fuzz]'")
    return atheris.instrument_imports(include=READERS)


with _tracing():
    import gpurender.recipes  # noqa: F401  (otherwise imported late)
    from trials.fuzz import cases

from tqdm import tqdm  # noqa: E402

from gpurender.util.atomic_files import check_writable, replacing  # noqa: E402
from gpurender.util.environment import environment  # noqa: E402
from trials.fuzz import targets  # noqa: E402
from trials.fuzz.values import encoded, spoiled_text  # noqa: E402

CHUNK = 2_000  # cases of a process
PATIENCE = 3 * cases.LIMIT  # seconds without a case done, after which a process is killed
MEMORY = 4 << 30  # bytes of address space that a process may add


class Chunk:
    """A process that runs some cases.

    It writes the number of the case it is at where the parent can read it, and its findings to a pipe at the end. What
    a process that died has run besides the case that killed it is run again.
    """

    def __init__(self, numbers: range, seed: int, only: str | None) -> None:
        self.numbers, self.seed, self.only = numbers, seed, only
        self.at = multiprocessing.Value("q", numbers.start, lock=False)
        self.results, sender = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(sender,))
        self.process.start()
        sender.close()
        self.moved = time.monotonic()
        self.seen = numbers.start

    def _run(self, sender: Any) -> None:
        faulthandler.register(signal.SIGUSR1)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
        counts: collections.Counter[str] = collections.Counter()
        findings = []
        for number in self.numbers:
            self.at.value = number
            outcome, found = run(number, self.seed, self.only)
            counts[outcome] += 1
            if found is not None:
                findings.append(found)
        self.at.value = self.numbers.stop
        sender.send_bytes(pickle.dumps((counts, findings)))
        sender.close()
        os._exit(0)

    def finished(self) -> tuple[collections.Counter[str], list[cases.Finding], list[range]] | None:
        """Its counts, its findings, and the cases that are to be run by others; ``None`` while it runs."""
        if self.results.poll(0.05):
            try:
                counts, findings = pickle.loads(self.results.recv_bytes())
                self.process.join()
                return counts, findings, []
            except EOFError:
                self.process.join()
                return self._dead(f"the process ended with status {self.process.exitcode}")
        if self.at.value != self.seen:
            self.seen, self.moved = self.at.value, time.monotonic()
        elif time.monotonic() - self.moved > PATIENCE:
            os.kill(self.process.pid, signal.SIGUSR1)  # faulthandler says on stderr where it is
            time.sleep(0.5)
            self.process.kill()
            self.process.join()
            return self._dead(f"hangs: no end within {PATIENCE:g} s, and no signal is handled")
        return None

    def _dead(self, what: str) -> tuple[collections.Counter[str], list[cases.Finding], list[range]]:
        number = self.at.value
        some = cases.case(self.seed, number, only=self.only)
        text = ", ".join(f"{name}={cases.shown(some.arguments.get(name))}" for name in some.spoiled)
        found = cases.Finding(number, some.target, text, what, "", f"{some.target}|{what}")
        rest = [range(self.numbers.start, number), range(number + 1, self.numbers.stop)]
        return collections.Counter({"finding": 1}), [found], [some for some in rest if some]


def run(number: int, seed: int, only: str | None = None) -> tuple[str, cases.Finding | None]:
    """A case, made and judged."""
    outcome, found = cases.judged(cases.case(seed, number, only=only), number, seed)
    return outcome, None if found is None else cases.minimal(found, seed, only)


def warm_up() -> None:
    """Compile everything once, here: the processes that are forked then have it, and no case takes seconds for that."""
    draws = Random(0)
    draws.random = lambda: 0.0  # type: ignore[method-assign]  # what is drawn of some is drawn of all
    for target in targets.targets().values():
        for start in target.starts:
            arguments = dict(start)
            target.check(target.call(arguments), arguments, draws)


def campaign(count: int, seed: int, only: str | None, processes: int) -> tuple[collections.Counter[str], list[Any]]:
    """Run the cases; what became of them, and the findings."""
    waiting = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    running: list[Chunk] = []
    counts: collections.Counter[str] = collections.Counter()
    findings: list[cases.Finding] = []
    with tqdm(total=count, unit="case", desc="fuzz", mininterval=1.0) as bar:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(Chunk(waiting.pop(0), seed, only))
            for chunk in list(running):
                done = chunk.finished()
                if done is None:
                    continue
                running.remove(chunk)
                some, found, rest = done
                counts += some
                findings += found
                bar.update(sum(some.values()))
                bar.set_postfix(findings=len(findings))
                waiting[:0] = rest
    return counts, findings


def report(counts: collections.Counter[str], findings: list[cases.Finding]) -> str:
    """A short table, and each kind of finding once, the simplest case of it."""
    lines = [f"{outcome:<20}{count:>9,}" for outcome, count in counts.most_common()]
    kinds: dict[str, list[cases.Finding]] = {}
    for found in findings:
        kinds.setdefault(found.signature, []).append(found)
    for same in sorted(kinds.values(), key=lambda some: (some[0].where, -len(some))):
        least = min(same, key=lambda found: (found.case.count("="), len(found.case)))
        lines.append(f"{len(same):>6} x {least.target} [{least.number}] {least.case}")
        lines.append(f"         {least.what} {'@ ' + least.where if least.where else ''}")
    return "\n".join(lines)


def again(number: int, seed: int, only: str | None) -> int:
    """One case, with its traceback."""
    some = cases.case(seed, number, only=only)
    for name, value in some.arguments.items():
        print(f"{some.target}: {name}={cases.shown(value)}{'  <- spoiled' if name in some.spoiled else ''}")
    try:
        targets.targets()[some.target].call(some.arguments)
    except BaseException:
        traceback.print_exc()
    outcome, found = run(number, seed, only)
    print(outcome, found or "")
    return int(found is not None)


def guided(kind: str, arguments: list[str]) -> int:
    """Let atheris look for inputs that reach new code, of one of the texts that the library reads.

    It runs in a process of its own, because it ends its process without cleaning up.
    """
    root = targets.scratch()
    process = multiprocessing.get_context("fork").Process(target=_guided, args=(root, kind, arguments))
    process.start()
    process.join()
    return int(process.exitcode != 0)


def _guided(root: Path, kind: str, arguments: list[str]) -> None:
    import atheris

    rng, loader = Random(0), targets.loaders()[0]

    def one(data: bytes) -> None:
        if kind == "csv":
            targets.check_csv(root, data, rng)
        elif kind == "json":
            targets.check_json(data, rng)
        else:
            try:
                state = json.loads(data)
            except (ValueError, RecursionError):
                return
            targets.check_state(loader, state)

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        """Half of the time a change of the text by its parts; bytes alone seldom get past its punctuation."""
        draws = Random(seed)
        if draws.random() < 0.5:
            return atheris.Mutate(data, most)
        return encoded(draws, spoiled_text(draws, data.decode("utf-8", "replace")))[:most]

    corpus = root / f"corpus-{kind}"
    corpus.mkdir()
    for number, text in enumerate(targets.texts(kind)):
        (corpus / str(number)).write_bytes(text)
    flags = [f"-timeout={cases.LIMIT:g}", *arguments, str(corpus)]
    atheris.Setup([sys.argv[0], *flags], one, custom_mutator=mutated)
    atheris.Fuzz()


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000, help="default 100,000")
    parser.add_argument("--seed", type=int, default=0, help="of the cases; default 0")
    parser.add_argument("--only", choices=list(targets.targets()), metavar="TARGET", help="one target alone")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    parser.add_argument("--case", type=int, metavar="N", help="run case N again and show its traceback")
    parser.add_argument("--atheris", choices=("json", "state", "csv"), help="fuzz one reader by its coverage")
    parser.add_argument("--json", metavar="FILE", help="write a JSON result")
    parser.add_argument("rest", nargs="*", metavar="-- ARGUMENT", help="of atheris, such as -runs=100000")
    options = parser.parse_args(arguments)
    if options.atheris:
        return guided(options.atheris, options.rest)
    if options.case is not None:
        return again(options.case, options.seed, options.only)
    if options.json:
        check_writable(options.json)
    logging.getLogger("gpurender").setLevel(logging.ERROR)  # keywords without effect are said in a line
    start = time.perf_counter()
    warm_up()
    counts, findings = campaign(options.cases, options.seed, options.only, options.processes)
    print(report(counts, findings))
    if options.json:
        result = {
            "environment": environment(),
            "fuzz": {"cases": options.cases, "seed": options.seed, **counts},
            "seconds": round(time.perf_counter() - start, 1),
            "findings": [vars(found) for found in findings],
        }
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
