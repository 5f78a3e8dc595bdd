"""What every request passes through: a measured body going in, security headers going out."""

from typing import Final

from anyio import move_on_after
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slicewise.core.storage import MIB

_FRAMING_BYTES: Final = MIB
"""What a multipart body may hold besides the files."""
_DRAIN_FACTOR: Final = 4
SILENCE_SECONDS: Final = 30.0
"""Between two parts of a request."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


class BodyLimit:
    """ASGI middleware that refuses a body larger than `max_mib` while it arrives, before it fills the disk.

    The rest of such a body is read and thrown away, within bounds: a client that is still sending would
    otherwise see a broken connection instead of the answer.
    """

    def __init__(self, app: ASGIApp, max_mib: int) -> None:
        self.app = app
        self.max_mib = max_mib

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        measured = self._measured(receive) if scope["type"] == "http" else receive
        await self.app(scope, measured, send)

    def _measured(self, receive: Receive) -> Receive:
        limit = self.max_mib * MIB + _FRAMING_BYTES
        seen = 0
        whole = False

        async def measured() -> Message:
            nonlocal seen, whole
            if whole:  # what comes now is the client hanging up
                return await receive()
            message = await _in_time(receive)
            whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen <= limit:
                return message
            while message.get("more_body", False) and seen < _DRAIN_FACTOR * limit:
                message = await _in_time(receive)
                seen += len(message.get("body", b""))
            raise HTTPException(413, too_large(self.max_mib))

        return measured


async def _in_time(receive: Receive) -> Message:
    """Wait for the next part of a request, but not for ever: a silent client would hold its files open."""
    with move_on_after(SILENCE_SECONDS):
        return await receive()
    raise HTTPException(408, f"nothing arrived for {SILENCE_SECONDS:.0f} seconds; send the request again")


def too_large(max_mib: int) -> str:
    return (
        f"the upload is larger than {max_mib} MiB; send fewer or smaller files, "
        "or start the demo with a larger serving.max_upload_mib"
    )


class SecurityHeaders:
    """ASGI middleware: answers are not sniffed, framed, cached or named to other sites, and load nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)
