"""Predict one picture or volume, an upload or a bundled case."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.responses import Response

from slicewise.data.cases import CaseFiles
from slicewise.serving.api import responses, schemas, uploads
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.forms import StrictRoute, collect_uploads, make_upload_form
from slicewise.serving.api.input_files import RequestInput
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.routes.shared import (
    NOT_FOUND,
    UPLOAD_PROBLEMS,
    ServiceDep,
    get_service,
    json_response,
    problems,
)
from slicewise.serving.api.service import PredictionService

GradCam = Annotated[bool, Query(description="also return the Grad-CAM saliency of the classification head")]


def _get_cases(request: Request) -> dict[str, CaseFiles]:
    found, _ = get_service(request).pipeline.find([request.app.state.cases_dir])
    return {case.key.case: case for case in found}


CasesDep = Annotated[dict[str, CaseFiles], Depends(_get_cases)]


cases_router = APIRouter(route_class=StrictRoute, tags=["bundled cases"])


@cases_router.get("/cases")
async def cases(bundled: CasesDep) -> list[schemas.Case]:
    """List the generated cases that come with the demo."""
    return [schemas.Case(name=name, modalities=list(case.modalities)) for name, case in bundled.items()]


@cases_router.post(
    "/cases/{name}/predict",
    response_model=schemas.VolumeExamination,
    responses=NOT_FOUND | problems(status_503="The queue is full, see Retry-After"),
)
async def predict_case(
    request: Request, name: str, service: ServiceDep, bundled: CasesDep, gradcam: GradCam = False
) -> Response:
    """Predict a bundled case."""
    if name not in bundled:
        raise RequestError(404, f"there is no bundled case {name!r}; GET /cases lists them")
    return await service.examine(
        request,
        lambda: RequestInput(bundled[name].read(), "volume"),
        lambda finding, started: _examination(service, finding, started, gradcam),
    )


def make_router(channels: Sequence[str]) -> APIRouter:
    """Return the routes; the form of uploads has a field for each of the channels of the model."""
    router = APIRouter(route_class=StrictRoute, tags=["prediction"])
    upload_form = make_upload_form(channels)

    @router.post("/predict", response_model=schemas.AnyExamination, responses=UPLOAD_PROBLEMS)
    async def predict(
        request: Request,
        service: ServiceDep,
        form: Annotated[upload_form, Form(media_type="multipart/form-data")],  # type: ignore[valid-type]
        gradcam: GradCam = False,
    ) -> Response:
        """Predict one picture, or one volume of one or several modalities. Uploads are deleted afterwards."""
        received = collect_uploads(**dict(form))

        def read() -> RequestInput:
            with uploads.store_uploads(received) as files:
                return service.reader.read(files)

        return await service.examine(
            request, read, lambda finding, started: _examination(service, finding, started, gradcam)
        )

    return router


def _examination(service: PredictionService, finding: Finding, started: float, gradcam: bool) -> Response:
    is_picture = finding.inputs.is_picture
    make = responses.picture_examination if is_picture else responses.volume_examination
    examination = make(finding, service.layers, started, gradcam=gradcam)
    service.keep(finding, examination)
    return json_response(examination.model_dump_json())
