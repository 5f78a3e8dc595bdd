"""Errors of the API as problem documents (RFC 9457); `detail` says what is wrong and what to do."""

import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from slicewise.core.disk import describe_disk_error, describe_free_space, find_disk_error, is_disk_full
from slicewise.core.errors import DataError, ServingError

REQUEST_ID: Final = "x-request-id"
PROBLEM_JSON: Final = "application/problem+json"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_LOG = logging.getLogger(__name__)


class FieldFault(BaseModel):
    """A field of a request that is missing, unknown or invalid."""

    field: str = Field(description="its name in the form, the query, the address or the headers")
    message: str = Field(description="what is wrong with it")


class Problem(BaseModel):
    """What went wrong and what to do (RFC 9457)."""

    type: str = Field(description="always about:blank: `status` says the kind of the problem")
    title: str = Field(description="the name of the status code")
    status: int = Field(description="the HTTP status code")
    detail: str = Field(description="what is wrong with this request, and what to do")
    instance: str = Field(description="address and id of this request; the log of the API has the same id")
    errors: list[FieldFault] = Field(description="the faulty fields, where there are any")


class RequestError(ServingError):
    """A request that cannot be served.

    Attributes:
        status: the HTTP status code (RFC 9110).
        faults: messages by the field that they are about.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        faults: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.faults, self.headers = status, dict(faults or {}), dict(headers or {})


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


def request_id(scope: Scope) -> str:
    """Return the id of a request: its header X-Request-Id if that is a short word, else a random one."""
    if "request_id" not in scope:
        sent = dict(scope["headers"]).get(REQUEST_ID.encode(), b"").decode("latin-1")
        scope["request_id"] = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    identifier: str = scope["request_id"]
    return identifier


def to_problem(error: Exception, scope: Scope) -> Problem:
    """Return the problem document of an exception; those without a message of their own are internal."""
    status, detail, faults = 500, "", {}
    if isinstance(error, RequestError):
        status, detail, faults = error.status, str(error), error.faults
    elif isinstance(error, DataError):
        status, detail = 422, str(error)
    elif fault := find_disk_error(error):
        response = storage_error(fault, os.fsdecode(fault.filename or tempfile.tempdir or "the disk"))
        status, detail = response.status, str(response)
    else:
        detail = "the prediction failed with an internal error; see the log of the API"
    return _problem(
        scope, status, detail, [FieldFault(field=name, message=text) for name, text in faults.items()]
    )


def _problem(scope: Scope, status: int, detail: str, faults: Sequence[FieldFault] = ()) -> Problem:
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    instance = f"{scope['path']}#{request_id(scope)}"
    return Problem(
        type="about:blank", title=title, status=status, detail=detail, instance=instance, errors=list(faults)
    )


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response of a problem."""
    return JSONResponse(problem.model_dump(), problem.status, headers, media_type=PROBLEM_JSON)


def error_response(error: Exception, scope: Scope) -> JSONResponse:
    """Return the response of an exception, and log those that are no fault of the client."""
    problem = to_problem(error, scope)
    own = error.headers if isinstance(error, RequestError) else {}
    if problem.status >= 500:
        cause, where = error.__cause__, f"{scope['method']} {scope['path']}"
        internal = problem.status == 500
        _LOG.error(
            "%s: %d, %s (%r, request %s)", where, problem.status, problem.detail, cause, request_id(scope),
            exc_info=error if internal else None,
        )  # fmt: skip
    return problem_response(problem, own)


def register_exception_handlers(app: FastAPI) -> None:
    """Register a handler for each kind of exception on `app`."""

    @app.exception_handler(RequestError)
    @app.exception_handler(DataError)
    @app.exception_handler(Exception)
    async def any_error(request: Request, error: Exception) -> JSONResponse:
        return error_response(error, request.scope)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"there is no {request.url.path}; /docs lists all addresses"
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            detail = f"{request.url.path} does not take {request.method} but {allowed}; /docs lists all"
        return problem_response(_problem(request.scope, error.status_code, detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [_field_fault(each) for each in error.errors()]
        parts = dict.fromkeys(f"{fault.field}: {fault.message}" for fault in faults)
        detail = "; ".join(parts) + "; /docs lists the fields and their values"
        return problem_response(_problem(request.scope, 422, detail, faults))


def _field_fault(error: Mapping[str, Any]) -> FieldFault:
    """Return a fault as pydantic reports it; its place begins with body, query, path or header."""
    _, *place = error["loc"]
    return FieldFault(field=".".join(map(str, place)) or "body", message=error["msg"])
