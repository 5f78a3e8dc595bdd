"""HTTP client of the API for the page."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from slicewise.core.errors import ServingError
from slicewise.serving import API_KEY_FILE_VARIABLE, API_URL_VARIABLE
from slicewise.serving.page import wording

_TIMEOUT = httpx.Timeout(600.0, connect=3.0)
_FULL: Final = 503

FileField = tuple[str, tuple[str, bytes]]


def key_header() -> dict[str, str]:
    """Return the API key of the file that the environment names, as the header of requests."""
    path = os.environ.get(API_KEY_FILE_VARIABLE)
    return {"X-API-Key": Path(path).read_text("utf-8").strip()} if path else {}


class ApiClient:
    """Calls the API over HTTP at an address such as http://127.0.0.1:8601.

    Raises:
        ServingError: (every method) the API is down, or returned a problem, whose detail is repeated.
    """

    def __init__(self, base_url: str) -> None:
        # trust_env: a proxy in the environment must not be used between two programs of this machine.
        self._http = httpx.Client(base_url=base_url, timeout=_TIMEOUT, trust_env=False, headers=key_header())

    @classmethod
    def from_environment(cls) -> "ApiClient":
        return cls(os.environ[API_URL_VARIABLE])

    def close(self) -> None:
        """End the connections; a request that waits in another thread fails, and the API drops it."""
        self._http.close()

    def model_info(self) -> Any:
        return self._request("GET", "/model/info").json()

    def cases(self) -> Any:
        return self._request("GET", "/cases").json()

    def finding(self, key: str) -> Any:
        return self._request("GET", f"/results/{key}").json()

    def predict_case(self, name: str, *, request: str = "") -> Any:
        headers = {"X-Request-Id": request}
        return self._request("POST", f"/cases/{name}/predict", headers=headers).json()

    def predict_files(
        self, files: Sequence[FileField], modality: str | None = None, *, request: str = ""
    ) -> Any:
        """Predict uploads, each under the form field `file` or of its modality."""
        return self._upload("/predict", files, modality, request)

    def analyze_patient(
        self, files: Sequence[FileField], modality: str | None = None, *, request: str = ""
    ) -> Any:
        """Predict a volume, a zip of a DICOM series or of slices, with a mask to compare under `truth`."""
        return self._upload("/patient/analyze", files, modality, request)

    def place_in_queue(self, request: str) -> int | None:
        """Return how many requests are before this one; None if it is not waiting, or this is unknown."""
        try:
            position = self._request("GET", "/queue", params={"request": request}).json()["position"]
        except (ServingError, KeyError, TypeError, ValueError):
            return None  # a wait without its place is better than an error about the place
        return position if isinstance(position, int) else None

    def download(self, path: str) -> bytes:
        """Return a file of a finding, such as `/results/ID/mask.nii.gz`."""
        return self._request("GET", path).content

    def _upload(self, path: str, files: Sequence[FileField], modality: str | None, request: str) -> Any:
        return self._request(
            "POST",
            path,
            files=list(files),
            data={} if modality is None else {"modality": modality},
            params={"gradcam": True} if path == "/predict" else {},
            headers={"X-Request-Id": request},
        ).json()

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TimeoutException as error:
            raise ServingError("The model did not respond in time; try again in a moment.") from error
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed while it waited
            raise ServingError(
                f"The API at {self._http.base_url} does not respond. It may be starting: wait a moment and "
                "reload. If this lasts, start the demo again and see logs/demo-api.log."
            ) from error
        if response.is_error:
            raise ServingError(describe_problem(response))
        return response


def new_request_id() -> str:
    return secrets.token_urlsafe(12)


def describe_problem(response: httpx.Response) -> str:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, Mapping) or not isinstance(problem.get("detail"), str):
        return f"The API returned status {response.status_code}; see its log."
    reason = wording.sentence(problem["detail"])
    if response.status_code == _FULL and (seconds := response.headers.get("retry-after")):
        reason = reason.partition("; send")[0].removesuffix(".") + f". Try again in {seconds} seconds."
    return reason
