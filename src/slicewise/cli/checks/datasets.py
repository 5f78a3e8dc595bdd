"""The data sets: inputs named by the configuration, files on the disk, credentials for what is missing."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config, SourceSettings
from slicewise.config.schema.sources import ClassFoldersSettings
from slicewise.core.disk import expand_user
from slicewise.core.errors import DataError, DownloadError, SliceWiseError
from slicewise.data.sources import open_source
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.workflow.sources import source_root, used_sources

if TYPE_CHECKING:
    from slicewise.data.problems import Problem

_MAX_LISTED: Final = 5
"""Skipped or unreadable files listed by name."""
_MAX_OPENED: Final = 64
"""Pictures of a source that are opened at most, evenly spaced: thousands would take minutes."""


def inputs(config: Config) -> Check:
    """Check that the folders and files that the configuration names exist, as a plan does."""
    try:
        steps = pipeline(config)
        input_paths = [step_input.root for step in steps for step_input in step.inputs(config).values()]
        for step in steps:
            step.settings(config)  # the first stage reads training.start_from
    except SliceWiseError as error:
        fault, _, advice = str(error).rpartition("; ")
        return Check("inputs", "bad", fault, advice)
    if config.training.start_from is not None:
        input_paths.append(config.training.start_from)
    named = f"{', '.join(map(str, input_paths))} found" if input_paths else "none named"
    unread_files = [
        problem
        for source in used_sources(config)
        if source.path
        for problem in open_source(source).skipped_files(expand_user(source.path))
    ]
    if not unread_files:
        return Check("inputs", "good", named)
    listed = "; ".join(map(str, unread_files[:_MAX_LISTED]))
    more = f"; and {len(unread_files) - _MAX_LISTED} more" if len(unread_files) > _MAX_LISTED else ""
    return Check("inputs", "good", f"{named}; not read of their files ({len(unread_files)}): {listed}{more}")


def data(workspace: Workspace, config: Config) -> Check:
    """Check names and headers of the sources on the disk, and open some of the pictures."""
    counts: list[str] = []
    num_excluded = 0
    for source in used_sources(config):
        root = source_root(source, workspace)
        # A folder that the configuration names must hold files.
        if source.is_generated or not root.is_dir() or not (source.path or any(root.iterdir())):
            continue
        try:
            text, num_faults = _check_source(source, root)
        except SliceWiseError as error:
            first, _, rest = str(error).partition("\n")
            return Check("data", "bad", first, rest.strip() or "see docs/data.md for what is read")
        num_excluded += num_faults
        counts.append(f"{source.name}: {text}")
    if num_excluded:
        advice = "slicewise run --until download lists them in data/index/problems.txt"
        return Check("data", "warn", "; ".join(counts), advice)
    return Check("data", "good", "; ".join(counts) or "no data set on the disk yet")


def credentials(workspace: Workspace, config: Config) -> Check:
    """Check for Kaggle credentials if data must be downloaded; nothing of them is shown."""
    absent = [
        source.name
        for source in used_sources(config)
        if source.kaggle and not source.path and not (workspace.root / "data" / "raw" / source.name).exists()
    ]
    if not absent:
        return Check("kaggle", "good", f"not needed for data={config.data.name}")
    from slicewise.data.download.kaggle_client import HOW_TO_SIGN_IN, find_credentials

    try:
        anonymous = find_credentials().anonymous
    except DownloadError as error:
        return Check("kaggle", "bad", "the credentials are damaged", str(error).splitlines()[0])
    if anonymous:
        summary = f"no credentials; {' and '.join(absent)} may need them"
        return Check("kaggle", "warn", summary, HOW_TO_SIGN_IN.splitlines()[0] + " KAGGLE_API_TOKEN")
    return Check("kaggle", "good", "credentials found")


def _check_source(source: SourceSettings, root: Path) -> tuple[str, int]:
    """Return the counts of a source as text, and how many of its files or folders cannot be used.

    Raises:
        DataError: no case can be used.
    """
    from slicewise.data.check import check_cases, require_usable

    if isinstance(source, ClassFoldersSettings):
        return _check_pictures(source, root)
    found, discovery_problems = open_source(source).discover(root)
    usable, faults = check_cases(found)
    problems = [*discovery_problems, *faults]
    require_usable(source.name, root, len(found), usable, problems)
    num_faults = sum(problem.severity == "error" for problem in problems)
    return f"{len(usable)} cases can be used, {num_faults} files or folders cannot", num_faults


def _check_pictures(source: SourceSettings, root: Path) -> tuple[str, int]:
    from slicewise.data.problems import summarise_problems
    from slicewise.data.sources import class_folders

    labelled, problems = class_folders.label_pictures(root, open_source(source).read_files(root))
    if not labelled:
        raise DataError(f"{source.name}: no picture with a label in {root}{summarise_problems(problems)}")
    paths = sorted(path for path, _ in labelled)
    opened = paths[:: math.ceil(len(paths) / _MAX_OPENED)]
    with ThreadPoolExecutor() as pool:
        faults = [fault for fault in pool.map(_find_fault, opened) if fault is not None]
    if len(faults) == len(opened):
        raise DataError(
            f"{source.name}: none of the {len(opened)} pictures opened in {root} can be read"
            f"{summarise_problems(faults)}"
        )
    counts = (
        f"{len(paths)} pictures with a label, {len(opened)} opened, {len(faults)} of these cannot be read"
    )
    return counts + _list_faults(faults, root), len(faults)


def _find_fault(path: Path) -> "Problem | None":
    """Return why a picture cannot be read."""
    from slicewise.core.errors import PictureError
    from slicewise.data.problems import Problem
    from slicewise.imaging.io.image2d import read_picture

    try:
        read_picture(path)
    except PictureError as error:
        return Problem(path, str(error).removeprefix(str(path)).lstrip(" :"))
    return None


def _list_faults(faults: "Sequence[Problem]", root: Path) -> str:
    """Return the first faulty files with their reasons, to end a line with."""
    if not faults:
        return ""
    more = f"; and {len(faults) - _MAX_LISTED} more" if len(faults) > _MAX_LISTED else ""
    listed = (f"{fault.path.relative_to(root)}: {fault.what}" for fault in faults[:_MAX_LISTED])
    return f" ({'; '.join(listed)}{more})"
