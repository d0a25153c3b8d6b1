"""``gpurender doctor``: what renders on this machine; compiles kernels in advance; removes kept files."""

import argparse
import json
from collections.abc import Sequence


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "doctor",
        help="versions, devices, and which kernels work",
        description="Report versions and devices, try every kernel on a small image, and say why one is off. "
        "Exit status 0 if something can render.",
    )
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    instead.add_argument(
        "--warm", nargs="*", metavar="ARCH", help="instead, compile the GPU kernels in advance for these architectures "
        "(sm_80, sm_90 ...; default: those of the GPUs here) and name the files that are kept",
    )  # fmt: skip
    instead.add_argument(
        "--clean-cache", action="store_true", help="instead, remove the compiled kernels and search results that "
        "gpurender keeps; whatever is needed again is made again",
    )  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command with its arguments; return the exit status."""
    from gpurender.commands.checkup import examine

    if options.warm is not None:
        return _warm(options.warm)
    if options.clean_cache:
        return _clean_cache()
    report = examine.examine()
    print(json.dumps(report, indent=2) if options.json else examine.table(report))
    return 0 if any(kernel["available"] for kernel in report["kernels"]) else 1


def _clean_cache() -> int:
    """Remove what is kept on disk; return 1 if some of it stays."""
    from gpurender.commands.checkup import cache
    from gpurender.util.plural import counted

    whole = True
    for done in cache.clean():
        print(f"{done.folder}: {counted(done.files, 'file')} removed, {done.bytes / 1e6:.1f} MB")
        for problem in done.errors[:1]:
            print(
                f"  not removed: {counted(len(done.errors), 'file')}, such as {problem.filename!r}: {problem.strerror}"
            )
        whole = whole and not done.errors
    return 0 if whole else 1


def _warm(architectures: Sequence[str]) -> int:
    """Compile kernels for architectures; return 1 if there is no place to keep them."""
    import torch

    from gpurender.commands.checkup.precompile import warm

    kept = True
    for operation, architecture, file in warm(architectures):
        print(f"{operation:<11} {architecture:<8} {file or 'compiled, but there is no place to keep it'}", flush=True)
        kept = kept and file is not None
    if torch.cuda.is_available():
        print("Triton kernels: compiled for the GPUs here")
    else:
        print("Triton kernels: compiled at first use on a GPU")
    return 0 if kept else 1
