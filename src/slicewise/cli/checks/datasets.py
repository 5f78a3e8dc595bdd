"""The data sets: inputs named by the configuration, files on the disk, credentials for what is missing."""

from pathlib import Path

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config, PictureSource, VolumeSource
from slicewise.core.disk import expand_user
from slicewise.core.errors import DataError, DownloadError, SliceWiseError
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.workflow.sources import source_layout, source_root, used_sources

_MAX_LISTED = 5
"""Skipped files listed by name."""


def inputs(config: Config) -> Check:
    """Check that the folders and files that the configuration names exist, as a plan does."""
    from slicewise.data.sources import list_skipped_files

    try:
        input_paths = [step_input.root for step in pipeline() for step_input in step.inputs(config).values()]
        for step in pipeline():
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
        for problem in list_skipped_files(source_layout(source), expand_user(source.path))
    ]
    if not unread_files:
        return Check("inputs", "good", named)
    listed = "; ".join(map(str, unread_files[:_MAX_LISTED]))
    more = f"; and {len(unread_files) - _MAX_LISTED} more" if len(unread_files) > _MAX_LISTED else ""
    return Check("inputs", "good", f"{named}; not read of their files ({len(unread_files)}): {listed}{more}")


def data(workspace: Workspace, config: Config) -> Check:
    """Check names and headers of the sources on the disk, as download does; voxels are not read."""
    counts: list[str] = []
    num_excluded = 0
    for source in used_sources(config):
        root = source_root(source, workspace)
        # A folder that the configuration names must hold files.
        if source.kind == "phantom" or not root.is_dir() or not (source.path or any(root.iterdir())):
            continue
        try:
            num_usable, num_faults = _count_cases(source, root)
        except SliceWiseError as error:
            first, _, rest = str(error).partition("\n")
            return Check("data", "bad", first, rest.strip() or "see docs/data.md for what is read")
        num_excluded += num_faults
        counts.append(f"{source.name}: {num_usable} cases can be used, {num_faults} files or folders cannot")
    if num_excluded:
        advice = "slicewise run --until download lists them in data/index/problems.txt"
        return Check("data", "warn", "; ".join(counts), advice)
    return Check("data", "good", "; ".join(counts) or "no data set on the disk yet")


def credentials(workspace: Workspace, config: Config) -> Check:
    """Check for Kaggle credentials if data must be downloaded; nothing of them is shown."""
    volumes, pictures = config.data.volumes, config.data.pictures
    absent = [
        source.name
        for source in (volumes, pictures)
        if source.kind != "none"
        and source.kaggle
        and not source.path
        and not (workspace.root / "data" / "raw" / source.name).exists()
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


def _count_cases(source: VolumeSource | PictureSource, root: Path) -> tuple[int, int]:
    """Return how many cases can be used and how many files or folders cannot.

    Raises:
        DataError: there is no usable case.
    """
    from slicewise.data.check import check_cases, require_usable
    from slicewise.data.problems import summarise_problems
    from slicewise.data.sources import class_folders, list_read_files
    from slicewise.steps.download import discover_source

    if isinstance(source, PictureSource):
        labelled, problems = class_folders.label_pictures(root, list_read_files("pictures", root))
        if not labelled:
            raise DataError(f"{source.name}: no picture with a label in {root}{summarise_problems(problems)}")
        return len(labelled), 0
    cases, discovery_problems = discover_source(source, root)
    usable, faults = check_cases(cases)
    problems = [*discovery_problems, *faults]
    require_usable(source.name, root, len(cases), usable, problems)
    return len(usable), sum(problem.severity == "error" for problem in problems)
