"""Prometheus metrics: requests, their times, the queue, batches of the model, kept results."""

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BATCHES: Final = (1, 2, 4, 8, 16, 32)
_OTHER: Final = "other"


class Monitor:
    """The metrics of one application."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "slicewise_requests", "Responses", ("method", "route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "slicewise_request_seconds",
            "From the request to the end of its response",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.model_seconds = Histogram(
            "slicewise_model_seconds", "Of one batch of the model", buckets=_SECONDS, registry=registry
        )
        self.batch_cases = Histogram(
            "slicewise_batch_cases", "Cases of one batch of the model", buckets=_BATCHES, registry=registry
        )
        self.verdicts = Counter(
            "slicewise_verdicts", "Predicted cases", ("kind", "verdict"), registry=registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Report the value of a function."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def report(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class Monitoring:
    """ASGI middleware that counts and times every response."""

    def __init__(self, app: ASGIApp, monitor: Monitor) -> None:
        self.app, self._monitor = app, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_see)
        finally:
            # The template of the address: ids in it would be a series each.
            route = getattr(scope.get("route"), "path", _OTHER)
            self._monitor.requests.labels(scope["method"], route, str(status)).inc()
            self._monitor.request_seconds.labels(route).observe(time.perf_counter() - started)
