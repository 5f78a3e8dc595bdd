"""A remote workspace: finished outputs in a folder or a bucket, from where others pull them.

    <address>/outputs/<step>/<fingerprint>/receipt.json   what the output was made from, and its files
    <address>/files/<first two digits>/<SHA-256>          their content, once for all outputs that share it

The receipt is written last: where it is, its files are. Whoever pulls trusts nothing but the digests: a
receipt must be that of the fingerprint, and a file must have the size and the SHA-256 that the receipt names
before it gets its name.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from slicewise.core.console import progress_bar
from slicewise.core.disk import expand_user
from slicewise.core.errors import RemoteError, SliceWiseError, UsageError
from slicewise.core.files import atomic_write
from slicewise.core.redact import redact
from slicewise.engine.receipt import FileChecksum, Receipt

_MAX_RECEIPT_BYTES: Final = 1 << 28
_CHUNK: Final = 1 << 20
_THREADS: Final = 8
"""Transfers at a time: of small files most of the time is waiting"""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_STEP: Final = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Transfer:
    """A file on its way: where it lies or will lie here, and what it must be."""

    path: Path
    checksum: FileChecksum


class Remote:
    """A folder, or any address that fsspec knows, such as `s3://bucket/folder`.

    Raises:
        UsageError: the address is of an unknown kind, or the package for it is not installed.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        is_folder = "://" not in address and "::" not in address
        self.name = redact(address)
        try:
            self._files, root = fsspec.core.url_to_fs(
                str(expand_user(address).absolute()) if is_folder else address
            )
        except ImportError as error:
            raise UsageError(
                f"{self.name} needs another package ({error}): install slicewise[remote] (in a checkout: "
                "uv pip install -r requirements/remote.lock)"
            ) from error
        except ValueError as error:
            raise UsageError(
                f"{self.name}: {error}; name a folder, or an address such as s3://bucket/folder"
            ) from error
        self._root = root.rstrip("/")
        self._files.invalidate_cache()

    def receipt(self, step: str, fingerprint: str) -> Receipt | None:
        """Return the receipt of an output; None where the output is not there.

        Raises:
            RemoteError: it is damaged, or that of another output.
        """
        path = self._receipt_path(step, fingerprint)
        with self._reached():
            if self._info(path) is None:
                return None
            with self._files.open(path, "rb") as stream:
                content: bytes = stream.read(_MAX_RECEIPT_BYTES)
        receipt = Receipt.parse(content)
        if receipt is None:
            raise RemoteError(f"{self.name}: the receipt {path} is damaged; push the output again")
        if (receipt.identity.step, receipt.fingerprint) != (step, fingerprint):
            raise RemoteError(
                f"{self.name}: {path} is the receipt of another output, {receipt.identity.step} "
                f"{receipt.fingerprint[:12]}; it is not used"
            )
        return receipt

    def steps(self) -> list[str]:
        """Return the steps of which there are outputs."""
        return [name for name in self._list("outputs") if _STEP.fullmatch(name)]

    def fingerprints(self, step: str) -> list[str]:
        """Return the fingerprints of the outputs of a step."""
        return [name for name in self._list(f"outputs/{step}") if _SHA256.fullmatch(name)]

    def receipts(self, step: str) -> Iterator[Receipt]:
        """Yield every readable receipt of a step."""
        for fingerprint in self.fingerprints(step):
            try:
                receipt = self.receipt(step, fingerprint)
            except RemoteError:
                continue  # `receipt` raises it where this output is requested
            if receipt is not None:
                yield receipt

    def upload(self, transfers: Sequence[Transfer]) -> None:
        """Write files under the names of their content.

        Raises:
            RemoteError: a file was changed since it was made, or the remote cannot be written.
        """
        self._map(self._upload_file, transfers, "Pushing")

    def missing(self, transfers: Iterable[Transfer]) -> list[Transfer]:
        """Return the files whose content is not there, each content once."""
        by_content = {each.checksum.sha256: each for each in transfers}
        with ThreadPoolExecutor(_THREADS) as pool:
            known = pool.map(self._has, [each.checksum for each in by_content.values()])
            return [each for each, is_there in zip(by_content.values(), known, strict=True) if not is_there]

    def write_receipt(self, receipt: Receipt) -> None:
        """Write the receipt of an output whose files are there."""
        path = self._receipt_path(receipt.identity.step, receipt.fingerprint)
        with self._reached():
            self._make_folder(path)
            self._files.pipe_file(path, receipt.to_bytes())

    def download(self, transfers: Sequence[Transfer]) -> None:
        """Write files, each one checked before it has its name.

        Raises:
            RemoteError: one of them is missing, or is not what its checksum says.
        """
        self._map(self._download_file, transfers, "Pulling")

    def _upload_file(self, transfer: Transfer) -> None:
        path = self._file_path(transfer.checksum)
        with self._reached():
            before = _identity(transfer.path)
            fault = transfer.checksum.fault(transfer.path, read=True)
            if fault is None:
                self._make_folder(path)
                self._files.put_file(str(transfer.path), path)
                if _identity(transfer.path) == before:
                    return
                self._files.rm_file(path)
        raise RemoteError(
            f"{transfer.path} {fault or 'was replaced'} since it was made; `slicewise verify` lists all such "
            "files"
        )

    def _download_file(self, transfer: Transfer) -> None:
        checksum, target = transfer.checksum, transfer.path
        path = self._file_path(checksum)
        with self._reached():
            if self._info(path) is None:
                raise RemoteError(
                    f"{self.name}: {path} is missing, content of {target.name}; push the output again"
                )
        sha, size, wanted = hashlib.sha256(), 0, (checksum.size, checksum.sha256)
        with (
            self._reached(),
            self._files.open(path, "rb") as source,
            atomic_write(target, durable=False) as stream,
        ):
            while size <= checksum.size and (chunk := source.read(_CHUNK)):
                sha.update(chunk)
                size += len(chunk)
                stream.write(chunk)
            if (size, sha.hexdigest()) != wanted:
                raise RemoteError(
                    f"{self.name}: {path}, content of {target.name}, is not what the receipt says ("
                    "SHA-256 or size differ); it is not used. Move it away there, and push again"
                )

    def _map(self, function: Callable[[Transfer], None], transfers: Sequence[Transfer], desc: str) -> None:
        total = sum(each.checksum.size for each in transfers)
        with progress_bar(desc=desc, total=total, unit="B") as bar, ThreadPoolExecutor(_THREADS) as pool:
            running = {pool.submit(function, each): each for each in transfers}
            try:
                for future in as_completed(running):
                    future.result()
                    bar.update(running[future].checksum.size)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _has(self, checksum: FileChecksum) -> bool:
        """Whether a content is there; one of another size is what a stopped push left."""
        with self._reached():
            info = self._info(self._file_path(checksum))
        return info is not None and info.get("size") == checksum.size

    def _receipt_path(self, step: str, fingerprint: str) -> str:
        return f"{self._root}/outputs/{step}/{fingerprint}/receipt.json"

    def _file_path(self, checksum: FileChecksum) -> str:
        if not _SHA256.fullmatch(checksum.sha256):
            raise RemoteError(f"{self.name}: {checksum.sha256[:80]!r} is no SHA-256; the receipt is not used")
        return f"{self._root}/files/{checksum.sha256[:2]}/{checksum.sha256}"

    def _list(self, folder: str) -> list[str]:
        with self._reached():
            try:
                paths = self._files.ls(f"{self._root}/{folder}", detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in paths)

    def _info(self, path: str) -> dict[str, Any] | None:
        """Return what is known of a file, or None where it is missing.

        Raises:
            RemoteError: a link leads out of the remote folder.
        """
        if self._is_local and not Path(path).resolve().is_relative_to(self._local_root):
            raise RemoteError(f"{self.name}: {path} is a link that leads out of the folder; it is not used")
        try:
            info: dict[str, Any] = self._files.info(path)
        except FileNotFoundError:
            return None
        return info

    def _make_folder(self, path: str) -> None:
        """Create the folder of a file; a bucket has none."""
        if self._is_local:
            self._info(path)  # before anything is written through a link
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)

    @cached_property
    def _is_local(self) -> bool:
        return "file" in self._files.protocol

    @cached_property
    def _local_root(self) -> Path:
        return Path(self._root).resolve()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Explain whatever a file system, a library or a server raises in the block."""
        try:
            yield
        except SliceWiseError:
            raise
        except Exception as error:
            reason = redact(f"{type(error).__name__}: {error}".splitlines()[0])
            raise RemoteError(
                f"{self.name} cannot be used ({reason}); check the address, the permissions and, for a "
                "bucket, the network and the credentials (as of `aws configure`; AWS_ENDPOINT_URL)"
            ) from error


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when another file takes the place of this one; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
