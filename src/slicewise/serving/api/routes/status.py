"""Health, the model, the queue."""

from typing import Annotated

from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from slicewise.serving.api import schemas
from slicewise.serving.api.forms import StrictRoute
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.routes.shared import NOT_FOUND, ServiceDep, problems

router = APIRouter(tags=["service"], route_class=StrictRoute)


@router.get("/healthz")
async def health(service: ServiceDep) -> schemas.Health:
    """Respond as soon as the model is loaded, also during a prediction."""
    return schemas.Health(fingerprint=service.pipeline.fingerprint)


@router.get("/readyz", responses=problems(status_503="The API is shutting down, or its queue is full"))
async def ready(service: ServiceDep) -> schemas.Ready:
    """Respond with 200 while requests are accepted: the queue has room, and the API is not shutting down."""
    service.queue.require_room()
    return schemas.Ready(running=service.queue.running, waiting=service.queue.waiting)


@router.get("/model/info")
async def model_info(service: ServiceDep) -> schemas.ModelInfo:
    """Describe the model, from its checkpoint."""
    return service.describe()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Metrics in the format of Prometheus"}},
)
async def metrics(service: ServiceDep) -> Response:
    """Count requests, times, batches, verdicts and results for Prometheus."""
    return Response(service.monitor.report(), media_type=CONTENT_TYPE_LATEST)


@router.get("/queue", responses=NOT_FOUND)
async def queue(
    service: ServiceDep,
    request: Annotated[str | None, Query(description="X-Request-Id of a request that you sent")] = None,
) -> schemas.QueueState:
    """Count the requests, and find the place of one of them."""
    found = None if request is None else service.queue.find(request)
    if request is not None and found is None:
        raise RequestError(
            404, f"there is no request {request!r} in the queue: it was not received whole yet, or has ended"
        )
    position, since = (found[0], found[1].since) if found else (None, None)
    counts = {"running": service.queue.running, "waiting": service.queue.waiting}
    return schemas.QueueState(**counts, capacity=service.queue.capacity, position=position, since=since)
