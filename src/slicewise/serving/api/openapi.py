"""The OpenAPI document: that of FastAPI, with examples, curl lines, problem documents and the API key."""

import shlex
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from slicewise.serving.api.access import API_KEY, OPEN_PATHS
from slicewise.serving.api.examples import EXAMPLES, Example
from slicewise.serving.api.problems import FieldFault, Problem
from slicewise.serving.api.routes.shared import problems

Json = dict[str, Any]
CODE_SAMPLES: Final = "x-codeSamples"
_OWN_ERRORS: Final = ("HTTPValidationError", "ValidationError")
"""Schemas of FastAPI's own error documents, which no response has"""
_REQUEST_ID: Final[Json] = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "a word by which GET /queue finds this request; the response has it, too",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    "example": "my-request-1",
}
_RETRY_AFTER: Final = {"description": "seconds to wait", "schema": {"type": "integer"}}
_COMMON: Final = problems(status_400="A query parameter or form field that is unknown or sent twice")
_INVALID: Final = problems(status_422="A parameter has an invalid value")
_NO_KEY: Final = problems(status_401="No API key, or a wrong one")


def make_document(app: FastAPI, base_url: str, *, has_key: bool) -> Json:
    """Return the OpenAPI document of the application, whose examples are for `base_url`."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    for name in _OWN_ERRORS:
        schemas.pop(name, None)
    for model in (Problem, FieldFault):
        schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas["Problem"].pop("$defs", None)
    if has_key:
        scheme = {"type": "apiKey", "in": "header", "name": API_KEY}
        document["components"]["securitySchemes"] = {"ApiKey": scheme}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            key = has_key and path not in OPEN_PATHS
            _complete(operation, EXAMPLES[f"{method.upper()} {path}"], method, secured=key)
            line = " ".join(_curl(method, path, operation, EXAMPLES[f"{method.upper()} {path}"], base_url))
            operation[CODE_SAMPLES] = [{"lang": "Shell", "source": line}]
    return document


def _complete(operation: Json, example: Example, method: str, *, secured: bool) -> None:
    """Add what FastAPI does not know to an operation: errors, the API key, examples."""
    operation["responses"] = _with_errors(operation["responses"], secured)
    if secured:
        operation["security"] = [{"ApiKey": []}]
    if method == "post":
        operation.setdefault("parameters", []).append(_REQUEST_ID)
    values = {**example.path, **example.query}
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in values:
            parameter["example"] = values[parameter["name"]]
    for media in operation.get("requestBody", {}).get("content", {}).values():
        media["example"] = _form_example(example)
    _add_response_examples(operation["responses"]["200"]["content"], example)


def _with_errors(responses: Json, secured: bool) -> Json:
    """Return the responses with the errors that every route has, in the order of their codes."""
    if "application/json" in responses.get("422", {}).get("content", {}):  # FastAPI's default
        responses = {**responses, "422": _INVALID[422]}
    common = {str(status): text for status, text in {**_COMMON, **(_NO_KEY if secured else {})}.items()}
    responses = dict(sorted({**common, **responses}.items()))
    if "503" in responses:
        responses["503"] = {**responses["503"], "headers": {"Retry-After": _RETRY_AFTER}}
    return responses


def _add_response_examples(content: Json, example: Example) -> None:
    for name, media in content.items():
        if name in ("application/json", "text/plain"):
            media["example"] = example.response
        if name != "application/json":
            media.setdefault("schema", {"type": "string"})
            if name != "text/plain":
                media["schema"] = {"type": "string", "format": "binary"}
                media["example"] = f"(bytes of {name})"


def _form_example(example: Example) -> Json:
    """Return a form as JSON; a field that is sent twice is a list."""
    names = [name for name, _ in example.form]
    values: Json = {}
    for name, value in example.form:
        text = value.removeprefix("@")
        values[name] = [*values.get(name, ()), text] if names.count(name) > 1 else text
    return values


def _curl(method: str, path: str, operation: Json, example: Example, base_url: str) -> Iterator[str]:
    yield "curl"
    if operation.get("security"):
        yield f'-H "{API_KEY}: $KEY"'
    if method == "post" and not example.form:
        yield "-X POST"
    for name, value in example.form:
        yield f"-F {shlex.quote(f'{name}={value}')}"
    if example.output:
        yield f"-o {example.output}"
    address = base_url + path.format(**example.path)
    if example.query:
        address += "?" + "&".join(f"{name}={value}" for name, value in example.query.items())
    yield shlex.quote(address)
