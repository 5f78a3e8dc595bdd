"""The routes of the API; `python -m slicewise.serving.api.app` loads a model and serves it."""

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import uvicorn
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

import slicewise
from slicewise.config.schema import Evaluation
from slicewise.core.errors import SliceWiseError
from slicewise.data.cases import CaseFiles
from slicewise.domain.labels import NOTICE
from slicewise.inference.pipeline import Pipeline
from slicewise.serving import HOST
from slicewise.serving.api import schemas, uploads
from slicewise.serving.api.docs import render_docs
from slicewise.serving.api.errors import RequestError, register_exception_handlers
from slicewise.serving.api.middleware import BodyLimit, SecurityHeaders
from slicewise.serving.api.service import Layer, PredictionService

Responses = dict[int | str, dict[str, Any]]

_ERROR_RESPONSES: Final[Responses] = {
    status: {"model": schemas.Failure, "description": description}
    for status, description in {
        400: "No file, an unknown modality, or an unknown field",
        413: "The upload is too large",
        415: "Neither a picture nor a NIfTI volume",
        422: "A file is damaged, or a field has an invalid value",
        503: "The folder for uploads is missing or cannot be written",
        507: "The folder for uploads is full",
    }.items()
}
_NOT_FOUND: Final[Responses] = {404: {"model": schemas.Failure, "description": "No such case or result"}}
_PNG: Final[Responses] = {200: {"content": {"image/png": {}}, "description": "PNG"}}
_NIFTI: Final[Responses] = {200: {"content": {"application/gzip": {}}, "description": "NIfTI, 1 is tumour"}}
_DESCRIPTION: Final = (
    f"Finds brain tumours in MRI pictures and volumes. **{NOTICE}**\n\n"
    'The body of an error is `{"error": "what went wrong and what to do"}`.'
)

GradCam = Annotated[bool, Query(description="also return the Grad-CAM saliency of the classification head")]


def _get_service(request: Request) -> PredictionService:
    service: PredictionService = request.app.state.service
    return service


def _get_cases(request: Request) -> dict[str, CaseFiles]:
    found, _ = _get_service(request).pipeline.find([request.app.state.cases_dir])
    return {case.key.case: case for case in found}


ServiceDep = Annotated[PredictionService, Depends(_get_service)]
CasesDep = Annotated[dict[str, CaseFiles], Depends(_get_cases)]
router = APIRouter()


@router.get("/", include_in_schema=False)
async def redirect_to_docs() -> RedirectResponse:
    return RedirectResponse("/docs")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(render_docs(request.app.openapi()))


@router.get("/healthz", tags=["service"])
async def health(service: ServiceDep) -> schemas.Health:
    """Respond as soon as the model is loaded, also during a prediction."""
    return schemas.Health(fingerprint=service.pipeline.fingerprint)


@router.get("/model/info", tags=["service"])
async def model_info(request: Request, service: ServiceDep) -> schemas.ModelInfo:
    """Describe the model, from its checkpoint."""
    return service.describe(request.app.state.max_upload_mib)


@router.get("/cases", tags=["bundled cases"])
async def cases(bundled: CasesDep) -> list[schemas.Case]:
    """List the generated cases that come with the demo."""
    return [schemas.Case(name=name, modalities=list(case.modalities)) for name, case in bundled.items()]


@router.get("/results/{result}/mask.nii.gz", responses=_NIFTI | _NOT_FOUND, tags=["results"])
async def result_mask(result: str, service: ServiceDep) -> Response:
    """Return the mask of a predicted volume on the grid of its file."""
    content = await run_sync(service.mask_nifti, result)
    headers = {"content-disposition": 'attachment; filename="mask.nii.gz"'}
    return Response(content, media_type="application/gzip", headers=headers)


