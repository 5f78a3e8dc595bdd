"""Uploads: identified by content, stored in a private folder under generated names, and then deleted."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal

from starlette.datastructures import UploadFile

from slicewise.core.errors import DataError
from slicewise.domain.labels import Modality
from slicewise.imaging.io.file_format import HEAD_BYTES, explain_unread, is_picture
from slicewise.serving.api.errors import RequestError, map_storage_errors

Kind = Literal["picture", "volume"]
UNNAMED: Final = "unnamed"
"""Key of an upload without a modality."""
SUPPORTED: Final = (
    "send a PNG, JPEG or TIFF picture (or another of the usual formats), or a NIfTI volume (.nii, .nii.gz)"
)


@dataclass(frozen=True)
class Upload:
    """A received file: its name, for messages and never for paths, and its content."""

    name: str
    content: BinaryIO


@dataclass(frozen=True)
class StoredUpload:
    """An upload on disk under a generated name."""

    name: str
    path: Path
    kind: Kind


@contextmanager
def store_uploads(uploads: Mapping[str, Upload]) -> Iterator[dict[str, StoredUpload]]:
    """Store the uploads in a private folder while the block runs. The keys become file names.

    Raises:
        RequestError: 400 for an empty file, 415 for another format, 507 or 503 if the folder is full or
            gone; and 422 for any DataError of the block, with the client's file names.
    """
    with map_storage_errors():
        folder = Path(tempfile.mkdtemp(prefix="slicewise-upload-"))
    try:
        with map_storage_errors():
            files = {stem: _store(folder, stem, upload) for stem, upload in uploads.items()}
        try:
            yield files
        except DataError as error:
            with map_storage_errors():
                folder.stat()  # if the folder is gone, the files are not at fault
            raise RequestError(422, restore_client_names(str(error), files)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def collect_uploads(
    file: UploadFile | None, modality: Modality | None, slots: Mapping[Modality, UploadFile | None]
) -> dict[str, Upload]:
    """Return the uploads of a request by modality, or under UNNAMED without one.

    Raises:
        RequestError: 400 if nothing was sent, or the same modality twice.
    """
    received: dict[str, UploadFile] = {name: upload for name, upload in slots.items() if upload is not None}
    if file is not None:
        name = modality or UNNAMED
        if name in received or (received and modality is None):
            raise RequestError(
                400,
                "the modality of `file` is missing or sent twice; send each file under the form field of its "
                "modality: t1, t1ce, t2, flair",
            )
        received[name] = file
    if not received:
        raise RequestError(400, f"the request holds no file; {SUPPORTED} as the form field `file`")
    return {name: Upload(display_name(upload.filename), upload.file) for name, upload in received.items()}


def display_name(name: str | None) -> str:
    """Return the last part of a client's file name, short and printable."""
    base = PurePosixPath((name or "").replace("\\", "/")).name
    return "".join(character for character in base if character.isprintable())[:80] or "the upload"


def _store(folder: Path, stem: str, upload: Upload) -> StoredUpload:
    head = upload.content.read(HEAD_BYTES)
    upload.content.seek(0)
    if not head:
        raise RequestError(400, f"{upload.name} is empty; {SUPPORTED}")
    suffix = _detect_suffix(head)
    if suffix is None:
        raise RequestError(415, f"{upload.name} is {explain_unread(head)}; {SUPPORTED}")
    path = folder / f"{stem}{suffix}"
    with path.open("wb") as target:
        shutil.copyfileobj(upload.content, target, 1 << 20)
    return StoredUpload(upload.name, path, "volume" if suffix.startswith(".nii") else "picture")


def _detect_suffix(head: bytes) -> str | None:
    """Return the suffix for the magic bytes, which NIfTI-1 has at byte 344 and NIfTI-2 at 4."""
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        return ".nii"
    if head.startswith(b"\x1f\x8b"):
        return ".nii.gz"
    return ".picture" if is_picture(head) else None


def restore_client_names(
    message: str, files: Mapping[Modality, StoredUpload] | Mapping[str, StoredUpload]
) -> str:
    """Return a message about stored files with the client's names for them."""
    names = {str(file.path): file.name for file in files.values()}
    names |= {file.path.name: file.name for file in files.values()}
    # In one pass: a client's name may contain a generated one.
    return re.sub("|".join(map(re.escape, names)), lambda match: names[match[0]], message)
