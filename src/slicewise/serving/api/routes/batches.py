"""Many files in one request: for each a result or a problem."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, TypeVar

from anyio.to_thread import run_sync
from fastapi import APIRouter, Form, Request, UploadFile
from pydantic import BaseModel, Field
from starlette.responses import Response

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.serving.api import layers, negotiation, responses, schemas, uploads
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.forms import StrictRoute
from slicewise.serving.api.input_files import RequestInput
from slicewise.serving.api.model_queue import Ticket
from slicewise.serving.api.problems import RequestError, to_problem
from slicewise.serving.api.routes import shared
from slicewise.serving.api.routes.shared import ServiceDep, json_response
from slicewise.serving.api.service import PredictionService

_PROBLEMS = shared.UPLOAD_PROBLEMS | shared.NOT_ACCEPTABLE
T = TypeVar("T", bound=BaseModel)


class BatchForm(BaseModel):
    """The form of a batch."""

    files: list[UploadFile] = Field(
        description="pictures, or NIfTI volumes of one modality with that in their names; repeat the field"
    )


BatchFiles = Annotated[BatchForm, Form(media_type="multipart/form-data")]
router = APIRouter(route_class=StrictRoute)


@router.post(
    "/classify/batch", response_model=schemas.Batch[schemas.Classification], responses=_PROBLEMS,
    tags=["classification"],
)  # fmt: skip
async def classify_batch(request: Request, service: ServiceDep, form: BatchFiles) -> Response:
    """Classify several files, each a case of its own: for each a result, or the problem with it."""
    if CLASSIFICATION not in service.pipeline.task_names:
        raise layers.no_task(CLASSIFICATION, "this address")
    return await _examine(request, service, form.files, responses.classification)


@router.post(
    "/segment/batch", response_model=schemas.Batch[schemas.Segmentation], responses=_PROBLEMS,
    tags=["segmentation"],
)  # fmt: skip
async def segment_batch(request: Request, service: ServiceDep, form: BatchFiles) -> Response:
    """Segment several files, each a case of its own; the masks are at the addresses of the results."""
    if SEGMENTATION not in service.pipeline.task_names:
        raise layers.no_task(SEGMENTATION, "this address")

    def respond(finding: Finding, started: float) -> schemas.Segmentation:
        result = responses.segmentation(finding, started)
        service.keep(finding, result)
        return result

    return await _examine(request, service, form.files, respond)


async def _examine(
    request: Request,
    service: PredictionService,
    files: list[UploadFile],
    respond: Callable[[Finding, float], T],
) -> Response:
    negotiation.acceptable(request.headers.get("accept"), [negotiation.JSON])
    most, started = service.settings.max_batch, time.perf_counter()
    if len(files) > most:
        message = f"{len(files)} files in one request; send at most {most} (serving.max_batch)"
        raise RequestError(413, message, faults={"files": f"more than {most}"})

    async def one(ticket: Ticket, file: UploadFile) -> schemas.BatchItem[T]:
        def read() -> RequestInput:
            with uploads.store_uploads({uploads.UNNAMED: file}) as stored:
                return service.reader.read(stored)

        name = uploads.display_name(file.filename)
        try:
            finding = await service.predict(ticket, read)
            result = await run_sync(respond, finding, time.perf_counter())
        except Exception as error:
            ticket.require_wanted()
            problem = to_problem(error, request.scope)
            return schemas.BatchItem(file=name, status=problem.status, problem=problem)
        return schemas.BatchItem(file=name, status=HTTPStatus.OK, result=result)

    async def work(ticket: Ticket) -> str:
        items = await asyncio.gather(*(one(ticket, file) for file in files))
        failed = sum(item.problem is not None for item in items)
        seconds = round(time.perf_counter() - started, 3)
        return schemas.Batch(results=items, failed=failed, seconds=seconds).model_dump_json()

    return json_response(await service.serve(request, work))
