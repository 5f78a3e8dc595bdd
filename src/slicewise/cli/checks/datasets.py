"""The data that lie on the disk already: can any case of each source be used."""

from pathlib import Path

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config, PictureSource, VolumeSource
from slicewise.core.errors import DataError, SliceWiseError
from slicewise.engine.workspace import Workspace

_NAME = "data"


def data(workspace: Workspace, config: Config) -> Check:
    """Look at the names and headers of the sources that are on the disk, as download does; read no voxels."""
    from slicewise.workflow.sources import source_root, used_sources

    sources = [(source, source_root(source, workspace)) for source in used_sources(config)]
    present = [(source, root) for source, root in sources if _is_present(source, root)]
    counts: list[str] = []
    num_left_out = 0
    for source, root in present:
        try:
            num_usable, num_faults = _count_cases(source, root)
        except SliceWiseError as error:
            first, _, rest = str(error).partition("\n")
            return Check(_NAME, "bad", first, rest.strip() or "see docs/data.md for what is read")
        num_left_out += num_faults
        counts.append(f"{source.name}: {num_usable} cases can be used, {num_faults} files or folders cannot")
    if num_left_out:
        advice = "slicewise run --until download lists them in data/index/problems.txt"
        return Check(_NAME, "warn", "; ".join(counts), advice)
    return Check(_NAME, "good", "; ".join(counts) or "none on the disk yet")


def _is_present(source: VolumeSource | PictureSource, root: Path) -> bool:
    """Whether a source has files; a folder that the configuration names must have some."""
    return source.kind != "phantom" and root.is_dir() and bool(source.path or any(root.iterdir()))


def _count_cases(source: VolumeSource | PictureSource, root: Path) -> tuple[int, int]:
    """Return how many cases can be used and how many files or folders cannot.

    Raises:
        DataError: none can.
    """
    from slicewise.data.check import check_cases, require_usable
    from slicewise.data.problems import summarise_problems
    from slicewise.data.sources import class_folders, list_read_files
    from slicewise.workflow.sources import discover_source

    if isinstance(source, PictureSource):
        labelled, problems = class_folders.label_pictures(root, list_read_files("pictures", root))
        if not labelled:
            raise DataError(f"{source.name}: no picture with a label in {root}{summarise_problems(problems)}")
        return len(labelled), 0
    found, discovery_problems = discover_source(source, root)
    usable, faults = check_cases(found)
    problems = [*discovery_problems, *faults]
    require_usable(source.name, root, len(found), usable, problems)
    return len(usable), sum(problem.severity == "error" for problem in problems)
