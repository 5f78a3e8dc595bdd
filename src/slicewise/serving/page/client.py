"""The page's way to the API."""

from collections.abc import Sequence
from typing import Any

import httpx

from slicewise.core.errors import ServingError

_TIMEOUT = httpx.Timeout(600.0, connect=3.0)

FileField = tuple[str, tuple[str, bytes]]


class ApiClient:
    """Calls the API over HTTP.

    Args:
        base_url: where it answers, such as http://127.0.0.1:8601.

    Raises:
        ServingError: (every method) the API is down, or answered with an error, which the message repeats.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        # trust_env: a proxy set for the network must not stand between two programs of this machine.
        self._http = httpx.Client(base_url=base_url, timeout=_TIMEOUT, trust_env=False)

    def model_info(self) -> dict[str, Any]:
        info: dict[str, Any] = self._request("GET", "/model/info").json()
        return info

    def cases(self) -> list[dict[str, Any]]:
        cases: list[dict[str, Any]] = self._request("GET", "/cases").json()
        return cases

    def predict_case(self, name: str) -> dict[str, Any]:
        prediction: dict[str, Any] = self._request("POST", f"/cases/{name}/predict").json()
        return prediction

    def predict_files(self, files: Sequence[FileField], *, gradcam: bool) -> dict[str, Any]:
        """Examine uploads, each under the form field `file` (a picture) or of its modality (a volume)."""
        params = {"gradcam": str(gradcam).lower()}
        prediction: dict[str, Any] = self._request(
            "POST", "/predict", files=list(files), params=params
        ).json()
        return prediction

    def slice_png(self, result: str, index: int, layer: str) -> bytes:
        return self._request("GET", f"/results/{result}/slices/{index}.png", params={"layer": layer}).content

    def mask_nifti(self, result: str) -> bytes:
        return self._request("GET", f"/results/{result}/mask.nii.gz").content

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TimeoutException as error:
            raise ServingError("The API did not answer in time; try again, or look at its log.") from error
        except httpx.HTTPError as error:
            raise ServingError(
                f"The API at {self.base_url} does not answer. It may be starting: wait a moment and reload. "
                "If it stays away, start the demo again and look at logs/demo-api.log."
            ) from error
        if response.is_error:
            raise ServingError(_error_message(response))
        return response


def _error_message(response: httpx.Response) -> str:
    try:
        reason = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        reason = f"the API answered {response.status_code}; its log says why"
    return reason
