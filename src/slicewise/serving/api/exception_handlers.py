"""Every failure is answered as {"error": message}, and the message says the way out."""

import logging
import os
import tempfile

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from slicewise.core.disk import find_disk_error
from slicewise.core.errors import DataError
from slicewise.serving.api.uploads import RequestError, storage_error

_LOG = logging.getLogger(__name__)


def register_exception_handlers(app: FastAPI) -> None:
    """Give `app` an answer for each kind of exception."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(DataError, _data_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unhandled_error)


def _error_response(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


async def _request_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    if error.status >= 500:
        cause = error.__cause__
        _LOG.error("%s %s: %d, %s (%r)", request.method, request.url.path, error.status, error, cause)
    return _error_response(error.status, str(error))


async def _data_error(_: Request, error: Exception) -> JSONResponse:
    return _error_response(422, str(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _error_response(404, f"there is no {request.url.path}; /docs lists what there is")
    return _error_response(error.status_code, str(error.detail))


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parts = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()]
    return _error_response(422, "; ".join(parts) + "; /docs lists the fields and their values")


async def _unhandled_error(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if fault := find_disk_error(error):
        response = storage_error(fault, os.fsdecode(fault.filename or tempfile.tempdir or "the disk"))
        return _error_response(response.status, str(response))
    return _error_response(500, "the examination failed for a reason of ours; the log of the API says which")
