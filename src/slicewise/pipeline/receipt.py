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
from slicewise.core.files import parse_json, read_json, read_record, stays_below, write_json
from slicewise.core.fingerprint import digest, hash_file

RECEIPT_NAME = ".receipt.json"
DOUBTS_NAME = ".doubts.json"
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
class FileSeal:
    """Size in bytes, modification time in ns, and SHA-256 of one file."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path, sha256: str | None = None) -> "FileSeal":
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
    files: Mapping[str, Mapping[str, FileSeal]]
    shared: Mapping[str, FileSeal]
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
            return _parsed(read_record(folder / RECEIPT_NAME))
        except OSError:
            return None


@lru_cache(maxsize=64)  # a plan comes back to each receipt several times
def _parsed(content: bytes) -> "Receipt | None":
    try:
        raw = parse_json(content)
        if raw.pop("digest") != digest(raw):
            return None
        receipt = Receipt(
            identity=_identity(raw["identity"]),
            files={slot: _seals(table) for slot, table in raw["files"].items()},
            shared=_seals(raw["shared"]),
            products=_texts(raw["products"]),
            product=_of(raw["product"], str),
            report=_report(raw["report"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return receipt if receipt.fingerprint == raw["fingerprint"] else None


def doubts(folder: Path) -> frozenset[str]:
    """Return the files of an output that `slicewise verify` found changed; plans read these every time.

    The note lies in the output's folder, so that it moves to the shelf, returns and goes with it.
    """
    try:
        return frozenset(str(name) for name in read_json(folder / DOUBTS_NAME))
    except (OSError, WorkspaceError, TypeError):
        return frozenset()


def write_doubts(folder: Path, names: Collection[str]) -> None:
    """Remember which files of an output to read at every plan, or that there are none."""
    if names:
        write_json(folder / DOUBTS_NAME, sorted(names))
    else:
        (folder / DOUBTS_NAME).unlink(missing_ok=True)


def seal_folder(folder: Path) -> dict[str, FileSeal]:
    """Seal every file below `folder`, our own notes excepted."""
    notes = (RECEIPT_NAME, DOUBTS_NAME)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in notes)
    return {path.relative_to(folder).as_posix(): FileSeal.of(path) for path in paths}


def product_digest(
    files: Mapping[str, Mapping[str, FileSeal]],
    patterns: Iterable[str],
    shared: Mapping[str, FileSeal] | None = None,
) -> str:
    """Return one digest over the content of shared files, and of those whose name matches a pattern."""
    wanted = tuple(patterns)
    chosen = {
        f"{slot}/{name}": seal.sha256
        for slot, table in files.items()
        for name, seal in table.items()
        if any(fnmatch(name, pattern) for pattern in wanted)
    }
    return digest({**chosen, **{name: seal.sha256 for name, seal in (shared or {}).items()}})


def _identity(raw: Any) -> Identity:
    identity = Identity(**raw)
    _of(identity.step, str), _of(identity.version, int), _of(identity.settings, dict), _texts(identity.needs)
    for table in _of(identity.inputs, dict).values():
        _texts(table)
    return identity


def _seals(table: Mapping[str, Mapping[str, Any]]) -> dict[str, FileSeal]:
    """Read seals by file name. A name that leads elsewhere would have a foreign file read or replaced."""
    astray = [name for name in table if not stays_below(name)]
    if astray:
        raise ValueError(f"{astray[0]!r} leads out of the folder")
    seals = {name: FileSeal(**seal) for name, seal in table.items()}
    for seal in seals.values():
        _of(seal.size, int), _of(seal.mtime_ns, int), _of(seal.sha256, str)
    return seals


def _report(raw: Any) -> dict[str, Any]:
    """Read the report; what the command line shows of it must be of the kind it shows."""
    report = {**EMPTY_REPORT, **raw}
    for name, empty in EMPTY_REPORT.items():
        kinds = (int, float) if isinstance(empty, float) else type(empty)
        if report[name] is not None:
            _of(report[name], kinds)
    for note in report["notes"] or ():
        _of(note, str)
    return report


def _texts(table: Any) -> dict[str, str]:
    return {name: _of(text, str) for name, text in _of(table, dict).items()}


def _of(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where something else belongs")
    return value
