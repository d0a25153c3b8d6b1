"""What programs of ours print as errors."""


def said(errors: str) -> str:
    """Return the text without the line that the first process to compile a kernel prints: which one is by chance."""
    lines = errors.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("gpurender: compiling "))
