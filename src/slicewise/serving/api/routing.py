"""Forms of requests, checked before FastAPI reads them.

FastAPI ignores unknown fields, takes one of two fields of the same name, and reports a full temporary folder
as a body that cannot be parsed.
"""

from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from slicewise.serving.api.errors import RequestError, map_storage_errors
from slicewise.serving.api.uploads import display_name


class StrictRoute(APIRoute):
    """A route that refuses form fields and query parameters that are unknown or sent twice."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            parameters = [parameter.alias for parameter in self.dependant.query_params]
            require_known("query parameter", parameters, request.query_params.multi_items())
            form = await _read_form(request)
            try:
                fields = [field.alias for field in self.dependant.body_params]
                require_known("form field", fields, form.multi_items())
                return await handle(request)
            finally:
                await form.close()

        return handle_strictly


async def _read_form(request: Request) -> FormData:
    """Read the whole form; files over 1 MiB go to the temporary folder as they arrive.

    Raises:
        RequestError: 507 or 503 if that folder is full or gone.
        HTTPException: 400, the body is not a form, or the client disconnected.
    """
    try:
        with map_storage_errors():
            return await request.form()
    except (RequestError, HTTPException):
        raise
    except ClientDisconnect as error:
        raise HTTPException(400, "the client disconnected before the end of its upload") from error
    except Exception as error:
        message = "the body cannot be parsed; send it as multipart/form-data (`curl -F FIELD=@FILE`)"
        raise HTTPException(400, message) from error


def require_known(kind: str, known: Collection[str], sent: Iterable[tuple[str, Any]]) -> None:
    """Refuse unknown and repeated fields: a modality or a setting that is ignored changes the prediction.

    Raises:
        RequestError: 400; it names the fields.
    """
    counts = Counter(name for name, _ in sent)
    if unknown := [display_name(name) for name in counts if name not in known]:
        hint = f"the {kind.split()[-1]}s are {', '.join(known)}" if known else "this address takes none"
        raise RequestError(400, f"there is no {kind} {', '.join(dict.fromkeys(unknown))}; {hint}")
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise RequestError(
            400,
            f"the {kind} {', '.join(repeated)} was sent more than once; send one case in a request",
        )
