"""Middleware of every request: known hosts, a limit of the body, and headers of the response."""

from collections.abc import Collection
from typing import Final

from anyio import move_on_after
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slicewise.core.disk import MIB
from slicewise.serving.api.problems import REQUEST_ID, RequestError, error_response, request_id

_FRAMING_BYTES: Final = MIB
"""Allowance for what a multipart body holds besides the files."""
_DRAIN_FACTOR: Final = 4
SILENCE_SECONDS: Final = 30.0
"""Longest wait between two parts of a request."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


class BodyLimit:
    """ASGI middleware that refuses a body larger than `max_mib` while it arrives, before it fills the disk.

    A response before the end of the body, such as this refusal, waits until the rest is read and discarded,
    within bounds: a client that is still sending would see a broken connection instead.
    """

    def __init__(self, app: ASGIApp, max_mib: int) -> None:
        self.app = app
        self.max_mib = max_mib

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, self.max_mib)

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
            await send(message)

        await self.app(scope, body.receive, send_after_body)


class _Body:
    """The body of one request, counted while it arrives."""

    def __init__(self, receive: Receive, max_mib: int) -> None:
        self._receive = receive
        self._max_mib = max_mib
        self._limit = max_mib * MIB + _FRAMING_BYTES
        self._num_bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # the next message is the disconnect
            return await self._receive()
        message = await self._next()
        if self._num_bytes > self._limit:
            raise HTTPException(
                413,
                f"the upload is larger than {self._max_mib} MiB; send fewer or smaller files, "
                "or start the demo with a larger serving.max_upload_mib",
            )
        return message

    async def drain(self) -> None:
        """Read and discard the rest of a body."""
        try:
            while not self._complete and self._num_bytes < _DRAIN_FACTOR * self._limit:
                await self._next()
        except HTTPException:  # the client sends nothing more: respond now
            self._complete = True

    async def _next(self) -> Message:
        message: Message | None = None
        with move_on_after(SILENCE_SECONDS):  # a client that stalls would hold its files open for ever
            message = await self._receive()
        if message is None:
            raise HTTPException(
                408, f"nothing arrived for {SILENCE_SECONDS:.0f} seconds; send the request again"
            )
        self._complete = not message.get("more_body", False)
        self._num_bytes += len(message.get("body", b""))
        return message


class KnownHost:
    """ASGI middleware that refuses requests to another host: a web page could send some (DNS rebinding)."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if host.rpartition(":")[0] not in self.hosts and host not in self.hosts:
                error = RequestError(400, f"this API is at {' and '.join(self.hosts)}, not at {host!r}")
                await error_response(error, scope)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class ResponseHeaders:
    """ASGI middleware: browsers do not sniff, frame or cache responses, send no referrer and load nothing.

    Every response has the id of its request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                identifier = (REQUEST_ID.encode(), request_id(scope).encode())
                message["headers"] = [*message.get("headers", ()), *_HEADERS, identifier]
            await send(message)

        await self.app(scope, receive, send_with_headers)
