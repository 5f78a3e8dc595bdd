"""A folder that is written beside its place, then renamed, or removed."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slicewise.core.disk import explain_disk_error
from slicewise.core.errors import SliceWiseError, UsageError


@contextmanager
def replaced(folder: Path, is_ours: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """Yield a folder that takes the place of `folder`; after an error nothing of it is left.

    Raises:
        UsageError: the folder is there, and is not `what`.
        WorkspaceError: its disk is full or closed.
    """
    if folder.exists() and not is_ours(folder) and (folder.is_file() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else than {what}; name another --output")
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".unfinished"))
        yield partial
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except SliceWiseError:
        raise
    except Exception as error:
        explained = explain_disk_error(error, folder, option="--output")
        if explained is None:
            raise
        raise explained from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
