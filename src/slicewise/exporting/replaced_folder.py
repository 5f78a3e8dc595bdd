"""A folder that is written beside its place, then renamed, or removed."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slicewise.core.errors import UsageError


@contextmanager
def replaced(folder: Path, is_ours: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """Yield a folder that takes the place of `folder`; after an error nothing of it is left.

    Raises:
        UsageError: the folder is there, and is not `what`.
    """
    if folder.exists() and not is_ours(folder) and (folder.is_file() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else than {what}; name another --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".unfinished"))
    try:
        yield partial
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
