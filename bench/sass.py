"""NVIDIA machine code as text: the disassembler, a kernel's instructions, its loops."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

Span = tuple[int, int]  # numbers of the first and the last instruction


def tool(name: str) -> str:
    """Return the path of a tool that Triton brings along (``nvdisasm``, ``cuobjdump``), or of one on the PATH.

    Raises:
        RuntimeError: neither is there.
    """
    try:
        import triton

        own = Path(triton.__file__).parent / "backends/nvidia/bin" / name
        if own.exists():
            return str(own)
    except ImportError:
        pass
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} must come with Triton or lie on the PATH; neither is so")
    return found


def instructions(code: bytes) -> dict[str, tuple[list[str], dict[str, int]]]:
    """Return the instructions of each kernel of a cubin, and the number of the instruction after each label."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(code)
        text = subprocess.run([tool("nvdisasm"), "-c", file.name], capture_output=True, text=True, check=True).stdout
    kernels: dict[str, tuple[list[str], dict[str, int]]] = {}
    body: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if start := re.match(r"\s*\.text\.(\S+):", line):
            body, labels = [], {}
            kernels[start[1]] = body, labels
        elif label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(body)
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            body.append(instruction[1].strip())
    return kernels


def loop_spans(body: list[str], labels: dict[str, int]) -> list[Span]:
    """Return the loops, shortest first: what lies between a label and a later branch back to it."""
    spans = set()
    for end, instruction in enumerate(body):
        target = re.search(r"BRA.*?`\((\.L_x_\d+)\)", instruction)
        if target and labels.get(target[1], end) < end:  # a branch to itself is the padding at the end
            spans.add((labels[target[1]], end))
    return sorted(spans, key=lambda span: span[1] - span[0])


def within(span: Span, spans: list[Span]) -> list[Span]:
    """Return the other loops that lie in a loop."""
    return [(a, b) for a, b in spans if span[0] <= a and b <= span[1] and (a, b) != span]


def innermost(spans: list[Span]) -> list[Span]:
    """Return the loops that hold no other, in the order of the code."""
    return sorted(span for span in spans if not within(span, spans))
