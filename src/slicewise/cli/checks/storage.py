"""The workspace: write access, disk space and lock."""

import secrets
import shutil

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config
from slicewise.core.disk import MIB, existing_parent
from slicewise.engine.lock import lock_holder
from slicewise.engine.workspace import Workspace

_SLICES = 160
_BYTES_PER_PIXEL = 9
"""Four float16 modalities and a uint8 mask."""
_RAW_MIB = {"phantom": 14, "brats": 40, "lgg": 14}
"""Raw data of one patient; of downloads, the archive and its contents together."""
_NUM_PATIENTS = {"brats": 369, "lgg": 110}
"""Patients in the data sets of configs/data."""
_OUTPUTS_MIB = {"quick": 600, "baseline": 900, "production": 1600}
"""Three stages with their checkpoints, states and figures."""


def writable(workspace: Workspace) -> Check:
    """Write, rename and delete a file in the workspace, or in the nearest folder above it that exists."""
    folder = existing_parent(workspace.root)
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
    """Compare the free disk space with what mode and data need beyond the files that exist."""
    free = shutil.disk_usage(existing_parent(workspace.root)).free if free is None else free
    files = (path for name in ("data", "checkpoints") for path in (workspace.root / name).rglob("*"))
    present = sum(path.stat().st_size for path in files if path.is_file())
    needed = max(0, needed_bytes(config) - present)
    found = f"{free / MIB:,.0f} MiB free, about {needed / MIB:,.0f} more needed for {config.training_mode}"
    advice = "free some space, choose another --workspace or a smaller --training-mode"
    if free < needed:
        return Check("disk", "bad", found, advice)
    return Check("disk", "warn", found, advice) if free < 1.5 * needed else Check("disk", "good", found)


def needed_bytes(config: Config) -> int:
    """Return an estimate of the size of raw data, slices and outputs."""
    needed, scale = _OUTPUTS_MIB[config.training_mode] * MIB, config.scale
    for source in config.data.sources.values():
        generated = getattr(source, "phantom_patients", 0)
        num_patients = generated or _NUM_PATIENTS.get(source.kind, 0)
        num_used = min(num_patients, max(scale.min_patients, round(scale.fraction * num_patients)))
        on_disk = 0 if source.path else num_used if generated else num_patients
        needed += num_used * _SLICES * _BYTES_PER_PIXEL * config.preprocessing.image_size**2
        needed += on_disk * _RAW_MIB.get(source.kind, 0) * MIB
    return needed


def lock(workspace: Workspace) -> Check:
    """Check that no other command works in the workspace."""
    holder = lock_holder(workspace.state / "lock")
    if holder is not None:
        return Check(
            "lock", "warn", f"in use by {holder}", "wait with --wait, or watch: slicewise status --watch"
        )
    return Check("lock", "good", "free")
