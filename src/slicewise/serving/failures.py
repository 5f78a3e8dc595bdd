"""Every failure is answered as {"error": message}, and the message says the way out."""

import logging
import os
import tempfile

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from slicewise.core.errors import DataError
from slicewise.core.storage import storage_fault
from slicewise.serving.uploads import RequestError, storage_error

_LOG = logging.getLogger(__name__)


def register_failures(app: FastAPI) -> None:
    """Give `app` an answer for each kind of exception."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(DataError, _data_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


def _answer(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


async def _request_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    if error.status >= 500:
        cause = error.__cause__
        _LOG.error("%s %s: %d, %s (%r)", request.method, request.url.path, error.status, error, cause)
    return _answer(error.status, str(error))


async def _data_error(_: Request, error: Exception) -> JSONResponse:
    return _answer(422, str(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(404, f"there is no {request.url.path}; /docs lists what there is")
    return _answer(error.status_code, str(error.detail))


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parts = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()]
    return _answer(422, "; ".join(parts) + "; /docs lists the fields and their values")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if fault := storage_fault(error):
        told = storage_error(fault, os.fsdecode(fault.filename or tempfile.tempdir or "the disk"))
        return _answer(told.status, str(told))
    return _answer(500, "the examination failed for a reason of ours; the log of the API says which")
