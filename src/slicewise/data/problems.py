"""Problems of the data: errors, warnings and notes about files, and their report."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: Final[dict[Severity, str]] = {
    "error": "Cannot be used and left out",
    "warning": "Used; please check",
    "note": "Set aside on purpose",
}
_SHOWN = 10


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """A problem of one file or folder.

    Attributes:
        path: the file or folder.
        what: a sentence without the path; equal sentences are listed together.
        severity: "error": unusable, left out. "warning": used all the same. "note": left out with nothing
            wrong (a repeated picture, a folder without labels).
    """

    path: Path
    what: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def describe_problems(problems: Iterable[Problem], shown: int | None = _SHOWN) -> str:
    """Return the report, errors first, with at most `shown` paths per problem (None: all)."""
    lines: list[str] = []
    ordered = sorted(problems, key=lambda p: ([*SEVERITIES].index(p.severity), p.what, p.path))
    for severity, listed in groupby(ordered, key=lambda p: p.severity):
        these = [*listed]
        lines += ["", f"{SEVERITIES[severity]} ({len(these)})"]
        for what, group in groupby(these, key=lambda p: p.what):
            paths = [str(problem.path) for problem in group]
            lines.append(f"  {len(paths)} x {what}")
            lines += [f"      {path}" for path in paths[:shown]]
            if len(paths) > len(paths[:shown]):
                lines.append(f"      and {len(paths) - len(paths[:shown])} more")
    return "\n".join(lines[1:]) + "\n" if lines else "No problem was found.\n"


def summarise_problems(problems: Iterable[Problem], shown: int = 3) -> str:
    """Return the end of a message: the most frequent problems, each with an example; errors come first."""
    alike: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for problem in problems:
        alike[[*SEVERITIES].index(problem.severity), problem.what].append(problem.path)
    ordered = sorted(alike.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1]))
    lines = [f"\n  {len(paths)} x {what}\n      such as {min(paths)}" for (_, what), paths in ordered[:shown]]
    return f". Problems:{''.join(lines)}" if lines else ""
