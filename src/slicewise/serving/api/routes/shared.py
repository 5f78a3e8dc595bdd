"""What the routes take, and the responses that they share."""

from typing import Annotated, Any, Final

from fastapi import Depends, Request
from starlette.responses import Response

from slicewise.serving.api import negotiation
from slicewise.serving.api.problems import PROBLEM_JSON
from slicewise.serving.api.service import PredictionService

Responses = dict[int | str, dict[str, Any]]
_NIFTI_TYPE: Final = negotiation.NIFTI
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}


def problems(**descriptions: str) -> Responses:
    """Return the documentation of error responses; the names are `status_400` and so on."""
    return {
        int(name.removeprefix("status_")): {
            "description": text,
            "content": {PROBLEM_JSON: {"schema": _PROBLEM, "example": _example(name, text)}},
        }
        for name, text in descriptions.items()
    }


def _example(name: str, text: str) -> dict[str, Any]:
    from http import HTTPStatus

    status = int(name.removeprefix("status_"))
    title = HTTPStatus(status).phrase
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": text,
        "instance": "/predict#8f3a60c2b1d4e597",
        "errors": [],
    }


NOT_FOUND: Final = problems(status_404="No such case or result, or the model does not have this task")
UPLOAD_PROBLEMS: Final = problems(
    status_400="No file, an unknown modality, or an unknown field",
    status_413="The upload is too large, or has too many pixels or files",
    status_415="Neither a picture nor a NIfTI volume",
    status_422="A file is damaged, or a field has an invalid value",
    status_503="The queue is full (see Retry-After), or the folder for uploads cannot be written",
    status_504="The prediction took too long",
    status_507="The folder for uploads is full",
)
NOT_ACCEPTABLE: Final = problems(status_406="None of the media types of the header Accept is offered")
PNG: Final[Responses] = {200: {"content": {"image/png": {}}, "description": "PNG"}}
NIFTI: Final[Responses] = {200: {"content": {_NIFTI_TYPE: {}}, "description": "NIfTI"}}
DICOM: Final[Responses] = {200: {"content": {negotiation.DICOM: {}}, "description": "DICOM-SEG"}}
NIFTI_OR_DICOM: Final[Responses] = {
    200: {
        "content": {_NIFTI_TYPE: {}, negotiation.DICOM: {}},
        "description": "JSON, or by Accept the mask as NIfTI, or of DICOM series as DICOM-SEG",
    }
}
PNG_TOO: Final[Responses] = {
    200: {"content": {"image/png": {}}, "description": "JSON, or by Accept a picture as PNG"}
}
PNG_OR_NIFTI: Final[Responses] = {
    200: {
        "content": {"image/png": {}, _NIFTI_TYPE: {}},
        "description": "JSON, or by Accept the mask: of a picture PNG, of a volume NIfTI",
    }
}


def get_service(request: Request) -> PredictionService:
    """Return the service of the application."""
    service: PredictionService = request.app.state.service
    return service


ServiceDep = Annotated[PredictionService, Depends(get_service)]


def json_response(content: str) -> Response:
    """Return JSON that is encoded already."""
    return Response(content, media_type="application/json")


def nifti_response(content: bytes, name: str) -> Response:
    """Return a .nii.gz to be saved under a name."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=_NIFTI_TYPE, headers=headers)


def dicom_response(content: bytes, name: str) -> Response:
    """Return a DICOM file to be saved under a name."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=negotiation.DICOM, headers=headers)


def png_response(content: bytes) -> Response:
    """Return a PNG."""
    return Response(content, media_type="image/png")
