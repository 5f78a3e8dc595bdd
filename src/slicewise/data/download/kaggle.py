"""Fetches a data set from Kaggle: resumed, verified, unpacked, and in place only when complete.

The SDK of the `kaggle` package is used without that package, because `import kaggle` signs in and prints. No
credential is ever logged, written or put into a message.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import requests
from kagglesdk import KaggleClient, get_access_token_from_env
from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest
from requests.adapters import HTTPAdapter

from slicewise.core.errors import DownloadError
from slicewise.core.files import parse_json, read_json, write_json
from slicewise.data.download.archive import (
    TIMEOUT_SECONDS,
    BrokenTransferError,
    partial_path,
    receive_file,
    unpack_zip,
)

log = logging.getLogger(__name__)

RECEIPT: Final = ".kaggle.json"
"""Marks a finished download."""
HOW_TO_SIGN_IN: Final = """\
To sign in to Kaggle, create a token at https://www.kaggle.com/settings/api ("Generate New Token"), then
    export KAGGLE_API_TOKEN=<the token>
or save it to ~/.kaggle/access_token, or save an older kaggle.json to ~/.kaggle/kaggle.json
(or export KAGGLE_USERNAME and KAGGLE_KEY), and run the same command again.
Without an account: data=phantom uses generated patients, and data.sources.volumes.path=<folder> (for pictures
data.sources.pictures.path=<folder>) reads a data set that is already on this machine."""
_SLUG = re.compile(r"(?P<owner>[A-Za-z0-9_-]+)/(?P<dataset>[A-Za-z0-9_-]+)")
_LONGEST_WAIT_SECONDS: Final = 60.0
_TRANSIENT: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)
_BROKEN: Final = (
    BrokenTransferError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


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


def fetch_kaggle(slug: str, destination: Path, *, retries: int = 5, backoff_seconds: float = 1.0) -> Path:
    """Download and unpack a Kaggle data set; return `destination`.

    A finished download is returned as it is. An interrupted one continues from the archive's last byte. The
    disk must hold the archive and its contents at once.

    Args:
        slug: `owner/dataset`, as in the address of its page.
        destination: the new folder; archive and parts lie beside it until it is complete.
        retries: largest number of failed attempts in a row without a byte received.
        backoff_seconds: wait before the second attempt; it doubles with each one.

    Raises:
        DownloadError: credentials are missing or refused, the data set is not found, or the network is down.
        WorkspaceError: the disk is too small.
    """
    match = _SLUG.fullmatch(slug)
    if match is None:
        raise DownloadError(
            f"{slug!r} is not a Kaggle data set; write owner/dataset, as in its page's address"
        )
    if _is_finished(slug, destination):
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    archive = destination.with_name(f"{match['owner']}-{match['dataset']}.zip")
    if not archive.is_file():
        _download(slug, archive, retries, backoff_seconds)
    _unpack(slug, archive, destination)
    return destination


def _is_finished(slug: str, destination: Path) -> bool:
    receipt = destination / RECEIPT
    note = read_json(receipt) if receipt.is_file() else None
    if isinstance(note, dict) and note.get("dataset") == slug:
        return True
    if destination.exists() and any(destination.iterdir()):
        raise DownloadError(
            f"{destination} holds files that are not a finished download of {slug}; move them away, or read "
            f"them as they are with data.sources.volumes.path={destination} (or the key of the other source)"
        )
    return False


def _unpack(slug: str, archive: Path, destination: Path) -> None:
    partial = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        num_files = unpack_zip(archive, partial)
    except DownloadError as error:
        archive.unlink()
        shutil.rmtree(partial, ignore_errors=True)
        raise DownloadError(f"{error}; the archive was deleted, run the same command again") from error
    receipt = {"dataset": slug, "files": num_files, "archive_bytes": archive.stat().st_size}
    write_json(partial / RECEIPT, receipt)
    if destination.exists():
        destination.rmdir()
    partial.rename(destination)
    archive.unlink()
    log.info("%s: %d files from Kaggle's %s", destination, num_files, slug)


def _download(slug: str, archive: Path, retries: int, backoff_seconds: float) -> None:
    credentials = find_credentials()
    failures = 0
    while True:
        before, retry_after = _num_received(archive), 0.0
        failures += 1
        try:
            with _open_archive(slug, credentials) as response:
                return receive_file(response, archive, slug)
        except _BROKEN as error:
            failures = 1 if _num_received(archive) > before else failures
            reason = str(error) if isinstance(error, BrokenTransferError) else type(error).__name__
        except requests.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            header = "" if error.response is None else error.response.headers.get("Retry-After", "")
            retry_after = float(header) if header.isdecimal() else 0.0
            reason = f"HTTP {status}"
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TRANSIENT:
                raise _refusal(slug, status, credentials) from None
        if failures > retries:
            raise _retries_exhausted(slug, reason, archive, credentials)
        wait = min(max(retry_after, backoff_seconds * 2 ** (failures - 1)), _LONGEST_WAIT_SECONDS)
        log.warning("Download of %s failed (%s); next attempt in %.0f s", slug, reason, wait)
        time.sleep(wait)


@contextmanager
def _open_archive(slug: str, credentials: Credentials) -> Iterator[requests.Response]:
    """Request a whole data set and yield the streamed response, redirects followed.

    Raises:
        requests.RequestException: Kaggle refused, or could not be reached.
    """
    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = slug.split("/")
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


def _refusal(slug: str, status: int, credentials: Credentials) -> DownloadError:
    page = f"https://www.kaggle.com/datasets/{slug}"
    if status == HTTPStatus.NOT_FOUND:
        return DownloadError(
            f"Kaggle knows no data set {slug}; check {page} and the key `kaggle` in configs/data/"
        )
    if credentials.anonymous and status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return DownloadError(
            f"Kaggle requires you to sign in for {slug} and no credentials are set.\n{HOW_TO_SIGN_IN}"
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return DownloadError(f"Kaggle did not accept the credentials (expired?).\n{HOW_TO_SIGN_IN}")
    if status == HTTPStatus.FORBIDDEN:
        return DownloadError(
            f"Kaggle refuses {slug} to your account: open {page} in a browser, accept its terms, and run the "
            "same command again"
        )
    return DownloadError(f"Kaggle returned HTTP {status} for {slug}; check {page} and try again later")


def _retries_exhausted(slug: str, reason: str, archive: Path, credentials: Credentials) -> DownloadError:
    size, part = _num_received(archive), partial_path(archive)
    progress = f"{size:,} bytes are kept in {part} and will be continued" if size else "nothing was received"
    hint = f"\nThere are no Kaggle credentials either. {HOW_TO_SIGN_IN}" if credentials.anonymous else ""
    return DownloadError(
        f"{slug} could not be fetched from Kaggle ({reason}; {progress}): check the network and run the "
        f"same command again{hint}"
    )


def _num_received(archive: Path) -> int:
    part = partial_path(archive)
    return part.stat().st_size if part.is_file() else 0
