"""HTTP client of the API for the page."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from slicewise.core.errors import ServingError
from slicewise.serving import API_KEY_FILE_VARIABLE

_TIMEOUT = httpx.Timeout(600.0, connect=3.0)


def _key_header() -> dict[str, str]:
    """Return the API key of the file that the environment names, as the header of requests."""
    path = os.environ.get(API_KEY_FILE_VARIABLE)
    return {"X-API-Key": Path(path).read_text("utf-8").strip()} if path else {}


FileField = tuple[str, tuple[str, bytes]]


class ApiClient:
    """Calls the API over HTTP at an address such as http://127.0.0.1:8601.

    Raises:
        ServingError: (every method) the API is down, or returned an error, which the message repeats.
    """

    def __init__(self, base_url: str) -> None:
        # trust_env: a proxy in the environment must not be used between two programs of this machine.
        self._http = httpx.Client(base_url=base_url, timeout=_TIMEOUT, trust_env=False, headers=_key_header())

    def model_info(self) -> Any:
        return self._request("GET", "/model/info").json()

    def cases(self) -> Any:
        return self._request("GET", "/cases").json()

    def predict_case(self, name: str) -> Any:
        return self._request("POST", f"/cases/{name}/predict").json()

    def predict_files(self, files: Sequence[FileField]) -> Any:
        """Predict uploads, each under the form field `file` (a picture) or of its modality (a volume)."""
        return self._request("POST", "/predict", files=list(files), params={"gradcam": True}).json()

    def slice_png(self, result: str, index: int, layer: str) -> bytes:
        return self._request("GET", f"/results/{result}/slices/{index}.png", params={"layer": layer}).content

    def mask_nifti(self, result: str) -> bytes:
        return self._request("GET", f"/results/{result}/mask.nii.gz").content

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TimeoutException as error:
            raise ServingError("The API did not respond in time; try again, or see its log.") from error
        except httpx.HTTPError as error:
            raise ServingError(
                f"The API at {self._http.base_url} does not respond. It may be starting: wait a moment and "
                "reload. If this lasts, start the demo again and see logs/demo-api.log."
            ) from error
        if response.is_error:
            try:
                reason = str(response.json()["detail"])
            except (ValueError, KeyError, TypeError):
                reason = f"The API returned status {response.status_code}; see its log."
            raise ServingError(reason)
        return response
