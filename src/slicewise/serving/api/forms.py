"""Forms of uploads: fields by the channels of the model; unknown, unused and repeated fields are refused."""

from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from fastapi import Form, Request, Response, UploadFile
from fastapi.routing import APIRoute
from pydantic import Field, create_model
from starlette.datastructures import FormData
from starlette.datastructures import UploadFile as ReceivedFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from slicewise.serving.api.problems import RequestError, map_storage_errors
from slicewise.serving.api.uploads import SUPPORTED, UNNAMED, display_name

_NOTES: Final = {"t1": ", before contrast agent", "t1ce": ", after contrast agent"}


def upload_form(channels: Sequence[str]) -> Any:
    """Return the type of the form of one case for a model with these channels, a parameter of a route."""
    return _form("UploadForm", _upload_fields(channels))


def patient_form(channels: Sequence[str]) -> Any:
    """Return the type of the form of one examination likewise."""
    return _form("PatientForm", {**_upload_fields(channels), **_PATIENT_FIELDS})


def _upload_fields(channels: Sequence[str]) -> dict[str, Any]:
    volumes = {name: Field(None, description=f"NIfTI volume{_NOTES.get(name, '')}") for name in channels}
    return {
        "file": (UploadFile | None, Field(None, description="a picture, or a NIfTI volume of one modality")),
        "modality": (
            Literal[tuple(channels)] | None,
            Field(None, description="of `file`; needed for a volume whose name does not contain it"),
        ),
        **{name: (UploadFile | None, field) for name, field in volumes.items()},
    }


_SIZE: Final[Any] = {"gt": 0, "le": 50}
_PATIENT_FIELDS: Final[dict[str, Any]] = {
    "file": (
        UploadFile | None,
        Field(None, description="a NIfTI volume, or a ZIP with the files of one examination"),
    ),
    "files": (
        list[UploadFile] | None,
        Field(None, description="the slices of a stack as pictures, in the order of their names, feet first"),
    ),
    "slice_mm": (float | None, Field(None, description="mm between the slices of a stack", **_SIZE)),
    "pixel_mm": (float | None, Field(None, description="mm between the pixels of a stack", **_SIZE)),
    "truth": (
        UploadFile | None,
        Field(None, description="a reference mask on the grid of the images (NIfTI), to compare with"),
    ),
}


def _form(name: str, fields: dict[str, Any]) -> Any:
    return Annotated[create_model(name, **fields), Form(media_type="multipart/form-data")]


class StrictRoute(APIRoute):
    """A route that refuses form fields and query parameters that are unknown or sent twice.

    FastAPI ignores unknown fields, takes one of two fields of the same name, and reports a full temporary
    folder as a body that cannot be parsed. So the form is checked before FastAPI reads it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        parameters = [parameter.alias for parameter in self.dependant.query_params]
        forms: list[Any] = [parameter.field_info.annotation for parameter in self.dependant.body_params]
        fields = {name: field for form in forms for name, field in form.model_fields.items()}
        lists = [name for name, field in fields.items() if _is_list(field.annotation)]

        async def handle_strictly(request: Request) -> Response:
            _require_known("query parameter", parameters, request.query_params.multi_items())
            if request.method != "POST":
                return await handle(request)
            request.app.state.service.queue.require_room()  # before the files are received
            form = await _read_form(request)
            try:
                _require_known("form field", [*fields], form.multi_items(), lists)
                return await handle(request)
            finally:
                await form.close()

        return handle_strictly


def _is_list(annotation: Any) -> bool:
    """Whether a type is a list, or a list or None."""
    parts = [part for part in get_args(annotation) if part is not NoneType]
    return get_origin(annotation) is list or [get_origin(part) for part in parts] == [list]


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


def _require_known(
    kind: str, known: Collection[str], sent: Iterable[tuple[str, Any]], lists: Collection[str] = ()
) -> None:
    """Refuse unknown and repeated fields: a modality or a setting that is ignored changes the prediction.

    Raises:
        RequestError: 400; it names the fields.
    """
    counts = Counter(name for name, _ in sent)
    if unknown := {name: display_name(name) for name in counts if name not in known}:
        hint = f"the {kind.split()[-1]}s are {', '.join(known)}" if known else "this address takes none"
        message = f"there is no {kind} {', '.join(dict.fromkeys(unknown.values()))}; {hint}"
        raise RequestError(400, message, faults=dict.fromkeys(unknown.values(), f"no {kind} of this name"))
    if repeated := [name for name, count in counts.items() if count > 1 and name not in lists]:
        message = f"the {kind} {', '.join(repeated)} was sent more than once; send one case in a request"
        raise RequestError(400, message, faults=dict.fromkeys(repeated, "sent more than once"))


def collect_uploads(
    file: ReceivedFile | None, modality: str | None, **slots: ReceivedFile | None
) -> dict[str, ReceivedFile]:
    """Return the uploads of a request by modality, or under UNNAMED without one.

    Raises:
        RequestError: 400 if nothing was sent, the same modality twice, or `modality` without `file`.
    """
    received = {name: upload for name, upload in slots.items() if upload is not None}
    if file is None and modality is not None:
        message = "`modality` is of the form field `file`, which was not sent; leave `modality` out"
        raise RequestError(400, message, faults={"modality": "not used without `file`"})
    if file is not None:
        name = modality or UNNAMED
        if name in received or (received and modality is None):
            raise RequestError(
                400,
                "the modality of `file` is missing or sent twice; send each file under the form field of its "
                f"modality: {', '.join(slots)}",
                faults={"modality": "missing or sent twice"},
            )
        received[name] = file
    if not received:
        message = f"the request holds no file; {SUPPORTED} as the form field `file`"
        raise RequestError(400, message, faults={"file": "missing"})
    return received
