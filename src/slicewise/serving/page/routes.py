"""The routes of the page's server beside Streamlit's: files of findings, and the summary.

A browser asks this server alone. Files of findings come from the API, whose address it need not reach.
"""

import os
import re
from datetime import datetime
from typing import Final

import httpx
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from slicewise.serving import API_URL_VARIABLE
from slicewise.serving.page.client import key_header
from slicewise.serving.page.summary import render_summary
from slicewise.serving.page.viewer import ASSETS

_FILE: Final = re.compile(
    r"(image/\w+|mask|probability|truth)\.nii\.gz|(image|mask|probability)\.png|seg\.dcm|slices/\d+\.png"
)
_NO_ANSWER: Final = "The API does not respond. It may be starting: wait a moment and reload.\n"


async def _get(path: str, query: str = "") -> httpx.Response | None:
    """Return the response of the API, or None if it is down."""
    base = os.environ[API_URL_VARIABLE]
    try:
        async with httpx.AsyncClient(
            base_url=base, timeout=120.0, trust_env=False, headers=key_header()
        ) as client:
            return await client.get(f"/results/{path}", params=query)
    except httpx.HTTPError:
        return None


async def finding_file(request: Request) -> Response:
    """Pass on a file of a finding; a finding never changes, so the browser may keep it."""
    key, path = request.path_params["key"], request.path_params["path"]
    if not _FILE.fullmatch(path):
        return PlainTextResponse("A finding has no such file.\n", 404)
    answer = await _get(f"{key}/{path}", request.url.query)
    if answer is None:
        return PlainTextResponse(_NO_ANSWER, 502)
    names = ("content-type", "content-disposition")
    headers = {name: answer.headers[name] for name in names if name in answer.headers}
    if answer.is_success:
        headers["cache-control"] = "private, max-age=3600"
    return Response(answer.content, answer.status_code, headers)


async def summary(request: Request) -> Response:
    """Return the one-page summary of a finding."""
    answer = await _get(request.path_params["key"])
    if answer is None:
        return PlainTextResponse(_NO_ANSWER, 502)
    if answer.is_error:
        reason = answer.json().get("detail", "This finding is no longer stored.")
        return PlainTextResponse(f"{reason}\n", answer.status_code)
    return HTMLResponse(render_summary(answer.json(), datetime.now()))


ROUTES: Final[list[BaseRoute]] = [
    Mount("/assets", StaticFiles(directory=ASSETS)),
    Route("/findings/{key}/summary", summary),
    Route("/findings/{key}/{path:path}", finding_file),
]
