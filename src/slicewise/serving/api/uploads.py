"""Uploads: the form is checked; files are identified by content, stored in a private folder, read, deleted.

The readers are those of training and of `predict`.
"""

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from fastapi import Request, Response, UploadFile
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, create_model
from starlette.datastructures import FormData
from starlette.datastructures import UploadFile as ReceivedFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles, require_readable
from slicewise.data.filenames import ParsedName, is_mask_name, parse_filename, parse_patient
from slicewise.data.sources import lgg
from slicewise.domain.keys import CaseKey
from slicewise.imaging.io.file_format import HEAD_BYTES, explain_unread, is_picture
from slicewise.imaging.volume import Volume
from slicewise.inference.operating_points import InputKind
from slicewise.serving.api.errors import RequestError, map_storage_errors

UNNAMED: Final = "unnamed"
"""Key of an upload without a modality."""
SUPPORTED: Final = (
    "send a PNG, JPEG or TIFF picture (or another of the usual formats), or a NIfTI volume (.nii, .nii.gz)"
)
_NOTES: Final = {"t1": ", before contrast agent", "t1ce": ", after contrast agent"}
_KEY: Final = CaseKey("upload", "upload", "upload")


def make_upload_form(channels: Sequence[str]) -> type[BaseModel]:
    """Return the form of an upload to a model with these channels."""
    volumes = {name: Field(None, description=f"NIfTI volume{_NOTES.get(name, '')}") for name in channels}
    fields: dict[str, Any] = {
        "file": (UploadFile | None, Field(None, description="a picture, or a NIfTI volume of one modality")),
        "modality": (
            Literal[tuple(channels)] | None,
            Field(None, description="of `file`; needed for a volume whose name does not contain it"),
        ),
        **{name: (UploadFile | None, field) for name, field in volumes.items()},
    }
    return create_model("UploadForm", **fields)


class StrictRoute(APIRoute):
    """A route that refuses form fields and query parameters that are unknown or sent twice.

    FastAPI ignores unknown fields, takes one of two fields of the same name, and reports a full temporary
    folder as a body that cannot be parsed. So the form is checked before FastAPI reads it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        parameters = [parameter.alias for parameter in self.dependant.query_params]
        forms: list[Any] = [parameter.field_info.annotation for parameter in self.dependant.body_params]
        fields = [name for form in forms for name in form.model_fields]

        async def handle_strictly(request: Request) -> Response:
            _require_known("query parameter", parameters, request.query_params.multi_items())
            form = await _read_form(request)
            try:
                _require_known("form field", fields, form.multi_items())
                return await handle(request)
            finally:
                await form.close()

        return handle_strictly


async def _read_form(request: Request) -> FormData:
    """Read the whole form; files over 1 MiB go to the temporary folder as they arrive.

    Raises:
        RequestError: 507 or 503 if that folder is full or gone.
        HTTPException: 400, the body is not a form, or the client disconnected.
    """
    try:
        with map_storage_errors():
            return await request.form()
    except (RequestError, HTTPException):
        raise
    except ClientDisconnect as error:
        raise HTTPException(400, "the client disconnected before the end of its upload") from error
    except Exception as error:
        message = "the body cannot be parsed; send it as multipart/form-data (`curl -F FIELD=@FILE`)"
        raise HTTPException(400, message) from error


def _require_known(kind: str, known: Collection[str], sent: Iterable[tuple[str, Any]]) -> None:
    """Refuse unknown and repeated fields: a modality or a setting that is ignored changes the prediction.

    Raises:
        RequestError: 400; it names the fields.
    """
    counts = Counter(name for name, _ in sent)
    if unknown := [display_name(name) for name in counts if name not in known]:
        hint = f"the {kind.split()[-1]}s are {', '.join(known)}" if known else "this address takes none"
        raise RequestError(400, f"there is no {kind} {', '.join(dict.fromkeys(unknown))}; {hint}")
    if repeated := ", ".join(name for name, count in counts.items() if count > 1):
        message = f"the {kind} {repeated} was sent more than once; send one case in a request"
        raise RequestError(400, message)


def collect_uploads(
    file: ReceivedFile | None, modality: str | None, **slots: ReceivedFile | None
) -> dict[str, ReceivedFile]:
    """Return the uploads of a request by modality, or under UNNAMED without one.

    Raises:
        RequestError: 400 if nothing was sent, or the same modality twice.
    """
    received = {name: upload for name, upload in slots.items() if upload is not None}
    if file is not None:
        name = modality or UNNAMED
        if name in received or (received and modality is None):
            raise RequestError(
                400,
                "the modality of `file` is missing or sent twice; send each file under the form field of its "
                f"modality: {', '.join(slots)}",
            )
        received[name] = file
    if not received:
        raise RequestError(400, f"the request holds no file; {SUPPORTED} as the form field `file`")
    return received


@dataclass(frozen=True)
class StoredUpload:
    """An upload on disk under a generated name; that of the client is for messages and never for paths."""

    name: str
    path: Path
    kind: Literal["picture", "volume"]

    @property
    def parsed(self) -> ParsedName:
        return parse_filename(Path(self.name))


@dataclass(frozen=True)
class RequestInput:
    """The input of one request.

    Attributes:
        volume: a picture, or a slice of kaggle_3m, has a single slice and no orientation.
        kind: selects the operating point: a slice of kaggle_3m is part of a volume.
        notes: warnings about the files.
    """

    volume: Volume
    kind: InputKind
    notes: tuple[str, ...] = ()


@contextmanager
def store_uploads(uploads: Mapping[str, ReceivedFile]) -> Iterator[dict[str, StoredUpload]]:
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
            raise RequestError(422, _restore_client_names(str(error), files.values())) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _store(folder: Path, stem: str, upload: ReceivedFile) -> StoredUpload:
    """Store one upload; NIfTI-1 has its magic bytes at 344 and NIfTI-2 at 4."""
    name = display_name(upload.filename)
    head = upload.file.read(HEAD_BYTES)
    upload.file.seek(0)
    if not head:
        raise RequestError(400, f"{name} is empty; {SUPPORTED}")
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        suffix = ".nii"
    elif head.startswith(b"\x1f\x8b"):
        suffix = ".nii.gz"
    elif is_picture(head):
        suffix = ".picture"
    else:
        raise RequestError(415, f"{name} is {explain_unread(head)}; {SUPPORTED}")
    path = folder / f"{stem}{suffix}"
    with path.open("wb") as target:
        shutil.copyfileobj(upload.file, target, 1 << 20)
    return StoredUpload(name, path, "picture" if suffix == ".picture" else "volume")


def display_name(name: str | None) -> str:
    """Return the last part of a client's file name, short and printable."""
    base = PurePosixPath((name or "").replace("\\", "/")).name
    return "".join(character for character in base if character.isprintable())[:80] or "the upload"


