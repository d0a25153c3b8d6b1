"""The tests, run in processes that are forked from one that has the heavy packages loaded, and which test runs a line.

Starting Python and importing torch takes longer than most tests. So a process imports the third-party packages once and
forks a child for every run; the child imports gpurender, which its parent never does, from the tree it is given.
"""

import contextlib
import ctypes
import dataclasses
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import psutil

HEAVY = (  # what the library, its tests and pytest import; one that is not installed is left out
    "torch", "numba", "numpy", "PIL.Image", "pytest", "hypothesis", "tqdm", "torchvision.transforms.v2", "timm.data",
    "timm.loss", "accelerate", "transformers", "transformers.trainer", "lightning", "torchdata", "nvidia.dali",
    "matplotlib.figure", "scipy.stats", "scipy.ndimage", "skimage", "cupy",
)  # fmt: skip
MEMORY = 8 << 30  # bytes of address space that a run may add
PATIENCE = 30.0  # seconds that any test may take, and
SLOWER = 10.0  # so many times its time in the map: the machine may be busy
CHECKOUT = Path(__file__).resolve().parents[2]
SUBPROCESS = """
import os
if os.environ.get("COVERAGE_PROCESS_START"):
    import coverage
    coverage.process_startup()
"""
CONFIG = """
[run]
source = {root}/gpurender
data_file = {data}
parallel = true
concurrency = thread, multiprocessing
context = ${{PYTEST_CURRENT_TEST-}}
disable_warnings = module-not-imported, no-data-collected, module-not-measured
"""


def preload() -> None:
    """Import the heavy packages, and nothing of gpurender."""
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert not any(name.split(".")[0] == "gpurender" for name in sys.modules), "a run imports gpurender from its tree"


