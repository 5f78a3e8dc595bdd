"""The page's server: it passes on files of findings and nothing else, and renders the summary."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tests.serving.page.findings import volume

from slicewise.serving import API_URL_VARIABLE, HOST
from slicewise.serving.page.routes import ROUTES


class Api(BaseHTTPRequestHandler):
    """Knows one finding, and has an address that the page must not pass on."""

    def do_GET(self) -> None:
        known = {"/results/abc": json.dumps(volume()).encode(), "/results/abc/mask.nii.gz": b"mask"}
        body = known.get(self.path, b'{"detail": "This finding is no longer stored."}')
        self.send_response(200 if self.path in known else 404)
        self.send_header("content-type", "application/json")
        self.send_header("x-secret", "1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    with HTTPServer((HOST, 0), Api) as api:
        Thread(target=api.serve_forever, daemon=True).start()
        monkeypatch.setenv(API_URL_VARIABLE, f"http://{HOST}:{api.server_port}")
        yield TestClient(Starlette(routes=ROUTES))
        api.shutdown()


def test_files_of_a_finding_are_passed_on_and_kept_by_the_browser(page: TestClient) -> None:
    response = page.get("/findings/abc/mask.nii.gz")
    assert (response.status_code, response.content) == (200, b"mask")
    assert "max-age" in response.headers["cache-control"]
    assert "x-secret" not in response.headers
    assert page.get("/findings/older/mask.nii.gz").status_code == 404


@pytest.mark.parametrize("path", ["../../model/info", "%2e%2e/%2e%2e/model/info", "healthz", "image/..png"])
def test_nothing_else_is_passed_on(path: str, page: TestClient) -> None:
    assert page.get(f"/findings/abc/{path}").status_code == 404


def test_the_summary(page: TestClient) -> None:
    response = page.get("/findings/abc/summary")
    assert response.headers["content-type"].startswith("text/html")
    assert "Key slices" in response.text
    gone = page.get("/findings/older/summary")
    assert (gone.status_code, gone.text) == (404, "This finding is no longer stored.\n")


def test_an_api_that_is_down(free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_URL_VARIABLE, f"http://{HOST}:{free_port()}")
    page = TestClient(Starlette(routes=ROUTES))
    assert [page.get(f"/findings/abc/{path}").status_code for path in ("mask.png", "summary")] == [502, 502]


def test_the_viewers_program_is_a_script(page: TestClient) -> None:
    response = page.get("/assets/niivue.umd.js")
    assert response.status_code == 200
    assert "javascript" in response.headers["content-type"]
