"""The table at the end, and the same as JSON."""

import os
import platform
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import Row
from slicewise.core.files import write_json

_HEADINGS = ("what", "ours", "reference", "ratio", "aim")
_WIDTH = 52


def machine() -> dict[str, Any]:
    """Return the facts that the figures depend on, and the load of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.system(),
        "processor": platform.processor() or platform.machine(),
        "cores": cores,
        "python": platform.python_version(),
        "torch": version("torch"),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text: medians, the median ratio with its range, and the aim."""
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [_WIDTH, *(max(len(line[column]) for line in cells) for column in range(1, len(_HEADINGS)))]
    return "\n".join(_line(line, widths) for line in cells)


def write_report(path: Path, rows: Sequence[Row], before: dict[str, Any]) -> None:
    """Write all measurements, with the load before and after."""
    facts = {**before, "load_after": machine()["load"]}
    write_json(path, {"machine": facts, "rows": [row.to_json() for row in rows]})


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "  met", False: "  MISSED"}[row.is_met]
    spread = f"{row.ratio:.2f} ({min(row.ratios):.2f}-{max(row.ratios):.2f})"
    ours, reference = (f"{value:.3g} {row.unit}" for value in (row.ours, row.reference))
    return f"{row.benchmark}: {row.what}", ours, reference, spread, f"{row.aim or ''}{verdict}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = textwrap.wrap(cells[0], _WIDTH)
    numbers = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells[1:4], widths[1:4], strict=True))
    head = f"{first:<{_WIDTH}}  {numbers}  {cells[4]}".rstrip()
    return "\n".join([head, *(f"    {line}" for line in others)])
