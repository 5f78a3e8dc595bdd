"""Uploads: told apart by their content, kept in a private folder under names of our own, and then deleted."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal

from starlette.datastructures import UploadFile

from slicewise.core.disk import describe_disk_error, describe_free_space, is_disk_full
from slicewise.core.errors import DataError, ServingError
from slicewise.domain.labels import Modality
from slicewise.imaging.io.file_format import HEAD_BYTES, explain_unread, is_picture

Kind = Literal["picture", "volume"]
_NIFTI1_MAGIC: Final = b"n+1\0"
_NIFTI2_MAGIC: Final = b"n+2\0"
_GZIP_MAGIC: Final = b"\x1f\x8b"
UNNAMED: Final = "unnamed"
"""Key of an upload whose modality was not said."""
SUPPORTED: Final = (
    "send a PNG, JPEG or TIFF picture (or another of the usual formats), or a NIfTI volume (.nii, .nii.gz)"
)


class RequestError(ServingError):
    """A request that cannot be served; `status` is the HTTP status code (RFC 9110)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """A received file: its name for messages, never for paths, and its content."""

    name: str
    content: BinaryIO


@dataclass(frozen=True)
class StoredUpload:
    """An upload on disk under a name of ours."""

    name: str
    path: Path
    kind: Kind


@contextmanager
def map_storage_errors() -> Iterator[None]:
    """Name the temporary folder where it is full, closed or gone.

    Raises:
        RequestError: 507 where there is no room for the upload, 503 where the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, _temporary_folder()) from error


def storage_error(error: OSError, folder: str) -> RequestError:
    """Return the response to an upload that could not be written to `folder`, or read from it."""
    way_out = "or start the demo with TMPDIR set to another folder"
    if is_disk_full(error):
        space = describe_free_space(Path(folder))
        return RequestError(
            507,
            f"{folder}, where uploads are stored, has no room: {describe_disk_error(error)} ({space}); free "
            f"some space there, {way_out}",
        )
    return RequestError(
        503,
        f"{folder}, where uploads are stored, cannot be used: {describe_disk_error(error)}; make it a "
        f"folder that can be written, {way_out}",
    )


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "the temporary folder")


@contextmanager
def store_uploads(uploads: Mapping[str, Upload]) -> Iterator[dict[str, StoredUpload]]:
    """Store the uploads in a private folder while the block runs. Keys become file names.

    Raises:
        RequestError: 400 for an empty file, 415 for one of another kind, 507 or 503 where the folder is full
            or gone; and 422 in place of any DataError of the block, worded with the client's names.
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
                folder.stat()  # a folder that has gone is no fault of the files
            raise RequestError(422, restore_client_names(str(error), files)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def collect_uploads(
    file: UploadFile | None, modality: Modality | None, slots: Mapping[Modality, UploadFile | None]
) -> dict[str, Upload]:
    """Return the uploads of a request by modality, or as `picture` where none is named.

    Raises:
        RequestError: 400 when nothing was sent, or the same modality twice.
    """
    received: dict[str, UploadFile] = {name: upload for name, upload in slots.items() if upload is not None}
    if file is not None:
        name = modality or UNNAMED
        if name in received or (received and modality is None):
            raise RequestError(
                400,
                "`file` repeats or does not name its modality; send each file as the "
                "form field of its modality: t1, t1ce, t2, flair",
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
    """Return the suffix that the first bytes call for (NIfTI-1 has its magic at byte 344, NIfTI-2 at 4)."""
    if head[344:348] == _NIFTI1_MAGIC or head[4:8] == _NIFTI2_MAGIC:
        return ".nii"
    if head.startswith(_GZIP_MAGIC):
        return ".nii.gz"
    return ".picture" if is_picture(head) else None


def restore_client_names(
    message: str, files: Mapping[Modality, StoredUpload] | Mapping[str, StoredUpload]
) -> str:
    """Return a message about stored files in the names that the client gave them."""
    names = {str(file.path): file.name for file in files.values()}
    names |= {file.path.name: file.name for file in files.values()}
    # In one pass: a client's name may hold one of ours.
    return re.sub("|".join(map(re.escape, names)), lambda match: names[match[0]], message)
