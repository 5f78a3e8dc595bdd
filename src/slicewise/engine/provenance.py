"""What a run was made with: package versions and git commit."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
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


def package_versions() -> dict[str, str]:
    """Return the installed versions of Python and of the packages that decide a result."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def git_commit(module: Path) -> str | None:
    """Return the commit of the source, with `-dirty` where files differ from it; None outside a checkout.

    `module` is a file of the source. A copy installed in another project's checkout (in its `.venv`) is not
    tracked there and has no commit.
    """
    try:
        _git(module.parent, "ls-files", "--error-unmatch", module.name)
        return _git(module.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return result.stdout.strip()
