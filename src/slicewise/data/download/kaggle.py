"""Fetches a data set from Kaggle: resumed, verified, unpacked, and in place only when complete."""

import logging
import re
import shutil
import time
from http import HTTPStatus
from pathlib import Path
from typing import Final

import requests

from slicewise.core.errors import DownloadError
from slicewise.core.files import read_json, write_json
from slicewise.data.download.archive import unpack_zip
from slicewise.data.download.kaggle_client import HOW_TO_SIGN_IN, Credentials, find_credentials, open_archive
from slicewise.data.download.transfer import BrokenTransferError, partial_path, receive_file

log = logging.getLogger(__name__)

RECEIPT: Final = ".kaggle.json"
"""Marks a finished download."""
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
        _download(match["owner"], match["dataset"], archive, retries, backoff_seconds)
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
    write_json(
        partial / RECEIPT, {"dataset": slug, "files": num_files, "archive_bytes": archive.stat().st_size}
    )
    if destination.exists():
        destination.rmdir()
    partial.rename(destination)
    archive.unlink()
    log.info("%s: %d files from Kaggle's %s", destination, num_files, slug)


def _download(owner: str, dataset: str, archive: Path, retries: int, backoff_seconds: float) -> None:
    credentials = find_credentials()
    failures = 0
    while True:
        before = _size(partial_path(archive))
        try:
            with open_archive(owner, dataset, credentials) as response:
                return receive_file(response, archive, f"{owner}/{dataset}")
        except _BROKEN as error:
            failures = 1 if _size(partial_path(archive)) > before else failures + 1
            wait = backoff_seconds * 2 ** (failures - 1)
            reason = str(error) if isinstance(error, BrokenTransferError) else type(error).__name__
        except requests.HTTPError as error:
            failures += 1
            status = 0 if error.response is None else error.response.status_code
            header = "" if error.response is None else error.response.headers.get("Retry-After", "")
            retry_after = float(header) if header.isdecimal() else 0.0
            wait = max(retry_after, backoff_seconds * 2 ** (failures - 1))
            reason = f"HTTP {status}"
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TRANSIENT:
                raise _refusal(f"{owner}/{dataset}", status, credentials) from None
        if failures > retries:
            raise _retries_exhausted(f"{owner}/{dataset}", reason, archive, credentials)
        log.warning("Download of %s/%s failed (%s); next attempt in %.0f s", owner, dataset, reason, wait)
        time.sleep(min(wait, _LONGEST_WAIT_SECONDS))


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
    size, part = _size(partial_path(archive)), partial_path(archive)
    progress = f"{size:,} bytes are kept in {part} and will be continued" if size else "nothing was received"
    hint = f"\nThere are no Kaggle credentials either. {HOW_TO_SIGN_IN}" if credentials.anonymous else ""
    return DownloadError(
        f"{slug} could not be fetched from Kaggle ({reason}; {progress}): check the network and run the "
        f"same command again{hint}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
