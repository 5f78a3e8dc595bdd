"""`create_app` and the program that loads a model and serves it: `python -m slicewise.serving.api.app`."""

import argparse
import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse

import slicewise
from slicewise.config.schema import Evaluation, Serving
from slicewise.core.errors import SliceWiseError
from slicewise.core.machine import share_heaps
from slicewise.domain.labels import NOTICE
from slicewise.inference.pipeline import Pipeline
from slicewise.serving import HOST
from slicewise.serving.api.access import ApiKey, read_api_key
from slicewise.serving.api.docs import render_docs
from slicewise.serving.api.middleware import BodyLimit, KnownHost, ResponseHeaders
from slicewise.serving.api.model_queue import ModelQueue
from slicewise.serving.api.monitoring import Monitoring
from slicewise.serving.api.openapi import make_document
from slicewise.serving.api.problems import register_exception_handlers
from slicewise.serving.api.routes import batches, patients, predictions, results, status, tasks
from slicewise.serving.api.service import PredictionService

_DESCRIPTION: Final = (
    f"Finds brain tumours in MRI pictures and volumes. **{NOTICE}**\n\n"
    "The body of an error is a problem document (RFC 9457), `application/problem+json`: `detail` says what "
    "went wrong and what to do."
)
_TRIM_SECONDS: Final = 600.0
_KEEP_ALIVE_SECONDS: Final = 75
"""Of a connection without a request, as nginx has it. Under a flood the next request may lie unread longer
than the 5 s of uvicorn, which then would close its connection."""


def create_app(
    pipeline: Pipeline,
    settings: Serving,
    *,
    cases_dir: Path,
    results_dir: Path | None = None,
    num_threads: int = 0,
    api_key: str | None = None,
) -> FastAPI:
    """Return the application that serves one model.

    Args:
        pipeline: the model.
        settings: limits of requests, queue and results.
        cases_dir: bundled cases; the folder may be missing.
        results_dir: folder of the findings; None: they are in memory alone.
        num_threads: of the model; 0 selects automatically.
        api_key: that requests need; None: none.
    """
    # FastAPI's own documentation pages load scripts from another site.
    app = FastAPI(
        title="SliceWise",
        version=slicewise.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.service = PredictionService(
        pipeline, settings, results_dir=results_dir, num_threads=num_threads
    )
    app.state.cases_dir = cases_dir
    _add_documentation(app)
    app.include_router(status.router)
    channels = pipeline.checkpoints[0].preprocessing.channels
    for router_of in (
        predictions.make_router,
        tasks.make_router,
        tasks.make_segmentation_router,
        patients.make_router,
    ):
        app.include_router(router_of(channels))
    app.include_router(batches.router)
    app.include_router(predictions.cases_router)
    app.include_router(results.router)
    register_exception_handlers(app)
    base_url = f"http://{settings.own_host}:{settings.api_port}"
    make = cache(lambda: make_document(app, base_url, has_key=api_key is not None))
    app.openapi = make  # type: ignore[method-assign]  # as FastAPI documents it
    app.add_middleware(BodyLimit, max_mib=settings.max_upload_mib)
    if api_key is not None:
        app.add_middleware(ApiKey, key=api_key)
    if settings.is_local:  # else clients know this machine by other names, and the key keeps web pages out
        app.add_middleware(KnownHost, hosts=tuple(dict.fromkeys((HOST, settings.host, "localhost"))))
    app.add_middleware(ResponseHeaders)
    app.add_middleware(Monitoring, monitor=app.state.service.monitor)
    return app


def _add_documentation(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def redirect_to_docs() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(render_docs(request.app.openapi()))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Delete old results now and then; at the end let the last ones be written."""
    service: PredictionService = app.state.service

    async def trim() -> None:
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            await run_sync(service.results.trim)

    task = asyncio.create_task(trim())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await run_sync(service.results.flush)


class _Server(uvicorn.Server):
    """On a signal, refuses the requests that wait, and finishes those that the model works on."""

    def __init__(self, app: FastAPI, serving: Serving) -> None:
        # Without `workers`, uvicorn reads WEB_CONCURRENCY, and refuses more than one for a built app.
        config = uvicorn.Config(
            app,
            host=serving.host,
            port=serving.api_port,
            log_level="info",
            access_log=False,
            workers=1,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        super().__init__(config)
        self._queue: ModelQueue = app.state.service.queue

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # In a thread: the signal may have interrupted what holds a lock.
        threading.Thread(target=self._queue.close).start()
        super().handle_exit(sig, frame)


def main(argv: Sequence[str]) -> int:
    """Load the model and serve it. Return the exit code of a failed start."""
    share_heaps()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(prog="slicewise.serving.api.app", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model to serve")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), required=True)
    parser.add_argument("--num-threads", type=int, default=0, help="of the model; 0 selects automatically")
    parser.add_argument("--serving", required=True, help="the section `serving` as JSON")
    parser.add_argument("--settings", required=True, help="the section `evaluation` as JSON")
    parser.add_argument("--cases", type=Path, required=True, help="bundled cases")
    parser.add_argument("--results", type=Path, help="folder of the results; without it in memory alone")
    options = parser.parse_args(argv)
    settings = Evaluation.model_validate_json(options.settings)
    serving = Serving.model_validate_json(options.serving)
    overrides = settings.inference._asdict()
    try:
        api_key = read_api_key(serving.api_key_file, serving.host)
        pipeline = Pipeline.load(
            options.checkpoint,
            device=options.device,
            backend=serving.backend,
            settings=settings,
            **overrides,
        )
    except SliceWiseError as error:
        logging.getLogger(__name__).critical("%s", error)
        return error.exit_code
    app = create_app(
        pipeline,
        serving,
        cases_dir=options.cases,
        results_dir=options.results,
        num_threads=options.num_threads,
        api_key=api_key,
    )
    threading.Thread(target=app.state.service.warm_up, daemon=True).start()
    server = _Server(app, serving)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
