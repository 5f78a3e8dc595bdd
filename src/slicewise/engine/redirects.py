"""Pages that lead to an output which older versions had in another place."""

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from slicewise.core.files import write_text

_REDIRECT: Final = """<!DOCTYPE html>
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
    """Write each page that leads to an output, unless it exists; unlike a copy it is never out of date."""
    for name, target in redirects.items():
        path = root / name
        link = html.escape(Path(os.path.relpath(root / target, path.parent)).as_posix())
        text = _REDIRECT.format(target=link)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