@router.get("/results/{result}/slices/{index}.png", responses=_PNG | _NOT_FOUND, tags=["results"])
async def result_slice(
    result: str,
    index: int,
    service: ServiceDep,
    layer: Annotated[Layer, Query(description="what is drawn over the slice")] = "overlay",
) -> Response:
    """Return one slice of a predicted volume as a picture."""
    return Response(await run_sync(service.render_slice, result, index, layer), media_type="image/png")


def _prediction_routes(channels: Sequence[str]) -> APIRouter:
    """Return the routes that predict; the form of uploads has a field for each channel of the model."""
    predictions = APIRouter(route_class=uploads.StrictRoute)
    upload_form = uploads.make_upload_form(channels)

    @predictions.post("/predict", responses=_ERROR_RESPONSES, tags=["prediction"])
    async def predict(
        service: ServiceDep,
        form: Annotated[upload_form, Form(media_type="multipart/form-data")],  # type: ignore[valid-type]
        gradcam: GradCam = False,
    ) -> schemas.AnyExamination:
        """Predict one picture, or one volume of one or several modalities. Uploads are deleted afterwards."""
        received = uploads.collect_uploads(**dict(form))

        def predict_uploads() -> schemas.AnyExamination:
            with uploads.store_uploads(received) as files:
                return service.predict(uploads.read_uploads(files, service.pipeline.slot, channels), gradcam)

        return await run_sync(predict_uploads)

    @predictions.post("/cases/{name}/predict", responses=_NOT_FOUND, tags=["bundled cases"])
    async def predict_case(
        name: str, service: ServiceDep, bundled: CasesDep, gradcam: GradCam = False
    ) -> schemas.VolumeExamination:
        """Predict a bundled case."""
        if name not in bundled:
            raise RequestError(404, f"there is no bundled case {name!r}; GET /cases lists them")

        def predict_volume() -> schemas.VolumeExamination:
            return service.predict_volume(uploads.RequestInput(bundled[name].read(), "volume"), gradcam)

        return await run_sync(predict_volume)

    return predictions


def create_app(pipeline: Pipeline, *, num_threads: int = 0, max_upload_mib: int, cases_dir: Path) -> FastAPI:
    """Return the application that serves one model; the folder of bundled cases may be missing."""
    # FastAPI's own documentation pages load scripts from another site.
    app = FastAPI(
        title="SliceWise",
        version=slicewise.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = PredictionService(pipeline, num_threads)
    app.state.cases_dir = cases_dir
    app.state.max_upload_mib = max_upload_mib
    app.include_router(router)
    app.include_router(_prediction_routes(pipeline.checkpoints[0].preprocessing.channels))
    register_exception_handlers(app)
    app.add_middleware(BodyLimit, max_mib=max_upload_mib)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app.add_middleware(SecurityHeaders)
    return app


def main(argv: Sequence[str]) -> int:
    """Load the model and serve it on this machine only. Return the exit code of a failed start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="slicewise.serving.api.app", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model to serve")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), required=True)
    parser.add_argument("--num-threads", type=int, default=0, help="of the model; 0 selects automatically")
    parser.add_argument("--max-upload-mib", type=int, required=True)
    parser.add_argument("--settings", required=True, help="the section `evaluation` as JSON")
    parser.add_argument("--cases", type=Path, required=True, help="bundled cases")
    options = parser.parse_args(argv)
    settings = Evaluation.model_validate_json(options.settings)
    overrides = settings.inference._asdict()
    try:
        pipeline = Pipeline.load(options.checkpoint, device=options.device, settings=settings, **overrides)
    except SliceWiseError as error:
        logging.getLogger(__name__).critical("%s", error)
        return error.exit_code
    limits = {"num_threads": options.num_threads, "max_upload_mib": options.max_upload_mib}
    app = create_app(pipeline, **limits, cases_dir=options.cases)
    threading.Thread(target=app.state.service.warm_up, daemon=True).start()
    # Without `workers`, uvicorn reads WEB_CONCURRENCY, and refuses more than one for an app that is built.
    uvicorn.run(app, host=HOST, port=options.port, log_level="info", access_log=False, workers=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