def _restore_client_names(message: str, files: Collection[StoredUpload]) -> str:
    """Return a message about stored files with the client's names for them."""
    names = {str(file.path): file.name for file in files} | {file.path.name: file.name for file in files}
    # In one pass: a client's name may contain a generated one.
    return re.sub("|".join(map(re.escape, names)), lambda match: names[match[0]], message)


def read_uploads(files: Mapping[str, StoredUpload], slot: str, channels: Sequence[str]) -> RequestInput:
    """Read the files of one request, by modality or one under UNNAMED, for a model with these channels.

    A picture without a modality fills the channel `slot`.

    Raises:
        RequestError: 400 if pictures and volumes are mixed, or the modality of a volume is unknown.
        DataError: a file is damaged, or the volumes do not match.
    """
    kinds = {file.kind for file in files.values()}
    if kinds == {"picture"} and len(files) == 1:
        ((name, file),) = files.items()
        return _read_picture(None if name == UNNAMED else name, file, slot)
    if kinds != {"volume"}:
        raise RequestError(400, "send one picture, or the NIfTI volumes of one examination, not both")
    by_modality = {_modality(name, file, channels): file for name, file in files.items()}
    volumes = {modality: by_modality[modality] for modality in channels if modality in by_modality}
    names = {modality: file.parsed for modality, file in volumes.items()}
    conflicts = tuple(
        f"{volumes[modality].name}: sent as {modality}, though its name says {name.kind}"
        for modality, name in names.items()
        if name.kind not in (None, modality) and name.sure
    )
    case = _case("brats", volumes)
    problems = require_readable(case)
    volume = case.read()
    warnings = (_restore_client_names(str(text), volumes.values()) for text in (*problems, *volume.remarks))
    return RequestInput(volume, "volume", (*_find_several_patients(names.values()), *conflicts, *warnings))


def _find_several_patients(names: Collection[ParsedName]) -> tuple[str, ...]:
    """Return a warning if the names of the files belong to different patients."""
    patients = {
        parse_patient(name.case) for name in names if name.kind is not None and name.sure and name.case
    }
    if len({patient.lower() for patient in patients}) < 2:
        return ()
    return (
        f"the file names belong to different patients ({', '.join(sorted(patients))}); send the volumes of "
        "one examination, or rename the files if they are of one",
    )


def _modality(field: str, file: StoredUpload, channels: Sequence[str]) -> str:
    """Return the modality of a volume by its form field, or else by its name.

    Raises:
        RequestError: 400 if neither names it.
    """
    name = file.parsed
    if field in channels:
        return field
    if name.sure and name.kind is not None and name.kind in channels:
        return name.kind
    candidates = f" (its name may say {' or '.join(name.candidates)})" if name.candidates else ""
    what = "is a mask by its name" if name.kind == "mask" else f"is a volume{candidates}"
    message = f"{file.name} {what}: set the form field `modality` to one of {', '.join(channels)}"
    raise RequestError(400, message)


def _read_picture(given: str | None, file: StoredUpload, slot: str) -> RequestInput:
    """Read a picture; one that is named like a slice of kaggle_3m holds three modalities as colours."""
    if given is None and lgg.is_slice_name(file.name):
        return RequestInput(_case("lgg", dict.fromkeys(lgg.CHANNELS, file)).read(), "volume")
    if given is None and is_mask_name(Path(file.name).stem):
        raise RequestError(
            400,
            f"{file.name} is a mask, or a picture made from one, by its name: send the image, or set the "
            "form field `modality`",
        )
    picture = _case("class_folders", {given or slot: file}).read()
    return RequestInput(picture, "picture", picture.remarks)


def _case(kind: str, files: Mapping[Any, StoredUpload]) -> CaseFiles:
    paths = tuple(dict.fromkeys(file.path for file in files.values()))
    return CaseFiles(_KEY, kind, tuple(files), paths, (), None, _KEY.patient)
