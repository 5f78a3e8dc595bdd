"""Pages that lead to where an output is at home.

A copy or a link could outlive what it shows. A page that says nothing but where to look is never out of date:
it leads to whatever is at home, and its own text never changes.
"""

import html
import os
from collections.abc import Mapping
from pathlib import Path

from slicewise.core.files import write_text

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={target}">
<title>Moved</title>
</head>
<body><a href="{target}">{target}</a></body>
</html>
"""


def write_redirects(root: Path, redirects: Mapping[str, str]) -> None:
    """Write each page, unless it stands there already."""
    for name, target in redirects.items():
        path = root / name
        link = html.escape(Path(os.path.relpath(root / target, path.parent)).as_posix())
        text = _PAGE.format(target=link)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
