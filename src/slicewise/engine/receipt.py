"""The receipt of a finished output: what it was made from and which files it consists of.

A receipt carries a digest of itself; a damaged or edited one counts as missing. That guards against
accidents, not against forgery.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import is_safe_relative, parse_json, read_capped, read_json, write_json
from slicewise.core.hashing import digest, hash_file

RECEIPT_NAME = ".receipt.json"
SUSPECTS_NAME = ".doubts.json"
_EMPTY_REPORT: Mapping[str, Any] = {
    "metrics": {},
    "notes": [],
    "made_at": "",
    "duration_seconds": 0.0,
    "peak_memory_mib": 0,
    "versions": {},
}


@dataclass(frozen=True)
class Identity:
    """Everything that decides an output. Two equal identities have the same output.

    Attributes:
        settings: dotted key -> value.
        needs: step -> fingerprint of its output.
        inputs: name -> {relative path: SHA-256} of files outside the workspace.
    """

    step: str
    version: int
    settings: Mapping[str, Any]
    needs: Mapping[str, str]
    inputs: Mapping[str, Mapping[str, str]]

    @classmethod
    def parse(cls, raw: Any) -> "Identity":
        identity = cls(**raw)
        _require_type(identity.step, str)
        _require_type(identity.version, int)
        _require_type(identity.settings, dict)
        for table in (identity.needs, *_require_type(identity.inputs, dict).values()):
            _parse_strings(table)
        return identity

    @cached_property
    def fingerprint(self) -> str:
        return digest(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class FileChecksum:
    """Size in bytes, modification time in ns, and SHA-256 of one file."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path, sha256: str | None = None) -> "FileChecksum":
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns, sha256 or hash_file(path))

    def fault(self, path: Path, *, read: bool = False) -> str | None:
        """Return what differs in the file now, or None; it is read if its time differs or with `read`."""
        try:
            stat = path.stat()
        except OSError:
            return "is missing"
        if stat.st_size != self.size:
            return f"has {stat.st_size:,} bytes instead of {self.size:,}"
        if (read or stat.st_mtime_ns != self.mtime_ns) and hash_file(path) != self.sha256:
            return "was changed"
        return None


@dataclass(frozen=True)
class Receipt:
    """What an output was made from, and its files.

    Attributes:
        files: slot -> {relative path: checksum}.
        shared: path relative to the workspace -> checksum.
        products: step -> digest of the product that was consumed.
        product: digest of its own product.
        report: metrics, notes, seconds, peak memory and versions of the run that made it.
    """

    identity: Identity
    files: Mapping[str, Mapping[str, FileChecksum]]
    shared: Mapping[str, FileChecksum]
    products: Mapping[str, str]
    product: str
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint

    def write(self, folder: Path) -> None:
        tree = {"fingerprint": self.fingerprint, **asdict(self), "identity": self.identity.as_dict()}
        plain = json.loads(json.dumps(tree, allow_nan=False))  # as it will be read back
        write_json(folder / RECEIPT_NAME, {**plain, "digest": digest(plain)})

    @classmethod
    def read(cls, folder: Path) -> "Receipt | None":
        """Return the receipt of a finished output, or None where it is missing or damaged."""
        try:
            return _parse_receipt(read_capped(folder / RECEIPT_NAME))
        except OSError:
            return None


@lru_cache(maxsize=64)  # a plan reads each receipt several times
def _parse_receipt(content: bytes) -> "Receipt | None":
    try:
        raw = parse_json(content)
        if raw.pop("digest") != digest(raw):
            return None
        receipt = Receipt(
            identity=Identity.parse(raw["identity"]),
            files={slot: _parse_checksums(table) for slot, table in raw["files"].items()},
            shared=_parse_checksums(raw["shared"]),
            products=_parse_strings(raw["products"]),
            product=_require_type(raw["product"], str),
            report=_parse_report(raw["report"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return receipt if receipt.fingerprint == raw["fingerprint"] else None


def read_suspects(folder: Path) -> frozenset[str]:
    """Return the files of an output that `slicewise verify` found changed; every plan reads their content.

    The list lies in the output's folder, so that it moves with the output.
    """
    try:
        return frozenset(str(name) for name in read_json(folder / SUSPECTS_NAME))
    except (OSError, WorkspaceError, TypeError):
        return frozenset()


def write_suspects(folder: Path, names: Collection[str]) -> None:
    """Write the list of an output's changed files, or remove it where there are none."""
    if names:
        write_json(folder / SUSPECTS_NAME, sorted(names))
    else:
        (folder / SUSPECTS_NAME).unlink(missing_ok=True)


def checksum_folder(folder: Path) -> dict[str, FileChecksum]:
    """Return the checksum of every file below `folder`, except the engine's own."""
    notes = (RECEIPT_NAME, SUSPECTS_NAME)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in notes)
    return {path.relative_to(folder).as_posix(): FileChecksum.of(path) for path in paths}


def product_digest(
    files: Mapping[str, Mapping[str, FileChecksum]],
    patterns: Iterable[str],
    shared: Mapping[str, FileChecksum],
) -> str:
    """Return one digest over the content of shared files, and of those whose name matches a pattern."""
    globs = tuple(patterns)
    selected = {
        f"{slot}/{name}": checksum.sha256
        for slot, table in files.items()
        for name, checksum in table.items()
        if any(fnmatch(name, pattern) for pattern in globs)
    }
    return digest({**selected, **{name: checksum.sha256 for name, checksum in shared.items()}})


def _parse_checksums(table: Mapping[str, Mapping[str, Any]]) -> dict[str, FileChecksum]:
    """Return checksums by file name. A name that leads out of the folder is refused."""
    outside = [name for name in table if not is_safe_relative(name)]
    if outside:
        raise ValueError(f"{outside[0]!r} leads out of the folder")
    checksums = {name: FileChecksum(**checksum) for name, checksum in table.items()}
    for checksum in checksums.values():
        _require_type(checksum.size, int), _require_type(checksum.mtime_ns, int)
        _require_type(checksum.sha256, str)
    return checksums


def _parse_report(raw: Any) -> dict[str, Any]:
    """Return the report; the types of what the command line shows of it are checked."""
    report = {**_EMPTY_REPORT, **raw}
    for name, empty in _EMPTY_REPORT.items():
        if report[name] is not None:
            _require_type(report[name], (int, float) if isinstance(empty, float) else type(empty))
    for note in report["notes"] or ():
        _require_type(note, str)
    return report


def _parse_strings(table: Any) -> dict[str, str]:
    return {name: _require_type(text, str) for name, text in _require_type(table, dict).items()}


def _require_type(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} is not the expected type")
    return value
