"""A request that never ends, or comes in a thousand pieces."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, UploadFile
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from slicewise.serving.api import middleware
from slicewise.serving.api.middleware import BodyLimit
from slicewise.serving.api.problems import register_exception_handlers


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body", False):
        pass
    await receive()  # the client hangs up, whenever it does


def run(parts: list[float], patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send one byte after each of the waits, the last one ending the body; then hang up late."""
    monkeypatch.setattr(middleware, "SILENCE_SECONDS", patience)
    waits = [(wait, number + 1 < len(parts)) for number, wait in enumerate(parts)]

    async def receive() -> Any:
        if not waits:
            await asyncio.sleep(3 * patience)
            return {"type": "http.disconnect"}
        wait, more = waits.pop(0)
        await asyncio.sleep(wait)
        return {"type": "http.request", "body": b"x", "more_body": more}

    async def send(_: Any) -> None: ...

    asyncio.run(BodyLimit(read_all, max_mib=1)({"type": "http"}, receive, send))


def test_a_client_that_falls_silent_is_told_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HTTPException) as caught:
        run([0.0, 3600.0], 0.05, monkeypatch)
    assert caught.value.status_code == 408


def test_waiting_for_an_answer_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    run([0.0, 0.0], 0.05, monkeypatch)


def test_a_thousand_parts_are_refused() -> None:
    app = FastAPI()
    register_exception_handlers(app)
    app.add_middleware(BodyLimit, max_mib=1)

    @app.post("/predict")
    async def predict(file: UploadFile) -> None: ...

    body = (
        b"".join(b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' for _ in range(1200))
        + b"--X--\r\n"
    )
    with TestClient(app) as client:
        head = {"content-type": "multipart/form-data; boundary=X"}
        answer = client.post("/predict", content=body, headers=head)
    assert answer.status_code == 400
    assert "1000" in answer.json()["detail"]
