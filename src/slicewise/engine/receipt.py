"""The note in a finished output: what it was made from and which files it consists of.

A receipt carries a digest of itself, so that one which was damaged or edited counts as none. That guards
against accidents, not against a forger: whoever recomputes the digest is believed.
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
EMPTY_REPORT: Mapping[str, Any] = {
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
        needs: step -> fingerprint of what it made.
        inputs: name -> {relative path: SHA-256} of files outside the workspace.
    """

    step: str
    version: int
    settings: Mapping[str, Any]
    needs: Mapping[str, str]
    inputs: Mapping[str, Mapping[str, str]]

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
        """Say what is wrong with the file now, or None. It is read if its time differs, or if told to."""
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
    """Attributes beside the identity:

    files: slot -> {relative path: seal}; shared: path relative to the workspace -> seal.
    products: step -> digest of the products that were consumed; product: digest of its own.
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
        """Return the receipt of a finished output, or None where there is none or it is damaged."""
        try:
            return _parse_receipt(read_capped(folder / RECEIPT_NAME))
        except OSError:
            return None


@lru_cache(maxsize=64)  # a plan comes back to each receipt several times
def _parse_receipt(content: bytes) -> "Receipt | None":
    try:
        raw = parse_json(content)
        if raw.pop("digest") != digest(raw):
            return None
        receipt = Receipt(
            identity=_parse_identity(raw["identity"]),
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
    """Return the files of an output that `slicewise verify` found changed; plans read these every time.

    The note lies in the output's folder, so that it moves to the shelf, returns and goes with it.
    """
    try:
        return frozenset(str(name) for name in read_json(folder / SUSPECTS_NAME))
    except (OSError, WorkspaceError, TypeError):
        return frozenset()


def write_suspects(folder: Path, names: Collection[str]) -> None:
    """Remember which files of an output to read at every plan, or that there are none."""
    if names:
        write_json(folder / SUSPECTS_NAME, sorted(names))
    else:
        (folder / SUSPECTS_NAME).unlink(missing_ok=True)


def checksum_folder(folder: Path) -> dict[str, FileChecksum]:
    """Seal every file below `folder`, our own notes excepted."""
    notes = (RECEIPT_NAME, SUSPECTS_NAME)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in notes)
    return {path.relative_to(folder).as_posix(): FileChecksum.of(path) for path in paths}


def product_digest(
    files: Mapping[str, Mapping[str, FileChecksum]],
    patterns: Iterable[str],
    shared: Mapping[str, FileChecksum] | None = None,
) -> str:
    """Return one digest over the content of shared files, and of those whose name matches a pattern."""
    globs = tuple(patterns)
    selected = {
        f"{slot}/{name}": seal.sha256
        for slot, table in files.items()
        for name, seal in table.items()
        if any(fnmatch(name, pattern) for pattern in globs)
    }
    return digest({**selected, **{name: seal.sha256 for name, seal in (shared or {}).items()}})


def _parse_identity(raw: Any) -> Identity:
    identity = Identity(**raw)
    (
        _require_type(identity.step, str),
        _require_type(identity.version, int),
        _require_type(identity.settings, dict),
        _parse_strings(identity.needs),
    )
    for table in _require_type(identity.inputs, dict).values():
        _parse_strings(table)
    return identity


def _parse_checksums(table: Mapping[str, Mapping[str, Any]]) -> dict[str, FileChecksum]:
    """Read seals by file name. A name that leads elsewhere would have a foreign file read or replaced."""
    outside = [name for name in table if not is_safe_relative(name)]
    if outside:
        raise ValueError(f"{outside[0]!r} leads out of the folder")
    seals = {name: FileChecksum(**seal) for name, seal in table.items()}
    for seal in seals.values():
        _require_type(seal.size, int), _require_type(seal.mtime_ns, int), _require_type(seal.sha256, str)
    return seals


def _parse_report(raw: Any) -> dict[str, Any]:
    """Read the report; what the command line shows of it must be of the kind it shows."""
    report = {**EMPTY_REPORT, **raw}
    for name, empty in EMPTY_REPORT.items():
        kinds = (int, float) if isinstance(empty, float) else type(empty)
        if report[name] is not None:
            _require_type(report[name], kinds)
    for note in report["notes"] or ():
        _require_type(note, str)
    return report


def _parse_strings(table: Any) -> dict[str, str]:
    return {name: _require_type(text, str) for name, text in _require_type(table, dict).items()}


def _require_type(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where something else belongs")
    return value
