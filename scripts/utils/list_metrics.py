#!/usr/bin/env python3
"""Write the table of metrics into docs/reference/metrics.md, between its two marks."""

from pathlib import Path

from slicewise.metrics.table import to_markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"
START, END = "<!-- metrics: made by scripts/utils/list_metrics.py -->\n", "<!-- end of metrics -->\n"


def page(text: str) -> str:
    """Return the page with the table of today."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{to_markdown()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
