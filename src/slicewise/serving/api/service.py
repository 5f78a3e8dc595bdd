"""What the routes share: a request becomes a case, waits for the model, and becomes a finding."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from anyio.to_thread import run_sync
from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from slicewise.config.schema import Serving
from slicewise.inference.operating_points import INPUT_KINDS
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prediction import SlicePredictions
from slicewise.inference.prepared_case import PreparedCase
from slicewise.plots.slices import SliceRenderer
from slicewise.serving.api import schemas
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.input_files import InputReader, RequestInput
from slicewise.serving.api.layers import LayerRenderer
from slicewise.serving.api.model_queue import ModelQueue, Ticket
from slicewise.serving.api.monitoring import Monitor
from slicewise.serving.api.problems import RequestError, request_id
from slicewise.serving.api.responses import operating_info
from slicewise.serving.api.result_store import ResultStore

if TYPE_CHECKING:
    from slicewise.compute.threads import Threads

T = TypeVar("T")
_GONE: Final = 499
"""The client has closed the connection: the status that nginx logs in this case."""
_IDLE_SECONDS: Final = 3.0
"""Without a request, before Grad-CAM is warmed up: its imports take the cores for seconds"""


@dataclass(frozen=True)
class Prepared:
    """The input of a request, and what the models are given for it."""

    inputs: RequestInput
    case: PreparedCase

    @property
    def is_single_slice(self) -> bool:
        return len(self.case.slices.images) == 1


class PredictionService:
    """Predicts with one model for the requests of the API."""

    def __init__(
        self, pipeline: Pipeline, settings: Serving, *, results_dir: Path | None, num_threads: int
    ) -> None:
        self.pipeline, self.settings = pipeline, settings
        self._threads = _torch_threads(num_threads) if pipeline.backend == "torch" else None
        self.queue = ModelQueue(
            self._infer,
            capacity=settings.max_waiting,
            batch_size=pipeline.batch_size,
            around=self._threads or nullcontext(),
        )
        self.results = ResultStore(results_dir, pipeline, settings)
        self.monitor = self._make_monitor()
        self.layers = LayerRenderer(pipeline, self.queue, num_threads)
        channels = pipeline.checkpoints[0].preprocessing.channels
        self.reader = InputReader(channels, pipeline.slot, settings.max_megapixels)

    async def examine(
        self,
        request: Request,
        read: Callable[[], RequestInput],
        respond: Callable[[Finding, float], Response],
    ) -> Response:
        """Return the response to a request for the prediction of one case.

        Args:
            request: whose client is watched: the model does not work for one that has gone.
            read: returns the case; it runs in a thread.
            respond: makes the response from a finding and the time of the start; it runs in a thread.

        Raises:
            RequestError: 503 if the queue is full, 504 if it took too long, or the error of `read`.
        """
        started = time.perf_counter()

        async def work(ticket: Ticket) -> Response:
            finding = await self.predict(ticket, read)
            return await run_sync(respond, finding, started)

        return await self.serve(request, work)

    async def predict(self, ticket: Ticket, read: Callable[[], RequestInput]) -> Finding:
        """Return the finding of one case; its JSON is empty."""

        def prepare() -> Prepared:
            inputs = read()
            return Prepared(inputs, self.pipeline.prepare(inputs.volume, kind=inputs.kind))

        prepared, outputs = await self.queue.predict(
            ticket, prepare, is_batchable=lambda each: each.is_single_slice
        )

        def complete() -> Finding:
            inputs, prediction = prepared.inputs, self.pipeline.complete(prepared.case, outputs)
            renderer = SliceRenderer.of(inputs.volume)
            self.monitor.verdicts.labels(inputs.kind, prediction.verdict).inc()
            return Finding(self.results.new_key(), inputs, prediction, renderer, {})

        return await run_sync(complete)

    def keep(self, finding: Finding, response: BaseModel) -> None:
        """Keep a finding with its response."""
        self.results.add(replace(finding, response=response.model_dump(mode="json")))

    async def serve(self, request: Request, work: Callable[[Ticket], Awaitable[T]]) -> T:
        """Return what `work` returns for a request that has a place in the queue.

        Raises:
            RequestError: 503 if the queue is full, 504 after `serving.timeout_seconds`, 499 if the client has
                gone.
        """
        with self.queue.admit(request_id(request.scope)) as ticket:
            task = asyncio.ensure_future(work(ticket))
            gone = asyncio.ensure_future(_disconnected(request))
            try:
                limit = self.settings.timeout_seconds
                done, _ = await asyncio.wait({task, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                if not task.done():
                    task.cancel()
                    task.add_done_callback(_forget)
            if task in done:
                return task.result()
            if gone in done:
                raise RequestError(_GONE, "the client has closed the connection")
            raise RequestError(
                504,
                f"the prediction took longer than {limit:g} s, waiting included; send fewer or smaller "
                "files, or start the API with a larger serving.timeout_seconds",
            )

    def describe(self) -> schemas.ModelInfo:
        """Return the model, from its checkpoint, and the limits of requests."""
        checkpoint = self.pipeline.checkpoints[0]
        classification = checkpoint.tasks.classification
        return schemas.ModelInfo(
            fingerprint=checkpoint.fingerprint,
            stage=checkpoint.stage,
            model=checkpoint.model.model_dump(),
            preprocessing=checkpoint.preprocessing.model_dump(),
            class_names=[*classification.classes] if classification else [],
            metrics={name: value for name, value in checkpoint.metrics.items() if math.isfinite(value)},
            data_name=checkpoint.data_name,
            synthetic=checkpoint.synthetic,
            tasks=[*self.pipeline.task_names],
            device=self.pipeline.device,
            backend=self.pipeline.backend,
            **self.pipeline.inference._asdict(),
            operating_points={
                kind: operating_info(self.pipeline.points.of(kind), [*self.pipeline.task_names])
                for kind in INPUT_KINDS
            },
            max_upload_mib=self.settings.max_upload_mib,
            max_batch=self.settings.max_batch,
        )

    def warm_up(self) -> None:
        """Compute a Grad-CAM, whose first call imports slow modules, when no request has come for a while."""
        while self.queue.idle_seconds < _IDLE_SECONDS:
            time.sleep(_IDLE_SECONDS / 10)
        preprocessing = self.pipeline.checkpoints[0].preprocessing
        size, channels = preprocessing.image_size, len(preprocessing.channels)
        blank = np.zeros((1, channels, size, size), np.float32)
        self.layers.compute_gradcam(blank, np.ones(channels))

    def _make_monitor(self) -> Monitor:
        monitor = Monitor()
        monitor.watch("slicewise_running", "Requests that the model works on", lambda: self.queue.running)
        monitor.watch("slicewise_waiting", "Requests before the model", lambda: self.queue.waiting)
        monitor.watch("slicewise_results", "Results on disk", lambda: len(self.results))
        return monitor

    def _infer(self, cases: Sequence[Prepared]) -> list[SlicePredictions]:
        """Return the probabilities of each case; several pictures are one batch."""
        self.monitor.batch_cases.observe(len(cases))
        with self.monitor.model_seconds.time():
            return self._infer_batch(cases)

    def _infer_batch(self, cases: Sequence[Prepared]) -> list[SlicePredictions]:
        first = cases[0].case
        if self._threads and first.orientation is not None and self.pipeline.device == "cpu":
            self._threads.choose()
        if len(cases) == 1:
            return [self.pipeline.infer(first.slices)]
        images = np.concatenate([np.asarray(each.case.slices.images) for each in cases])
        presence = np.array([each.case.slices.presence for each in cases], np.float32)
        outputs = self.pipeline.predict_slices(images, presence)
        places = [slice(place, place + 1) for place in range(len(cases))]
        return [SlicePredictions(*(array[place] for array in outputs)) for place in places]


def _torch_threads(num_threads: int) -> "Threads":
    from slicewise.compute.threads import Threads  # imports torch, which graphs do without

    return Threads.for_short_work(num_threads, "demo")


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection; its whole body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _forget(task: "asyncio.Future[Any]") -> None:
    """Retrieve the exception of an abandoned task, which asyncio would log otherwise."""
    if not task.cancelled():
        task.exception()
