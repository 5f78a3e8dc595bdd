"""A report as data: sections of text, tables, notices and figures, as plain text and as Markdown."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from slicewise.domain.wording import reword

WIDTH: Final = 100
_NUMERIC = re.compile(r"[–<+\-\d][–<+\-\d.,()%/→ ]*(to [+\-\d.]+)?")


@dataclass(frozen=True)
class Text:
    """A paragraph; `links` {label: address} follow it on the page."""

    text: str
    links: Mapping[str, str] = field(default_factory=dict)
    is_note: bool = False

    @property
    def kind(self) -> str:
        return "note" if self.is_note else "text"

    def lines(self) -> Iterator[str]:
        yield from textwrap.wrap(printable(self.text), WIDTH)


@dataclass(frozen=True)
class Notice:
    """A warning or, if not `severe`, a remark; it stands before the text of its section."""

    headline: str
    text: str
    severe: bool = True

    @property
    def kind(self) -> str:
        return "warning" if self.severe else "hint"

    def lines(self) -> Iterator[str]:
        yield from textwrap.wrap(printable(f"! {self.headline}. {self.text}"), WIDTH, subsequent_indent="  ")


@dataclass(frozen=True)
class Verdict:
    """What the run found about one source, in a sentence."""

    headline: str
    text: str
    kind: ClassVar = "verdict"

    def lines(self) -> Iterator[str]:
        yield from textwrap.wrap(printable(f"{self.headline}: {self.text}"), WIDTH, subsequent_indent="  ")


@dataclass(frozen=True)
class Table:
    """Cells as text, a dash for what is missing; the first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: ClassVar = "table"

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, intervals and dashes only."""
        columns = zip(*self.rows, strict=True)
        return [all(map(_NUMERIC.fullmatch, column)) for column in columns] or [False] * len(self.head)

    def without_empty(self) -> "Table":
        """Return the table without the columns that hold dashes only."""
        columns = enumerate(zip(*self.rows, strict=True))
        return self.only(*(place for place, cells in columns if {*cells} != {"–"}))

    def only(self, *columns: int) -> "Table":
        """Return the table with these columns alone."""
        head, *rows = ([row[place] for place in columns] for row in (self.head, *self.rows))
        return Table(head, rows, self.caption)

    def lines(self) -> Iterator[str]:
        table = [[printable(cell) for cell in row] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        if self.caption:
            yield printable(self.caption)
        for row in table if any(self.head) else table[1:]:
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))

    def to_markdown(self) -> str:
        """Return the table; cells cannot leave their place."""
        rows = [[cell.replace("|", "\\|") for cell in map(printable, row)] for row in (self.head, *self.rows)]
        marks = ["---:" if numeric else "---" for numeric in self.numeric]
        return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], marks, *rows[1:]))


@dataclass(frozen=True)
class Figure:
    """A picture of the workspace; `text` is its caption and alternative text."""

    path: Path
    text: str
    wide: bool = False
    kind: ClassVar = "figure"

    def lines(self) -> Iterator[str]:
        yield from ()


@dataclass(frozen=True)
class Code:
    """A command, or with a caption a long text that the page folds and plain text leaves out."""

    text: str
    caption: str = ""
    kind: ClassVar = "code"

    def lines(self) -> Iterator[str]:
        yield from () if self.caption else (f"  {self.text}",)


Block = Text | Notice | Verdict | Table | Figure | Code


@dataclass(frozen=True)
class Section:
    """A heading, what stands below it, and its name in the navigation."""

    title: str
    short: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """All that a report says; renderers decide only how it looks."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str


def to_text(report: Report) -> str:
    """Return the report as plain text without its figures."""
    lines = [printable(report.title), printable(report.subtitle), "=" * WIDTH]
    for number, section in enumerate(report.sections):
        heading = [section.title, "-" * WIDTH]
        notices = [line for block in section.blocks if isinstance(block, Notice) for line in block.lines()]
        others = [line for block in section.blocks if not isinstance(block, Notice) for line in block.lines()]
        lines += [*notices, *([""] if number or notices else []), *heading, *others]
    return "\n".join(line.rstrip() for line in [*lines, "", report.footer]) + "\n"


def printable(text: str) -> str:
    """Return text on one line in the words of the recipe, `?` for what is not printable."""
    return "".join(letter if letter.isprintable() else "?" for letter in reword(text))


def number(value: float | None, digits: int = 3, missing: str = "–") -> str:
    """Return a number with `digits` decimals, or a dash for None."""
    return missing if value is None else f"{value:.{digits}f}"


def interval_text(estimate: Mapping[str, Any]) -> str:
    """Return the interval of an estimate of `metrics.json`, which has one."""
    low, high = estimate["interval"]
    return f"{low:.3f} to {high:.3f}"
