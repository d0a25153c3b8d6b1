"""The result of an acceptance run for people: a short table, for the end of a long log."""

import json
from typing import Any

NOTES = ("copies", "counts", "known_races", "log_messages")  # fields of a step, beside its rows


def summary(result: dict[str, Any]) -> list[str]:
    """The lines: each step with its outcome, and what it measured below it."""
    lines = ["a rehearsal on a CPU: no figure means anything"] if result.get("rehearsal") else []
    for name, seen in result["steps"].items():
        took = f"{seen['seconds']:>6.1f} s" if "seconds" in seen else ""
        said = [seen["error"].strip().splitlines()[0][:200]] if seen.get("error") else []
        said += [f"left out: {', '.join(seen['left_out'])}"] if seen.get("left_out") else []
        said += [f"{key}: {json.dumps(seen[key])[:300]}" for key in NOTES if seen.get(key)]
        lines.append(f"{name:<10}{seen['outcome']:<9}{took} {'; '.join(said)}".rstrip())
        lines += [f"  {line(row)}" for row in seen.get("rows", [])]
    return lines


def line(row: dict[str, Any]) -> str:
    """A row in a line: one of a bench, of a table of kernels, or any other."""
    if "plain_us" in row:
        return _kernels(row)
    if "stage" in row:
        return _rate(row)
    return ", ".join(f"{key} {_short(value)}" for key, value in row.items())[:200]


def _rate(row: dict[str, Any]) -> str:
    kept = {True: " kept", False: " drawn", None: ""}[row.get("cached")]
    what = f"{row['stage']}{kept} {row.get('augment', '') if row['stage'] != 'raster' else ''}".strip()
    said = f"{row['recipe']:<19}{what:<15}{row['batch_size']:>5} {row['images_per_second']['median']:>12,.0f} images/s"
    if "overhead_percent" in row:
        low, high = row["overhead_interval_percent"]
        ahead = "" if row.get("prefetch_factor") is None else f", prefetch_factor {row['prefetch_factor']}"
        said += f", {row['model']}{ahead}: {row['overhead_percent']:+} % a step ({low:+} to {high:+})"
    for of in ("goal", "limit"):
        said += f", {row[f'percent_of_{of}']} % of the {of}" if row.get(f"percent_of_{of}") else ""
    return said + (f": {row['verdict']}" if "verdict" in row else "")


def _kernels(row: dict[str, Any]) -> str:
    name = f"{row['recipe']} {row['augment']}{' fresh' if row['fresh'] else ''} {row['batch_size']}"
    longest = "; ".join(f"{kernel[:28]} {us:,.0f}" for kernel, (us, _) in list(row["plain_us"].items())[:7])
    return f"{name}: {row['batch_us']:,.0f} us a batch; kernel by kernel {row['plain_sum_us']:,.0f}: {longest}"


def _short(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        return f"{value['median']:,}"
    return str(value)[:80]
