"""Findings on disk and the latest ones in memory: bounded by number, size and age, kept over a restart."""

import logging
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from slicewise.config.schema import Serving
from slicewise.core.disk import MIB, describe_disk_error
from slicewise.core.files import atomic_write, sweep
from slicewise.core.hashing import digest
from slicewise.inference.pipeline import Pipeline
from slicewise.serving.api.findings import Finding, OtherModelError, read_finding, write_finding
from slicewise.serving.api.problems import RequestError

_SUFFIX: Final = ".finding"
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16}")
_MAX_MEMORY: Final = 512 * MIB
_MAX_IN_MEMORY: Final = 64
_MAX_UNWRITTEN: Final = 4
"""Findings that wait for the disk; a further one waits for them."""
_SECONDS_PER_HOUR: Final = 3600
_LOG = logging.getLogger(__name__)


class ResultStore:
    """The findings of one model, by ids that cannot be guessed; threads may share it.

    The least recently used go first, from memory and from disk. A file's time is that of its last use.
    Without a folder, findings are in memory alone.
    """

    def __init__(self, folder: Path | None, pipeline: Pipeline, settings: Serving) -> None:
        self._folder = folder if settings.results_mib else None
        self._pipeline, self._settings = pipeline, settings
        described = pipeline.to_json()
        deciding = [described[name] for name in ("fingerprint", "operating_points")]
        self._model = digest([*deciding, pipeline.inference._asdict()])
        self._lock = threading.RLock()
        self._memory: OrderedDict[str, Finding] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._used: dict[str, float] = {}
        self._unwritten: dict[str, Finding] = {}
        self._places = threading.Semaphore(_MAX_UNWRITTEN)
        self._writer = ThreadPoolExecutor(1, "results")
        if self._folder is not None:
            self._open(self._folder)

    @staticmethod
    def new_key() -> str:
        """Return an id that cannot be guessed."""
        return secrets.token_urlsafe(12)

    def __len__(self) -> int:
        """Return the number of results on disk."""
        return len(self._sizes)

    def add(self, finding: Finding) -> None:
        """Keep a finding; it is written to disk in the background."""
        with self._lock:
            self._remember(finding)
            if self._folder is not None:
                self._unwritten[finding.key] = finding
        if self._folder is not None:
            self._places.acquire()
            self._writer.submit(self._write, self._folder, finding)

    def get(self, key: str) -> Finding:
        """Return a finding and mark it as used.

        Raises:
            RequestError: 404, there is none with this id any more.
        """
        with self._lock:
            finding = self._memory.get(key) or self._unwritten.get(key)
        finding = finding or self._read(key)
        with self._lock:
            self._remember(finding)
        self._touch(key)
        return finding

    def trim(self) -> None:
        """Delete what is too old, or beyond the other bounds."""
        with self._lock:
            for key in [key for key, used in self._used.items() if self._is_old(used)]:
                self._memory.pop(key, None)
                del self._used[key]
            if self._folder is not None:
                self._trim_files(self._folder)

    def flush(self) -> None:
        """Wait until all findings are on disk."""
        self._writer.submit(lambda: None).result()

    def _open(self, folder: Path) -> None:
        """Find the files of earlier processes."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            sweep(folder)
            stats = [(path, path.stat()) for path in folder.glob(f"*{_SUFFIX}")]
        except OSError as error:
            _LOG.warning("%s: results are in memory only, %s", folder, describe_disk_error(error))
            self._folder = None
            return
        for path, stat in sorted(stats, key=lambda pair: pair[1].st_mtime):
            self._sizes[path.stem] = stat.st_size
        self.trim()

    def _remember(self, finding: Finding) -> None:
        self._memory[finding.key] = finding
        self._memory.move_to_end(finding.key)
        self._used[finding.key] = time.time()
        sizes = {key: each.num_bytes for key, each in self._memory.items()}
        while len(self._memory) > 1 and (
            sum(sizes.values()) > _MAX_MEMORY or len(self._memory) > _MAX_IN_MEMORY
        ):
            key, _ = self._memory.popitem(last=False)
            del sizes[key], self._used[key]

    def _write(self, folder: Path, finding: Finding) -> None:
        path = folder / f"{finding.key}{_SUFFIX}"
        try:
            with atomic_write(path, durable=False) as stream:
                write_finding(stream, finding, self._model)
            with self._lock:
                self._sizes[finding.key] = path.stat().st_size
                self._trim_files(folder)
        except OSError as error:
            _LOG.warning("%s: the result is in memory only, %s", path, describe_disk_error(error))
        except Exception:
            _LOG.exception("%s: the result is in memory only", path)
        finally:
            with self._lock:
                self._unwritten.pop(finding.key, None)
            self._places.release()

    def _read(self, key: str) -> Finding:
        path = self._folder and self._folder / f"{key}{_SUFFIX}"
        if path is None or not _KEY.fullmatch(key) or self._is_old(_last_use(path)):
            raise RequestError(404, self._absence("there is no result with this id (any more)"))
        try:
            return read_finding(path, key, self._pipeline, self._model)
        except OtherModelError:
            self._drop(key, path)
            raise RequestError(404, self._absence("this result is that of another model")) from None
        except Exception as error:
            _LOG.warning("%s is damaged and was deleted (%r)", path, error)
            self._drop(key, path)
            raise RequestError(404, self._absence("the file of this result was damaged")) from error

    def _absence(self, why: str) -> str:
        limits = self._settings
        return (
            f"{why}; the last {limits.max_results} results are kept for {limits.results_hours:g} h after "
            "they were last looked at: send the files again"
        )

    def _is_old(self, used: float) -> bool:
        return time.time() - used > self._settings.results_hours * _SECONDS_PER_HOUR

    def _touch(self, key: str) -> None:
        if self._folder is None:
            return
        with self._lock:
            if key in self._sizes:
                self._sizes.move_to_end(key)
        try:
            os.utime(self._folder / f"{key}{_SUFFIX}")
        except OSError:
            return  # not written yet, or just deleted

    def _trim_files(self, folder: Path) -> None:
        """Delete the least recently used files beyond the bounds."""
        limits = self._settings
        while self._sizes:
            oldest = next(iter(self._sizes))
            path = folder / f"{oldest}{_SUFFIX}"
            too_many = len(self._sizes) > limits.max_results
            too_large = sum(self._sizes.values()) > limits.results_mib * MIB
            if not (too_many or too_large or self._is_old(_last_use(path))):
                return
            self._drop(oldest, path)

    def _drop(self, key: str, path: Path) -> None:
        with self._lock:
            self._sizes.pop(key, None)
            self._memory.pop(key, None)
            self._used.pop(key, None)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _LOG.warning("%s cannot be deleted: %s", path, describe_disk_error(error))


def _last_use(path: Path) -> float:
    """Return the time of a file, that of its last use; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
