"""The installed packages: their versions, and whether one offers something to SliceWise.

`importlib.metadata` takes 50 ms to be imported and to read every package; it is used for what this finds.
"""

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

_METADATA: Final = {".dist-info": "METADATA", ".egg-info": "PKG-INFO"}
_EXTRAS: Final = {
    "runtime": ("onnxruntime",),
    "export": ("onnx", "onnxscript", "openvino"),
    "remote": ("fsspec", "s3fs"),
    "tune": ("optuna",),
    "serving": (
        *("altair", "anyio", "fastapi", "httpx", "prometheus_client"),
        *("python_multipart", "starlette", "streamlit", "uvicorn"),
    ),
}
"""The modules that an extra brings; any other one is brought by `pipeline`"""
_VERSION: Final = re.compile(rb"^Version:\s*(\S+)", re.MULTILINE)


def distributions() -> tuple[Path, ...]:
    """Return the metadata folder of every package on `sys.path`, in the order in which Python looks.

    Copies that a package has for itself are no installed packages: Ray puts a folder of its own with psutil
    and colorama on `sys.path`, so that what is installed would depend on what was imported.
    """
    return _distributions(tuple(sys.path))


@cache
def _distributions(path: tuple[str, ...]) -> tuple[Path, ...]:
    found: list[Path] = []
    for folder in map(Path, path):
        if (folder.parent / "__init__.py").is_file():
            continue
        with suppress(OSError):  # missing, or an archive
            found += sorted(each for each in folder.iterdir() if each.suffix in _METADATA)
    return tuple(found)


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the version of each of these packages that is installed."""
    folders = {_plain_name(folder): folder for folder in reversed(distributions())}
    return {name: version for name in names if (version := _version(name, folders.get(_plain_name(name))))}


def _plain_name(package: str | Path) -> str:
    """Return the name of a package as metadata folders spell it, without case."""
    name = package.stem.partition("-")[0] if isinstance(package, Path) else package
    return re.sub(r"[-_.]+", "_", name).lower()


def _version(name: str, folder: Path | None) -> str | None:
    if folder is not None:
        with suppress(OSError):
            if stated := _VERSION.search((folder / _METADATA[folder.suffix]).read_bytes()):
                return stated[1].decode()
    from importlib import metadata  # finds packages in archives too

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def offer_any(prefix: str) -> bool:
    """Whether a package may have entry points of a group that begins with `prefix`."""
    return _offer_any(prefix, tuple(sys.path))


@cache
def _offer_any(prefix: str, path: tuple[str, ...]) -> bool:
    if any(Path(folder).is_file() or folder.endswith(".egg") for folder in path):
        return True  # an archive, which is not searched here
    for folder in _distributions(path):
        with suppress(OSError):
            if f"[{prefix}".encode() in (folder / "entry_points.txt").read_bytes():
                return True
    return False


def explain_missing(error: ModuleNotFoundError) -> str | None:
    """Return which extra brings a package that is not installed; None where it is a module of SliceWise."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "slicewise"):
        return None
    extra = next((name for name, packages in _EXTRAS.items() if package in packages), "pipeline")
    return f"the package {package} is not installed, which this needs: pip install 'slicewise[{extra}]'"
