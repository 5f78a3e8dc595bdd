"""The data that lie on the disk already: can any case of each source be used."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config, PictureSource, VolumeSource
from slicewise.core.errors import DataError, SliceWiseError
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.data.problems import Problem

_NAME = "data"
_OPENED: Final = 64
"""Pictures of a source that are opened at most, evenly spaced: thousands would take minutes."""
_SHOWN: Final = 5
"""Unreadable files by name."""


def data(workspace: Workspace, config: Config) -> Check:
    """Look at the names and headers of the sources that are on the disk, and open some of the pictures."""
    from slicewise.workflow.sources import source_root, used_sources

    sources = [(source, source_root(source, workspace)) for source in used_sources(config)]
    present = [(source, root) for source, root in sources if _is_present(source, root)]
    counts: list[str] = []
    num_left_out = 0
    for source, root in present:
        try:
            text, num_faults = _looked_at(source, root)
        except SliceWiseError as error:
            first, _, rest = str(error).partition("\n")
            return Check(_NAME, "bad", first, rest.strip() or "see docs/data.md for what is read")
        num_left_out += num_faults
        counts.append(f"{source.name}: {text}")
    if num_left_out:
        advice = "slicewise run --until download lists them in data/index/problems.txt"
        return Check(_NAME, "warn", "; ".join(counts), advice)
    return Check(_NAME, "good", "; ".join(counts) or "none on the disk yet")


def _is_present(source: VolumeSource | PictureSource, root: Path) -> bool:
    """Whether a source has files; a folder that the configuration names must have some."""
    return source.kind != "phantom" and root.is_dir() and bool(source.path or any(root.iterdir()))


def _looked_at(source: VolumeSource | PictureSource, root: Path) -> tuple[str, int]:
    """Return what is said of a source, and how many files or folders of it cannot be used.

    Raises:
        DataError: no case can be used.
    """
    from slicewise.data.check import check_cases, require_usable
    from slicewise.workflow.sources import discover_source

    if isinstance(source, PictureSource):
        return _pictures(source, root)
    found, discovery_problems = discover_source(source, root)
    usable, faults = check_cases(found)
    problems = [*discovery_problems, *faults]
    require_usable(source.name, root, len(found), usable, problems)
    num_faults = sum(problem.severity == "error" for problem in problems)
    return f"{len(usable)} cases can be used, {num_faults} files or folders cannot", num_faults


def _pictures(source: PictureSource, root: Path) -> tuple[str, int]:
    from slicewise.data.problems import summarise_problems
    from slicewise.data.sources import class_folders, list_read_files

    labelled, problems = class_folders.label_pictures(root, list_read_files("pictures", root))
    if not labelled:
        raise DataError(f"{source.name}: no picture with a label in {root}{summarise_problems(problems)}")
    paths = sorted(path for path, _ in labelled)
    opened = paths[:: math.ceil(len(paths) / _OPENED)]
    with ThreadPoolExecutor() as pool:
        faults = [fault for fault in pool.map(_fault, opened) if fault is not None]
    if len(faults) == len(opened):
        raise DataError(
            f"{source.name}: none of the {len(opened)} pictures opened in {root} can be read"
            f"{summarise_problems(faults)}"
        )
    counts = (
        f"{len(paths)} pictures with a label, {len(opened)} opened, {len(faults)} of these cannot be read"
    )
    return counts + _named(faults, root), len(faults)


def _fault(path: Path) -> "Problem | None":
    """Return why a picture cannot be read."""
    from slicewise.core.errors import PictureError
    from slicewise.data.problems import Problem
    from slicewise.imaging.io.image2d import read_picture

    try:
        read_picture(path)
    except PictureError as error:
        return Problem(path, str(error).removeprefix(str(path)).lstrip(" :"))
    return None


def _named(faults: "Sequence[Problem]", root: Path) -> str:
    """Return the first faulty files with their reasons, to end a line with."""
    if not faults:
        return ""
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    listed = (f"{fault.path.relative_to(root)}: {fault.what}" for fault in faults[:_SHOWN])
    return f" ({'; '.join(listed)}{more})"
