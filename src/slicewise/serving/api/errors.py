"""Exceptions of the API and their responses: {"error": message}, and the message says what to do."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from slicewise.core.disk import describe_disk_error, describe_free_space, find_disk_error, is_disk_full
from slicewise.core.errors import DataError, ServingError

_LOG = logging.getLogger(__name__)


class RequestError(ServingError):
    """A request that cannot be served; `status` is the HTTP status code (RFC 9110)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def map_storage_errors() -> Iterator[None]:
    """Convert disk errors of the temporary folder.

    Raises:
        RequestError: 507 if the folder is full, 503 if it cannot be written.
    """
    try:
        yield
    except OSError as error:
        try:
            folder = tempfile.gettempdir()
        except OSError:
            folder = os.environ.get("TMPDIR", "the temporary folder")
        raise storage_error(error, folder) from error


def storage_error(error: OSError, folder: str) -> RequestError:
    """Return the error for an upload that could not be written to `folder` or read from it."""
    status, what = 503, f"cannot be used: {describe_disk_error(error)}; make it a writable folder"
    if is_disk_full(error):
        space = describe_free_space(Path(folder))
        status, what = 507, f"has no room: {describe_disk_error(error)} ({space}); free some space there"
    way_out = "or start the demo with TMPDIR set to another folder"
    return RequestError(status, f"{folder}, where uploads are stored, {what}, {way_out}")


def register_exception_handlers(app: FastAPI) -> None:
    """Register a handler for each kind of exception on `app`."""

    @app.exception_handler(RequestError)
    @app.exception_handler(DataError)
    async def slicewise_error(request: Request, error: RequestError | DataError) -> JSONResponse:
        status = error.status if isinstance(error, RequestError) else 422
        if status >= 500:
            cause = error.__cause__
            _LOG.error("%s %s: %d, %s (%r)", request.method, request.url.path, status, error, cause)
        return _error_response(status, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return _error_response(404, f"there is no {request.url.path}; /docs lists all addresses")
        return _error_response(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()]
        return _error_response(422, "; ".join(parts) + "; /docs lists the fields and their values")

    @app.exception_handler(Exception)
    async def unhandled_error(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        if fault := find_disk_error(error):
            response = storage_error(fault, os.fsdecode(fault.filename or tempfile.tempdir or "the disk"))
            return _error_response(response.status, str(response))
        return _error_response(500, "the prediction failed with an internal error; see the log of the API")


def _error_response(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)
