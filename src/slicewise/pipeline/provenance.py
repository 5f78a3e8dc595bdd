"""What a run was made with: versions, git commit, machine."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "slicewise",
    "torch",
    "lightning-fabric",
    "segmentation-models-pytorch",
    "monai",
    "grad-cam",
    "numpy",
    "nibabel",
    "hydra-core",
    "pydantic",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result, as installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """Return the commit of the source, with `-dirty` where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
