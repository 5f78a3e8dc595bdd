"""Predict one picture or volume, an upload or a bundled case."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from slicewise.data.cases import CaseFiles
from slicewise.domain.labels import SEGMENTATION
from slicewise.imaging.io.image2d import to_png
from slicewise.plots.slices import draw_prediction
from slicewise.serving.api import layers, negotiation, responses, schemas, uploads
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.forms import StrictRoute, collect_uploads, upload_form
from slicewise.serving.api.input_files import RequestInput
from slicewise.serving.api.negotiation import JSON, NIFTI, PNG
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.routes.shared import (
    NOT_ACCEPTABLE,
    NOT_FOUND,
    PNG_OR_NIFTI,
    UPLOAD_PROBLEMS,
    ServiceDep,
    get_service,
    json_response,
    nifti_response,
    png_response,
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
    form_type = upload_form(channels)

    @router.post(
        "/predict",
        response_model=schemas.AnyExamination,
        responses=UPLOAD_PROBLEMS | NOT_ACCEPTABLE | PNG_OR_NIFTI,
    )
    async def predict(
        request: Request,
        service: ServiceDep,
        form: form_type,  # type: ignore[valid-type]
        gradcam: GradCam = False,
    ) -> Response:
        """Predict one picture, or one volume of one or several modalities: class, mask and drawings.

        By Accept the response is a drawing of the mask over the picture, or over the slices of a volume
        (PNG), or the mask of a volume (NIfTI).
        """
        received = collect_uploads(**dict(form))
        accepted = negotiation.acceptable(request.headers.get("accept"), _offered(service))

        def read() -> RequestInput:
            with uploads.store_uploads(received) as files:
                return service.reader.read(files)

        return await service.examine(
            request, read, lambda finding, started: _represent(service, finding, started, gradcam, accepted)
        )

    return router


def _offered(service: PredictionService) -> list[str]:
    return [JSON, PNG, NIFTI] if SEGMENTATION in service.pipeline.task_names else [JSON]


def _represent(
    service: PredictionService, finding: Finding, started: float, gradcam: bool, accepted: Sequence[str]
) -> Response:
    available = [JSON, PNG] if finding.inputs.is_picture else [JSON, PNG, NIFTI]
    chosen = negotiation.choose(accepted, available, "this is a picture, whose mask is no NIfTI")
    if chosen == PNG:
        drawing = draw_prediction(finding.prediction, finding.volume)
        assert drawing is not None
        return png_response(to_png(drawing))
    if chosen == NIFTI:
        return nifti_response(layers.mask_nifti(finding), "mask.nii.gz")
    return _examination(service, finding, started, gradcam)


def _examination(service: PredictionService, finding: Finding, started: float, gradcam: bool) -> Response:
    is_picture = finding.inputs.is_picture
    make = responses.picture_examination if is_picture else responses.volume_examination
    examination = make(finding, service.layers, started, gradcam=gradcam)
    service.keep(finding, examination)
    return json_response(examination.model_dump_json())
