"""Uploaded files: identified by content, stored in a private folder under other names, deleted."""

import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from starlette.datastructures import UploadFile as ReceivedFile

from slicewise.core.errors import DataError
from slicewise.data.filenames import ParsedName, parse_filename
from slicewise.domain.keys import CaseKey
from slicewise.imaging.io.file_format import HEAD_BYTES, explain_unread, is_picture
from slicewise.serving.api.problems import RequestError, map_storage_errors

UNNAMED: Final = "unnamed"
"""Key of an upload without a modality."""
SUPPORTED: Final = (
    "send a PNG, JPEG or TIFF picture (or another of the usual formats), or a NIfTI volume (.nii, .nii.gz)"
)
FileKind = Literal["picture", "volume", "archive"]


@dataclass(frozen=True)
class StoredUpload:
    """An upload on disk under a random name; that of the client is for messages and never for paths."""

    name: str
    path: Path
    kind: FileKind

    @property
    def key(self) -> CaseKey:
        """The case of this file alone."""
        stem = self.path.name.partition(".")[0]
        return CaseKey("upload", stem, stem)

    @property
    def parsed(self) -> ParsedName:
        return parse_filename(Path(self.name))


@contextmanager
def store_uploads(
    uploads: Mapping[str, ReceivedFile], *, archives: bool = False
) -> Iterator[dict[str, StoredUpload]]:
    """Store the uploads in a private folder while the block runs.

    Raises:
        RequestError: 400 for an empty file, 415 for another format (and a ZIP without `archives`), 507 or 503
            if the folder is full or gone; and 422 for any DataError of the block, with the client's names.
    """
    with map_storage_errors():
        folder = Path(tempfile.mkdtemp(prefix="slicewise-upload-"))
    try:
        with map_storage_errors():
            files = {key: _store(folder, upload, archives) for key, upload in uploads.items()}
        with translate_names(files):
            yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def translate_names(files: Mapping[str, StoredUpload]) -> Iterator[None]:
    """Convert a DataError of the block to a RequestError (422) with the client's names."""
    try:
        yield
    except DataError as error:
        with map_storage_errors():
            for file in files.values():
                file.path.parent.stat()  # if the folder is gone, the files are not at fault
        raise RequestError(422, client_names(str(error), files.values())) from error


def _store(folder: Path, upload: ReceivedFile, archives: bool) -> StoredUpload:
    """Store one upload; its name cannot be guessed, so that no file name of a client contains it."""
    name = display_name(upload.filename)
    head = upload.file.read(HEAD_BYTES)
    upload.file.seek(0)
    if not head:
        raise RequestError(400, f"{name} is empty; {SUPPORTED}")
    found = _identify(head)
    if found is None or (found[0] == "archive" and not archives):
        raise RequestError(415, f"{name} is {explain_unread(head)}; {SUPPORTED}")
    kind, suffix = found
    path = folder / f"{secrets.token_hex(12)}{suffix}"
    with path.open("wb") as target:
        shutil.copyfileobj(upload.file, target, 1 << 20)
    return StoredUpload(name, path, kind)


def _identify(head: bytes) -> tuple[FileKind, str] | None:
    """Return the kind and the suffix of a file; NIfTI-1 has its magic bytes at 344 and NIfTI-2 at 4."""
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        return "volume", ".nii"
    if head.startswith(b"\x1f\x8b"):
        return "volume", ".nii.gz"
    if head.startswith(b"PK\x03\x04"):
        return "archive", ".zip"
    return ("picture", ".picture") if is_picture(head) else None


def display_name(name: str | None) -> str:
    """Return the last part of a client's file name, short and printable."""
    base = PurePosixPath((name or "").replace("\\", "/")).name
    return "".join(character for character in base if character.isprintable())[:80] or "the upload"


def client_names(message: str, files: Iterable[StoredUpload]) -> str:
    """Return a message about stored files with the client's names for them."""
    names = {
        stored: file.name for file in files for stored in (str(file.path), file.path.name, str(file.key))
    }
    return re.sub("|".join(map(re.escape, names)), lambda match: names[match[0]], message)
