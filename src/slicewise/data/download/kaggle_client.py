"""Kaggle's API: the credentials, and the response with a data set.

The SDK of the `kaggle` package is used without that package, because `import kaggle` signs in and prints. No
credential is ever logged, written or put into a message.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter

from slicewise.core.errors import DownloadError
from slicewise.core.files import parse_json
from slicewise.data.download.transfer import TIMEOUT_SECONDS

HOW_TO_SIGN_IN: Final = """\
To sign in to Kaggle, create a token at https://www.kaggle.com/settings/api ("Generate New Token"), then
    export KAGGLE_API_TOKEN=<the token>
or save it to ~/.kaggle/access_token, or save an older kaggle.json to ~/.kaggle/kaggle.json
(or export KAGGLE_USERNAME and KAGGLE_KEY), and run the same command again.
Without an account: data=phantom uses generated patients, and data.sources.volumes.path=<folder> (for pictures
data.sources.pictures.path=<folder>) reads a data set that is already on this machine."""


@dataclass(frozen=True)
class Credentials:
    """A token, or a user name with a key; hidden in a repr."""

    token: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    @property
    def anonymous(self) -> bool:
        return self.token is None and self.key is None


def find_credentials() -> Credentials:
    """Return the first credentials, in the order of Kaggle's own client; anonymous ones where there are none.

    KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME with KAGGLE_KEY, kaggle.json.

    Raises:
        DownloadError: a kaggle.json is damaged.
    """
    # The SDK ships no type information.
    from kagglesdk import get_access_token_from_env

    token, _ = get_access_token_from_env()
    if token:
        return Credentials(token=str(token).strip())
    username, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if username and key:
        return Credentials(username=username, key=key)
    config_dir = os.environ.get("KAGGLE_CONFIG_DIR")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    folders = [Path(config_dir)] if config_dir else [Path.home() / ".kaggle", config / "kaggle"]
    path = next((path for folder in folders if (path := folder / "kaggle.json").is_file()), None)
    return Credentials() if path is None else _read_kaggle_json(path)


def _read_kaggle_json(path: Path) -> Credentials:
    try:
        value = parse_json(path.read_bytes())
        return Credentials(username=str(value["username"]), key=str(value["key"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise DownloadError(
            f"{path} is not the kaggle.json that Kaggle hands out; save it again.\n{HOW_TO_SIGN_IN}"
        ) from None


@contextmanager
def open_archive(owner: str, dataset: str, credentials: Credentials) -> Iterator[requests.Response]:
    """Request a whole data set and yield the streamed response, redirects followed.

    Raises:
        requests.RequestException: Kaggle refused, or could not be reached.
    """
    from kagglesdk import KaggleClient
    from kagglesdk.datasets.types.dataset_api_service import (
        ApiDownloadDatasetRequest,
    )

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, dataset
    client = KaggleClient(
        username=credentials.username,
        password=credentials.key,
        api_token=credentials.token,
        user_agent="slicewise",
    )
    with client:
        session = client.http_client()._session
        for scheme in ("https://", "http://"):
            session.mount(scheme, _TimedAdapter())
        try:
            response: requests.Response = client.datasets.dataset_api_client.download_dataset(request)
        except requests.HTTPError as error:
            if error.response is not None:
                error.response.close()
            raise
        with response:
            yield response


class _TimedAdapter(HTTPAdapter):
    """Adds the timeout that the SDK lacks."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or TIMEOUT_SECONDS
        return super().send(request, *args, **kwargs)
