"""The copy of the program that the jobs of a plan run: an edit of the checkout changes nothing for them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slicewise.config.folders import config_folders
from slicewise.core.errors import WorkspaceError
from slicewise.core.hashing import digest, hash_file

PACKAGE: Final = Path(__file__).resolve().parents[1]
"""The folder of the running program"""


def seal_source(folder: Path) -> str:
    """Copy the running program and its configuration files below `folder`, once; return the copy's name.

    The copy holds `src/slicewise` and `configs`, and compiled files too: otherwise each job would compile.
    """
    name = source_digest()[:16]
    if not (folder / name).is_dir():
        partial = folder / f".{name}.{os.urandom(4).hex()}"
        shutil.copytree(PACKAGE, partial / "src" / PACKAGE.name)
        shutil.copytree(config_folders()[0], partial / "configs", ignore=shutil.ignore_patterns("final"))
        try:
            partial.rename(folder / name)
        except OSError:  # another process was faster
            shutil.rmtree(partial, ignore_errors=True)
            if not (folder / name).is_dir():
                raise
    return name


def source_digest(copy: Path | None = None) -> str:
    """Return a digest of the files of a copy, or of the running program."""
    package, configs = (
        (copy / "src" / PACKAGE.name, copy / "configs") if copy else (PACKAGE, config_folders()[0])
    )
    return digest([[*map(list, _files(package))], [*map(list, _files(configs))]])


def check_source(copy: Path) -> None:
    """Require that this process runs the copy, and that the copy is as it was sealed.

    Raises:
        WorkspaceError: it is not.
    """
    if not PACKAGE.is_relative_to(copy.resolve()):
        raise WorkspaceError(f"this job runs {PACKAGE}, and its plan was sealed with {copy}; submit it again")
    if source_digest(copy)[:16] != copy.name:
        raise WorkspaceError(
            f"{copy} was changed since the plan was sealed; run `slicewise cancel`, then run again"
        )


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and "__pycache__" not in parts and parts[0] != "final":
            yield "/".join(parts), hash_file(path)
