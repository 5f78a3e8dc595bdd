"""One task alone: classification with Grad-CAM, segmentation; JSON, or the mask as PNG or NIfTI."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, Task
from slicewise.inference.uncertainty import estimate_spread
from slicewise.serving.api import layers, negotiation, responses, schemas, uploads
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.forms import StrictRoute, collect_uploads, upload_form
from slicewise.serving.api.input_files import RequestInput
from slicewise.serving.api.negotiation import JSON, NIFTI, PNG
from slicewise.serving.api.routes import shared
from slicewise.serving.api.routes.shared import ServiceDep, json_response, nifti_response, png_response
from slicewise.serving.api.service import PredictionService

_OF_PICTURE = "the mask of a picture is a PNG and that of a volume NIfTI"
Respond = Callable[[Finding, float], Response]


def make_router(channels: Sequence[str]) -> APIRouter:
    """Return the routes; the form of uploads has a field for each of the channels of the model."""
    router = APIRouter(route_class=StrictRoute)
    form_type = upload_form(channels)
    documented = {"responses": shared.UPLOAD_PROBLEMS | shared.NOT_ACCEPTABLE}
    classification: dict[str, Any] = {"tags": ["classification"], **documented}

    @router.post("/classify", response_model=schemas.Classification, **classification)
    async def classify(request: Request, service: ServiceDep, form: form_type) -> Response:  # type: ignore[valid-type]
        """Classify one picture or volume: the probability of a tumour, or of each of several classes."""
        _require(service, CLASSIFICATION)
        negotiation.acceptable(request.headers.get("accept"), [JSON])

        def respond(finding: Finding, started: float) -> Response:
            return json_response(responses.classification(finding, started).model_dump_json())

        return await _examine(request, service, form, respond)

    @router.post(
        "/classify/gradcam",
        response_model=schemas.GradCamClassification,
        **_with(classification, shared.PNG_TOO),
    )
    async def classify_gradcam(request: Request, service: ServiceDep, form: form_type) -> Response:  # type: ignore[valid-type]
        """Classify, and show the evidence (Grad-CAM); of a volume that of its most probable slice."""
        _require(service, CLASSIFICATION)
        accepted = negotiation.acceptable(request.headers.get("accept"), [JSON, PNG])

        def respond(finding: Finding, started: float) -> Response:
            if accepted[0] == PNG:
                index = responses.most_probable_slice(finding)
                return png_response(service.layers.slice_png(finding, index, "gradcam"))
            result = responses.gradcam_classification(finding, service.layers, started)
            return json_response(result.model_dump_json())

        return await _examine(request, service, form, respond)

    return router


def make_segmentation_router(channels: Sequence[str]) -> APIRouter:
    """Return the routes likewise."""
    router = APIRouter(route_class=StrictRoute, tags=["segmentation"])
    form_type = upload_form(channels)
    documented = shared.UPLOAD_PROBLEMS | shared.NOT_ACCEPTABLE | shared.PNG_OR_NIFTI

    @router.post("/segment", response_model=schemas.Segmentation, responses=documented)
    async def segment(request: Request, service: ServiceDep, form: form_type) -> Response:  # type: ignore[valid-type]
        """Segment one picture or volume: areas and volumes as JSON, or the mask as PNG or NIfTI."""
        _require(service, SEGMENTATION)
        accepted = negotiation.acceptable(request.headers.get("accept"), [JSON, PNG, NIFTI])

        def respond(finding: Finding, started: float) -> Response:
            own = PNG if finding.inputs.is_picture else NIFTI
            chosen = negotiation.choose(accepted, [JSON, own], _OF_PICTURE)
            if chosen == PNG:
                return png_response(layers.mask_png(finding.prediction))
            if chosen == NIFTI:
                return nifti_response(layers.mask_nifti(finding), "mask.nii.gz")
            result = responses.segmentation(finding, started)
            service.keep(finding, result)
            return json_response(result.model_dump_json())

        return await _examine(request, service, form, respond)

    _add_uncertainty(router, form_type, documented)
    return router


def _add_uncertainty(router: APIRouter, form_type: Any, documented: shared.Responses) -> None:
    @router.post("/segment/uncertainty", response_model=schemas.Uncertainty, responses=documented)
    async def segment_uncertainty(request: Request, service: ServiceDep, form: form_type) -> Response:
        """Segment, and estimate how far single models and augmentations differ; or their map by Accept."""
        _require(service, SEGMENTATION)
        accepted = negotiation.acceptable(request.headers.get("accept"), [JSON, PNG, NIFTI])

        def respond(finding: Finding, started: float) -> Response:
            own = PNG if finding.inputs.is_picture else NIFTI
            chosen = negotiation.choose(accepted, [JSON, own], _OF_PICTURE)
            spread = service.queue.call(lambda: estimate_spread(service.pipeline, finding.prediction))
            if chosen == JSON:
                result = responses.uncertainty(finding, spread, started)
                return json_response(result.model_dump_json())
            content = layers.deviation_map(finding, spread)
            return png_response(content) if chosen == PNG else nifti_response(content, "uncertainty.nii.gz")

        return await _examine(request, service, form, respond)


def _with(documented: dict[str, Any], more: shared.Responses) -> dict[str, Any]:
    return {**documented, "responses": {**documented["responses"], **more}}


def _require(service: PredictionService, task: Task) -> None:
    if task not in service.pipeline.task_names:
        raise layers.no_task(task, "this address")


async def _examine(
    request: Request, service: PredictionService, form: BaseModel, respond: Respond
) -> Response:
    received = collect_uploads(**dict(form))

    def read() -> RequestInput:
        with uploads.store_uploads(received) as files:
            return service.reader.read(files)

    return await service.examine(request, read, respond)
