"""An API key in the header X-API-Key, where one is configured."""

import hmac
import os
from collections.abc import Collection
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from slicewise.core.errors import UsageError
from slicewise.serving import API_KEY_FILE_VARIABLE, HOST
from slicewise.serving.api.problems import RequestError, error_response

API_KEY: Final = "X-API-Key"
OPEN_PATHS: Final = ("/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json")
"""Those that supervisors, Prometheus and people read before they have a key; none of them shows a result."""
_MIN_LENGTH: Final = 16


def read_api_key(configured: str | None, host: str = HOST) -> str | None:
    """Return the key in the file of `serving.api_key_file`, else of the environment; None without a file.

    Raises:
        UsageError: the file cannot be read, the key is short, or other machines reach the API without one.
    """
    path = configured or os.environ.get(API_KEY_FILE_VARIABLE)
    if not path:
        if not IPv4Address(host).is_loopback:
            raise UsageError(
                f"serving.host={host} lets other machines send requests and read results, and there "
                "is no API key; write one into a file (`openssl rand -hex 32 > api.key`) and name it with "
                "--api-key-file or serving.api_key_file, or leave the host at 127.0.0.1 and reach it through "
                "`ssh -L 8601:127.0.0.1:8601 THIS-MACHINE`"
            )
        return None
    try:
        key = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}, the file of the API key, cannot be read: {error}") from error
    if len(key) < _MIN_LENGTH or not key.isascii():
        raise UsageError(
            f"{path}: the API key has {len(key)} characters; write at least {_MIN_LENGTH} of ASCII into it "
            "(`openssl rand -hex 32`)"
        )
    return key


class ApiKey:
    """ASGI middleware that refuses requests without the key, before their body is read."""

    def __init__(self, app: ASGIApp, key: str, open_paths: Collection[str] = OPEN_PATHS) -> None:
        self.app, self._key, self._open = app, key.encode(), open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            sent = dict(scope["headers"]).get(API_KEY.lower().encode(), b"")
            if not hmac.compare_digest(sent, self._key):
                what = "a wrong" if sent else "no"
                error = RequestError(
                    401,
                    f"the request has {what} API key; send the key of this server in the header {API_KEY}",
                    faults={API_KEY: "wrong" if sent else "missing"},
                    headers={"www-authenticate": f'ApiKey header="{API_KEY}"'},
                )
                await error_response(error, scope)(scope, receive, send)
                return
        await self.app(scope, receive, send)
