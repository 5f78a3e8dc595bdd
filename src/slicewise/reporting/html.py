"""`report.html`: the whole run on one page, without scripts or external files."""

import base64
import io
from itertools import groupby
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from slicewise.core.errors import WorkspaceError
from slicewise.domain.report import Report

TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names come from foreign files
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_WIDE, _HALF = 1400, 1000
_QUALITY: Final = 84
_MAX_HEIGHT: Final = 6000


def to_html(report: Report) -> str:
    """Return the page; neighbouring figures share a grid.

    Raises:
        WorkspaceError: a figure is missing or damaged.
    """
    sections = [
        (section, [(kind, [*blocks]) for kind, blocks in groupby(section.blocks, lambda block: block.kind)])
        for section in report.sections
    ]
    return TEMPLATES.get_template("report.html.j2").render(
        report=report, sections=sections, data_uri=data_uri
    )


def data_uri(path: Path, *, wide: bool) -> str:
    """Return a picture as `data:image/webp;base64,...`, shrunk to the width of the page or half of it.

    WebP takes a quarter of the bytes of PNG here; every browser since 2020 shows it.

    Raises:
        WorkspaceError: the file is missing or not a picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); run again with --force evaluate") from error
    picture.thumbnail((_WIDE if wide else _HALF, _MAX_HEIGHT), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