def end_with_parent() -> None:
    """Let this process be killed when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Tree:
    """A copy of the checkout in a folder, beside a folder for what runs leave behind.

    ``shared`` is linked where the checkout has one beside it. Compiled kernels are kept between runs, in a folder named
    after ``library``, the digest of the sources that they may come from.
    """

    def __init__(self, checkout: Path, folder: Path, library: str) -> None:
        self.root, self.scratch, self.hook = folder / "tree", folder / "scratch", folder / "hook"
        self.numba = folder / f"numba-{library}"
        shutil.rmtree(self.root, ignore_errors=True)
        words = ["git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\0"):
            if name and (checkout / name).exists():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, self.root / name, follow_symlinks=False)
                os.utime(
                    self.root / name, (0, 0), follow_symlinks=False
                )  # Numba takes kernels of another time as stale
        if (checkout.parent / "shared").is_dir() and not (folder / "shared").exists():
            (folder / "shared").symlink_to((checkout.parent / "shared").resolve())
        self.hook.mkdir(exist_ok=True)
        (self.hook / "sitecustomize.py").write_text(SUBPROCESS)

    @contextlib.contextmanager
    def changed(self, path: str, source: str) -> Any:
        """Inside, a file of the copy has another text; its time stamps come back with its own."""
        file = self.root / path
        kept = file.with_name(file.name + ".kept")
        shutil.move(file, kept)
        try:
            file.write_text(source, encoding="utf-8")
            yield
        finally:
            shutil.move(kept, file)


@dataclasses.dataclass
class Outcome:
    """What became of a run: the first test that failed and why, all that failed, how many were run, their seconds.

    ``setups``: seconds before each test began, which a fixture of the whole file takes but once.
    """

    failed: str | None = None
    why: str = ""
    run: int = 0
    seconds: float = 0.0
    times: dict[str, float] = dataclasses.field(default_factory=dict)
    setups: dict[str, float] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)


class Run:
    """Tests, run in a child process; ``None`` for ``tests`` are all of the files.

    Of the files' other tests those are run that are not ``known``: a fault may give parametrised tests other names.
    ``fresh``: with a cache of kernels of its own. ``measured``: where coverage.py writes what they reach.
    """

    def __init__(
        self, tree: Tree, files: list[str], tests: list[str] | None = None, *, first: bool = True, limits: Any = None,
        measured: Path | None = None, fresh: bool = False, known: Any = (),
    ) -> None:  # fmt: skip
        self.tree, self.files, self.tests, self.first, self.measured = tree, files, tests, first, measured
        self.fresh, self.known = fresh, known
        self.limits = limits or (lambda test: 600.0)
        self.outcome = Outcome()
        self.current, self.since, self.start = "collection", time.monotonic(), time.monotonic()
        shutil.rmtree(tree.scratch, ignore_errors=True)
        tree.scratch.mkdir(parents=True)
        self.receiver, sender = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.get_context("fork").Process(target=self._child, args=(sender,))
        self.process.start()
        sender.close()

    # ------------------------------------------------------------------------------------------------ in the child

    def _child(self, sender: Any) -> None:
        os.setsid()
        end_with_parent()
        tree = self.tree
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        log = os.open(tree.scratch / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(tree.root)
        os.environ.pop("PYTEST_CURRENT_TEST", None)  # of a test that runs this
        numba = tree.scratch / "numba" if self.fresh else tree.numba
        os.environ.update(
            PYTHONPATH=os.pathsep.join([str(tree.root), *([str(tree.hook)] if self.measured else [])]),
            PYTHONDONTWRITEBYTECODE="1", NUMBA_CACHE_DIR=str(numba), TMPDIR=str(tree.scratch),
        )  # fmt: skip
        import tempfile

        import numba.core.config

        tempfile.tempdir = None
        numba.core.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
        sys.dont_write_bytecode = True
        sys.modules["__main__"] = types.ModuleType("__main__")  # else a spawned process imports this program
        sys.path[:] = [str(tree.root), *(place for place in sys.path if Path(place).resolve() != CHECKOUT)]
        for name in [name for name in sys.modules if name.split(".")[0] == "trials"]:
            del sys.modules[name]  # tests import those of their tree
        importlib.invalidate_caches()
        measuring = self._coverage() if self.measured else None
        code = self._pytest(sender, measuring)
        if measuring is not None:
            measuring.stop()
            measuring.save()
            sender.send(("end", int(code)))
        sender.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def _coverage(self) -> Any:
        import coverage

        config = self.tree.scratch / "coveragerc"
        config.write_text(CONFIG.format(root=self.tree.root, data=self.measured))
        os.environ["COVERAGE_PROCESS_START"] = str(config)
        found = coverage.Coverage(config_file=str(config), messages=False)
        found.start()
        return found

    def _pytest(self, sender: Any, measuring: Any) -> int:
        import pytest

        wanted = None if self.tests is None else {test: i for i, test in enumerate(self.tests)}
        known = self.known

        class Plugin:
            @pytest.hookimpl(trylast=True)
            def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
                if wanted is not None:
                    chosen = [item for item in items if item.nodeid in wanted or item.nodeid not in known]
                    items[:] = sorted(chosen, key=lambda item: wanted.get(item.nodeid, len(wanted)))

            @pytest.hookimpl(tryfirst=True)
            def pytest_runtest_logstart(self, nodeid: str) -> None:
                sender.send(("start", nodeid))

            @pytest.hookimpl(tryfirst=True)
            def pytest_runtest_setup(self, item: Any) -> None:
                if measuring is not None:
                    measuring.switch_context(f"{item.nodeid} (setup)")

            @pytest.hookimpl(tryfirst=True)
            def pytest_runtest_call(self, item: Any) -> None:
                if measuring is not None:
                    measuring.switch_context(f"{item.nodeid} (call)")

            @pytest.hookimpl(tryfirst=True)
            def pytest_runtest_teardown(self, item: Any) -> None:
                if measuring is not None:
                    measuring.switch_context(f"{item.nodeid} (call)")

            def pytest_runtest_logreport(self, report: Any) -> None:
                why = "" if report.passed or report.skipped else str(report.longrepr)[-2000:]
                sender.send(("report", report.nodeid, report.when, report.outcome, report.duration, why))

            @pytest.hookimpl(trylast=True)
            def pytest_sessionfinish(self, exitstatus: int) -> None:
                if measuring is None:
                    sender.send(("end", int(exitstatus)))  # what follows is a summary that nobody reads

            def pytest_collectreport(self, report: Any) -> None:
                if report.failed:
                    sender.send(("report", report.nodeid, "collect", "failed", 0.0, str(report.longrepr)[-2000:]))

        words = [
            *(["-x"] if self.first else []),
            "-q",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            str(self.tree.scratch / "pytest"),
        ]
        return pytest.main([*words, *self.files], plugins=[Plugin()])

    # ----------------------------------------------------------------------------------------------- in the parent

    def finished(self, wait: float = 0.2) -> Outcome | None:
        """Return what became of the run, or ``None`` while it goes on. A test that takes too long ends it."""
        try:
            while self.receiver.poll(wait):
                if self._heard(self.receiver.recv()):
                    return self._ended()
                wait = 0.0
        except EOFError:
            self._fail(self.current, "the process ended")
            return self._ended()
        limit = self.limits(self.current)
        if time.monotonic() - self.since > limit:
            self._fail(self.current, f"no end within {limit:.0f} s")
            return self._ended()
        return None

    def _heard(self, said: tuple[Any, ...]) -> bool:
        self.since = time.monotonic()
        if said[0] == "start":
            self.current = said[1]
        elif said[0] == "report":
            _, test, when, result, seconds, why = said
            times = self.outcome.setups if when == "setup" else self.outcome.times
            times[test] = times.get(test, 0.0) + seconds
            self.outcome.run += when == "call"
            if result == "failed":
                self._fail(test, why)
        elif said[1] not in (0, 1, 5) and self.outcome.failed is None:
            self._fail("collection", f"pytest ended with {said[1]}")
        return said[0] == "end" or (self.first and self.outcome.failed is not None)

    def _fail(self, test: str, why: str) -> None:
        self.outcome.failures.append(test)
        if self.outcome.failed is None:
            self.outcome.failed, self.outcome.why = test, why

    def _ended(self) -> Outcome:
        self.outcome.seconds = time.monotonic() - self.start
        self.kill()
        return self.outcome

    def kill(self) -> None:
        """End the process and all that it started."""
        below = []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.process.pid).children(recursive=True)  # some are in sessions of their own
        self.process.kill()
        self.process.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.receiver.close()

    def whole(self) -> Outcome:
        """Return the outcome when the run is over."""
        try:
            while (outcome := self.finished()) is None:
                pass
            return outcome
        except BaseException:
            self.kill()
            raise
