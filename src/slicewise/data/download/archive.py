"""A data set's archive: received over HTTP, continuing an earlier attempt, verified, and unpacked safely.

Until it is complete, `<name>.part` and `<name>.part.json` (the server's description) lie beside the file. A
part is continued only where the description is still the same (ETag or Last-Modified, RFC 9110), so that two
versions of a file are never mixed.
"""

import base64
import errno
import hashlib
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path, PureWindowsPath
from typing import Final

import requests

from slicewise.core.console import progress, progress_bar
from slicewise.core.disk import require_space
from slicewise.core.errors import DownloadError, WorkspaceError
from slicewise.core.files import is_safe_relative, read_json, write_json

TIMEOUT_SECONDS: Final = (10.0, 60.0)
"""To connect, and between two packets."""
_CHUNK: Final = 1 << 16
"""Largest loss when a connection breaks."""
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


class BrokenTransferError(Exception):
    """The file is incomplete or damaged; another attempt may complete it."""


@dataclass(frozen=True)
class RemoteFile:
    """The server's description of a file; `md5` is hexadecimal."""

    size: int | None
    validator: str | None
    md5: str | None

    @classmethod
    def of(cls, response: requests.Response) -> "RemoteFile":
        """Return the description in the headers of a response with the whole file."""
        headers = response.headers
        length = headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and "Content-Encoding" not in headers else None
        etag = headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else None
        # Google Cloud Storage: `crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ==`.
        match = re.search(r"(?:^|[,\s])md5=([A-Za-z0-9+/]{22}==)", headers.get("X-Goog-Hash", ""))
        md5 = base64.b64decode(match[1]).hex() if match else None
        return cls(size, strong or headers.get("Last-Modified"), md5)


def partial_path(path: Path) -> Path:
    """Return the file that collects the bytes of `path` until it is complete."""
    return path.with_name(f"{path.name}.part")


def receive_file(response: requests.Response, path: Path, description: str) -> None:
    """Store a streamed response as `path`, continuing an earlier attempt at the same file.

    Raises:
        BrokenTransferError: the connection broke, or the bytes are not those the server named; try again.
        WorkspaceError: the disk is too small.
        requests.RequestException: the connection broke.
    """
    remote, part = RemoteFile.of(response), partial_path(path)
    note = path.with_name(f"{path.name}.part.json")
    num_received = _resumable_bytes(part, note, remote)
    require_space(path.parent, (remote.size or 0) - num_received, f"downloading {description}")
    write_json(note, asdict(remote))
    if num_received == 0 or num_received != remote.size:
        with (
            _from_byte(response, remote, part, num_received) as (source, start),
            part.open("ab" if start else "wb") as stream,
            progress_bar(desc=description, total=remote.size or 0, unit="B", initial=start) as bar,
        ):
            for chunk in source.iter_content(_CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))
    _verify(part, remote)
    part.replace(path)
    note.unlink(missing_ok=True)


def _resumable_bytes(part: Path, note: Path, remote: RemoteFile) -> int:
    """Return the number of bytes of the same file that are there already; 0 where that is not certain."""
    if remote.validator is None or remote.size is None or not part.is_file():
        return 0
    try:
        same = read_json(note) == asdict(remote)
    except (WorkspaceError, FileNotFoundError):
        return 0
    size = part.stat().st_size
    return size if same and size <= remote.size else 0


@contextmanager
def _from_byte(
    response: requests.Response, remote: RemoteFile, part: Path, num_received: int
) -> Iterator[tuple[requests.Response, int]]:
    """Yield a response and its first byte: `num_received`, or 0 where the server cannot continue.

    Only the address that the request was redirected to is requested again, without our credentials.
    """
    if num_received == 0 or not response.history:
        yield response, 0
        return
    response.close()
    headers = {
        "Range": f"bytes={num_received}-",
        "If-Range": remote.validator or "",
        "Accept-Encoding": "identity",
    }
    with requests.get(response.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as rest:
        if rest.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise BrokenTransferError("the server no longer has the file of the first attempt")
        rest.raise_for_status()
        continues = re.match(rf"bytes {num_received}-", rest.headers.get("Content-Range", "")) is not None
        if rest.status_code == HTTPStatus.PARTIAL_CONTENT and not continues:
            raise BrokenTransferError("the server sent another range than was requested")
        yield rest, num_received if continues else 0


def _verify(part: Path, remote: RemoteFile) -> None:
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        if size > remote.size:
            part.unlink()
        raise BrokenTransferError(f"{size:,} of {remote.size:,} bytes received")
    if remote.md5 is None:
        return
    with part.open("rb") as stream:
        md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != remote.md5:
        part.unlink()
        raise BrokenTransferError("the MD5 of the received file is not the one that the server named")


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
                    shutil.copyfileobj(stream, out, 1 << 20)
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
    windows = PureWindowsPath(entry.filename)
    if windows.is_absolute() or windows.drive or "\\" in entry.filename or entry.filename.startswith("/"):
        return "which is not a relative name"
    if not is_safe_relative(entry.filename):
        return "which leads out of the folder"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a link or a device"
    if entry.compress_type not in _METHODS:
        return "which is compressed by a method that data sets do not use"
    return "which is encrypted" if entry.flag_bits & _ENCRYPTED else None
