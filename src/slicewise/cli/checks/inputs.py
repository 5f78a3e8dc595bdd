"""What the configuration names: first weights, trackers, files, data sets, credentials for downloads."""

import math
import textwrap
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from slicewise.cli.checks import Check
from slicewise.config.schema import Config, SourceSettings
from slicewise.config.schema.sources import ClassFoldersSettings
from slicewise.core.disk import expand_user
from slicewise.core.errors import (
    ConfigError,
    DataError,
    DownloadError,
    PictureError,
    SliceWiseError,
    UsageError,
)
from slicewise.data.cases import check_source
from slicewise.data.download.kaggle import HOW_TO_SIGN_IN, find_credentials
from slicewise.data.problems import Problem, summarise_problems
from slicewise.data.sources import class_folders, open_source
from slicewise.engine.workspace import Workspace
from slicewise.imaging.io.image2d import read_picture
from slicewise.models.adapters.smp import PACKAGED_WEIGHTS, find_packaged_weights
from slicewise.models.multitask import build_without_memory
from slicewise.steps import pipeline
from slicewise.workflow.observers import list_observers
from slicewise.workflow.participants import source_root

_MAX_LISTED: Final = 5
"""Skipped or unreadable files listed by name."""
_MAX_OPENED: Final = 64
"""Pictures of a source that are opened at most, evenly spaced: thousands would take minutes."""


def encoder_weights(config: Config) -> Check:
    """Check that the model can be built and its pretrained weights are installed; nothing is downloaded."""
    model, channels = config.model, len(config.preprocessing.channels)
    try:
        build_without_memory(model, config.tasks, channels)
    except ConfigError as error:
        fault, _, advice = str(error).rpartition("; ")
        return Check("bad", textwrap.shorten(fault, 300), advice)
    if model.encoder_weights is None:
        return Check("good", f"{model.encoder or model.architecture} starts from random weights")
    weights = f"{model.encoder_weights} for {model.encoder} is"
    if find_packaged_weights(model) is not None:
        return Check("good", f"{weights} installed")
    advice = f"offline: model.encoder_weights=null, or an encoder of {', '.join(PACKAGED_WEIGHTS)}"
    return Check("warn", f"{weights} downloaded when training starts", advice)


def tracking(workspace: Workspace, config: Config) -> Check:
    """Check that the packages of experiment tracking are installed, where it is on."""
    try:
        return Check("good", ", ".join(list_observers(config, workspace)) or "off")
    except UsageError as error:
        fault, _, advice = str(error).partition(": ")
        return Check("bad", fault, advice)


def named_files(config: Config) -> Check:
    """Check that the folders and files that the configuration names exist, as a plan does."""
    try:
        steps = pipeline(config)
        paths = [step_input.root for step in steps for step_input in step.inputs(config).values()]
        for step in steps:
            step.settings(config)  # the first stage reads training.start_from
    except SliceWiseError as error:
        fault, _, advice = str(error).rpartition("; ")
        return Check("bad", fault, advice)
    if config.training.start_from is not None:
        paths.append(config.training.start_from)
    found = f"{', '.join(map(str, paths))} found" if paths else "none named"
    unread = [
        str(problem)
        for source in config.data.sources.values()
        if source.path
        for problem in open_source(source).skipped_files(expand_user(source.path))
    ]
    if unread:
        found += f"; not read of their files ({len(unread)}): {_list(unread)}"
    return Check("good", found)


def data(workspace: Workspace, config: Config) -> Check:
    """Check names and headers of the sources on the disk, and open some of the pictures."""
    counts: list[str] = []
    num_excluded = 0
    for source in config.data.sources.values():
        root = source_root(source, workspace)
        # A folder that the configuration names must hold files.
        if source.is_generated or not root.is_dir() or not (source.path or any(root.iterdir())):
            continue
        try:
            text, num_faults = _check_source(source, root)
        except SliceWiseError as error:
            first, _, rest = str(error).partition("\n")
            return Check("bad", first, rest.strip() or "see docs/reference/data.md for what is read")
        num_excluded += num_faults
        counts.append(f"{source.name}: {text}")
    if num_excluded:
        advice = "slicewise run --until download lists them in data/index/problems.txt"
        return Check("warn", "; ".join(counts), advice)
    return Check("good", "; ".join(counts) or "no data set on the disk yet")


def credentials(workspace: Workspace, config: Config) -> Check:
    """Check for Kaggle credentials if data must be downloaded; nothing of them is shown."""
    absent = [
        source.name
        for source in config.data.sources.values()
        if source.kaggle and not source.path and not source_root(source, workspace).exists()
    ]
    if not absent:
        return Check("good", f"not needed for data={config.data.name}")
    try:
        anonymous = find_credentials().anonymous
    except DownloadError as error:
        return Check("bad", "the credentials are damaged", str(error).splitlines()[0])
    if anonymous:
        advice = HOW_TO_SIGN_IN.splitlines()[0] + " KAGGLE_API_TOKEN"
        return Check("warn", f"no credentials; {' and '.join(absent)} may need them", advice)
    return Check("good", "credentials found")


def _check_source(source: SourceSettings, root: Path) -> tuple[str, int]:
    """Return the counts of a source as text, and how many of its files or folders cannot be used.

    Raises:
        DataError: no case can be used.
    """
    if isinstance(source, ClassFoldersSettings):
        return _check_pictures(source, root)
    usable, problems = check_source(source.name, root, *open_source(source).discover(root))
    num_faults = sum(problem.severity == "error" for problem in problems)
    return f"{len(usable)} cases can be used, {num_faults} files or folders cannot", num_faults


def _check_pictures(source: ClassFoldersSettings, root: Path) -> tuple[str, int]:
    paths = open_source(source).read_files(root)
    labelled, problems = class_folders.label_pictures(root, paths, source.class_names)
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
    text = f"{len(paths)} pictures with a label, {len(opened)} opened, {len(faults)} of these cannot be read"
    if faults:
        text += f" ({_list(f'{fault.path.relative_to(root)}: {fault.what}' for fault in faults)})"
    return text, len(faults)


def _find_fault(path: Path) -> Problem | None:
    """Return why a picture cannot be read."""
    try:
        read_picture(path)
    except PictureError as error:
        return Problem(path, str(error).removeprefix(str(path)).lstrip(" :"))
    return None


def _list(texts: Iterable[str]) -> str:
    listed = [*texts]
    more = [f"and {len(listed) - _MAX_LISTED} more"] if len(listed) > _MAX_LISTED else []
    return "; ".join([*listed[:_MAX_LISTED], *more])
