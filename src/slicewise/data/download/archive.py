"""Unpacks a downloaded archive safely: entries cannot write outside its folder or fill the disk."""

import errno
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from slicewise.core.console import progress
from slicewise.core.disk import require_space
from slicewise.core.errors import DownloadError

_ENCRYPTED: Final = 0x1
_BAD_OFFSET_OR_NAME: Final = (errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ)
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""bzip2 and LZMA compress without bounds, and an entry of LZMA sets its own memory need."""
_MAX_INFLATION: Final = 200
_HARMLESS_BYTES: Final = 256 << 20
"""MRI data shrink to a half or a tenth; only small archives may exceed `_MAX_INFLATION`."""
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,  # from zipfile, for an unknown version or method
    ValueError,
    ArithmeticError,
    LookupError,
)
_MARGIN_BYTES: Final = 64 << 20
_COPY_BYTES: Final = 1 << 20


def unpack_zip(archive: Path, folder: Path) -> int:
    """Unpack into a new `folder` and return the number of files; after an error the folder is of no use.

    Raises:
        DownloadError: the archive is damaged, or an entry is a link, encrypted, repeated, or named outside
            the folder.
        WorkspaceError: the disk is too small for the sizes that the archive states.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [entry for entry in source.infolist() if not entry.is_dir()]
            for entry in source.infolist():
                if fault := _fault(entry):
                    raise DownloadError(f"{archive} holds {entry.filename!r}, {fault}")
            total = _total_bytes(archive, source.infolist())
            require_space(folder, total + _MARGIN_BYTES, f"unpacking {archive.name}")
            folder.mkdir(parents=True)
            for entry in progress(entries, desc="Unpacking", total=len(entries), unit="file"):
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with source.open(entry) as stream, target.open("xb") as out:
                    shutil.copyfileobj(stream, out, _COPY_BYTES)
    except (*_DAMAGED, MemoryError) as error:
        raise DownloadError(f"{archive} is damaged ({error})") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DownloadError(f"{archive} holds {error.filename} twice") from error
    except OSError as error:
        if error.errno not in _BAD_OFFSET_OR_NAME:
            raise
        raise DownloadError(f"{archive} is damaged ({error})") from error
    return len(entries)


def _total_bytes(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> int:
    """Return the unpacked size; refuse overlapping entries and an implausible ratio (a zip bomb)."""
    size = archive.stat().st_size
    if sum(entry.compress_size for entry in entries) > size:
        raise DownloadError(f"{archive} holds entries that overlap; it is damaged or a bomb")
    total = sum(entry.file_size for entry in entries)
    if total > max(_MAX_INFLATION * size, _HARMLESS_BYTES):
        raise DownloadError(f"{archive} would unpack {size:,} bytes to {total:,}; it is damaged or a bomb")
    return total


def _fault(entry: zipfile.ZipInfo) -> str | None:
    name = PurePosixPath(entry.filename)
    windows = PureWindowsPath(entry.filename)
    if name.is_absolute() or windows.is_absolute() or windows.drive or "\\" in entry.filename:
        return "which is not a relative name"
    if ".." in name.parts or not name.parts or "\0" in entry.filename:
        return "which leads out of the folder"
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a link or a device"
    if entry.compress_type not in _METHODS:
        return "which is compressed by a method that data sets do not use"
    return "which is encrypted" if entry.flag_bits & _ENCRYPTED else None
