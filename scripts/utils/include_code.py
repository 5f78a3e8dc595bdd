#!/usr/bin/env python3
"""Write the code of docs/howto/extend.md: each block below `<!-- FILE -->` is the text of that file."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "extend.md"
BLOCK = re.compile(r"(?<=<!-- )(\S+)( -->\n\n```\w+\n)(.*?)(?=```\n)", re.DOTALL)


def page() -> str:
    """Return the page with the present text of every file that it includes."""
    text = PAGE.read_text(encoding="utf-8")
    return BLOCK.sub(lambda block: block[1] + block[2] + (ROOT / block[1]).read_text(encoding="utf-8"), text)


def included() -> list[str]:
    """Return the files that the page includes."""
    return [block[1] for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
