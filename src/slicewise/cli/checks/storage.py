"""The workspace: can it be written, is there room, who works in it; and whether the inputs can be had."""

import secrets
import shutil
from pathlib import Path

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config
from slicewise.core.disk import MIB, expand_user
from slicewise.core.errors import DownloadError, SliceWiseError
from slicewise.data.problems import Problem
from slicewise.engine.lock import lock_holder
from slicewise.engine.workspace import Workspace

_SLICES = 160
_BYTES_PER_PIXEL = 9
"""Four float16 modalities and a uint8 mask."""
_SHOWN = 5
"""Files that are not read, by name."""
_RAW_MIB = {"phantom": 14, "brats": 40, "lgg": 14, "none": 0}
"""Raw data of one patient; for what is fetched, the archive and its contents at once."""
_NUM_PATIENTS = {"brats": 369, "lgg": 110}
"""Patients in the data sets of configs/data."""
_OUTPUTS_MIB = {"quick": 600, "baseline": 900, "production": 1600}
"""Three stages with their checkpoints, states and figures."""


def writable(workspace: Workspace) -> Check:
    """Write, rename and delete a file where the outputs go, or would go."""
    folder = _existing_parent(workspace.root)
    name = f".slicewise-doctor-{secrets.token_hex(4)}"
    probe, renamed = folder / name, folder / f"{name}.renamed"
    try:
        probe.write_text("x")
        case = "case-insensitive" if probe.with_name(name.upper()).exists() else "case-sensitive"
        probe.replace(renamed)
    except OSError as error:
        advice = "make it writable, or choose another --workspace"
        return Check("workspace", "bad", f"{folder} cannot be written ({error.strerror})", advice)
    finally:
        probe.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)
    return Check("workspace", "good", f"{folder}, writable, {case}")


def disk(workspace: Workspace, config: Config, free: int | None = None) -> Check:
    """Compare the room on the disk with what the chosen mode and data take beyond what is there."""
    free = shutil.disk_usage(_existing_parent(workspace.root)).free if free is None else free
    needed = max(0, needed_bytes(config) - _present_bytes(workspace))
    found = f"{free / MIB:,.0f} MiB free, about {needed / MIB:,.0f} more needed for {config.training_mode}"
    advice = "free some space, choose another --workspace or a smaller --training-mode"
    if free < needed:
        return Check("disk", "bad", found, advice)
    return Check("disk", "warn", found, advice) if free < 1.5 * needed else Check("disk", "good", found)


def needed_bytes(config: Config) -> int:
    """Return about what raw data, slices and outputs take."""
    volumes, scale = config.data.volumes, config.scale
    num_patients = (
        volumes.phantom_patients if volumes.kind == "phantom" else _NUM_PATIENTS.get(volumes.kind, 0)
    )
    num_used = min(num_patients, max(scale.min_patients, round(scale.fraction * num_patients)))
    on_disk = 0 if volumes.path else num_used if volumes.kind == "phantom" else num_patients
    slices = num_used * _SLICES * _BYTES_PER_PIXEL * config.preprocessing.image_size**2
    return slices + (on_disk * _RAW_MIB[volumes.kind] + _OUTPUTS_MIB[config.training_mode]) * MIB


def _present_bytes(workspace: Workspace) -> int:
    files = (path for name in ("data", "checkpoints") for path in (workspace.root / name).rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file())


def inputs(config: Config) -> Check:
    """Look for the folders and files that the configuration names, as a plan does."""
    from slicewise.steps import pipeline

    try:
        input_paths = [step_input.root for step in pipeline() for step_input in step.inputs(config).values()]
        for step in pipeline():
            step.settings(config)  # those of a first stage hold what training.start_from contains
    except SliceWiseError as error:
        found, _, advice = str(error).rpartition("; ")
        return Check("inputs", "bad", found, advice)
    if config.training.start_from is not None:
        input_paths.append(config.training.start_from)
    found = f"{', '.join(map(str, input_paths))} found" if input_paths else "none named"
    unread_files = _unread_files(config)
    if not unread_files:
        return Check("inputs", "good", found)
    listed = "; ".join(map(str, unread_files[:_SHOWN]))
    more = f"; and {len(unread_files) - _SHOWN} more" if len(unread_files) > _SHOWN else ""
    return Check("inputs", "good", f"{found}; not read of their files ({len(unread_files)}): {listed}{more}")


def _unread_files(config: Config) -> list[Problem]:
    """Return a note for each file of the named data sets that would not be read."""
    from slicewise.data.sources import list_skipped_files
    from slicewise.workflow.sources import source_layout, used_sources

    return [
        problem
        for source in used_sources(config)
        if source.path
        for problem in list_skipped_files(source_layout(source), expand_user(source.path))
    ]


def credentials(workspace: Workspace, config: Config) -> Check:
    """Say whether Kaggle can be asked for the data that are not here; nothing of a credential is shown."""
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
        found = f"no credentials; {' and '.join(absent)} may ask for them"
        return Check("kaggle", "warn", found, HOW_TO_SIGN_IN.splitlines()[0] + " KAGGLE_API_TOKEN")
    return Check("kaggle", "good", "credentials found")


def lock(workspace: Workspace) -> Check:
    """Say who works in the workspace."""
    holder = lock_holder(workspace.state / "lock")
    if holder is not None:
        return Check(
            "lock", "warn", f"in use by {holder}", "wait with --wait, or watch: slicewise status --watch"
        )
    return Check("lock", "good", "free")


def _existing_parent(root: Path) -> Path:
    return next(folder for folder in (root, *root.parents) if folder.exists())
