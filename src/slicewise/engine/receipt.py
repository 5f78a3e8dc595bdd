"""The receipt of a finished output: what it was made from and which files it consists of.

A receipt carries a digest of itself; a damaged or edited one counts as missing. That guards against
accidents, not against forgery.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import is_safe_relative, parse_json, read_capped, read_json, write_json
from slicewise.core.hashing import digest, hash_file
from slicewise.core.typed_json import from_json

RECEIPT_NAME = ".receipt.json"
SUSPECTS_NAME = ".doubts.json"
ORIGIN_NAME = ".origin.json"
_MAX_LISTED = 3


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

    @cached_property
    def fingerprint(self) -> str:
        return digest({field.name: getattr(self, field.name) for field in fields(self)})


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

    def fault(self, path: str | Path, *, read: bool = False) -> str | None:
        """Return what differs in the file now, or None; it is read if its time differs or with `read`."""
        try:
            stat = os.stat(path)  # noqa: PTH116  # a text, no Path: there may be many
        except OSError:
            return "is missing"
        if stat.st_size != self.size:
            return f"has {stat.st_size:,} bytes instead of {self.size:,}"
        if (read or stat.st_mtime_ns != self.mtime_ns) and hash_file(Path(path)) != self.sha256:
            return "was changed"
        return None


def _require_inside(name: str) -> str:
    if not is_safe_relative(name):
        raise ValueError(f"{name!r} leads out of the folder")
    return name


InsidePath = Annotated[str, _require_inside]
"""A path read from a file, which stays inside the folder that it is relative to"""
Checksums = Mapping[InsidePath, FileChecksum]


@dataclass(frozen=True)
class Report:
    """How the run went that made an output.

    Attributes:
        metrics: plain numbers, strings and nested dicts.
        made_at: ISO 8601, UTC.
        estimated_mib: `disk` and `memory` as estimated before the run.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    made_at: str = ""
    duration_seconds: float = 0.0
    peak_memory_mib: int | None = 0
    estimated_mib: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What an output was made from, and its files.

    Attributes:
        files: slot -> checksums.
        shared: checksums of files that may belong to several outputs, relative to the workspace.
        products: step -> digest of the product that was consumed.
        product: digest of its own product.
    """

    identity: Identity
    files: Mapping[str, Checksums]
    shared: Checksums
    products: Mapping[str, str]
    product: str
    report: Report = Report()

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint

    def write(self, folder: Path) -> None:
        write_json(folder / RECEIPT_NAME, self._sealed())

    def to_bytes(self) -> bytes:
        return json.dumps(self._sealed(), allow_nan=False).encode()

    def _sealed(self) -> dict[str, Any]:
        """Return the receipt as JSON, with its digest."""
        tree = {"fingerprint": self.fingerprint, **asdict(self)}
        plain = json.loads(json.dumps(tree, allow_nan=False))  # as it will be read back
        return {**plain, "digest": digest(plain)}

    @classmethod
    def read(cls, folder: Path) -> "Receipt | None":
        """Return the receipt of a finished output, or None where it is missing or damaged."""
        try:
            return _parse_receipt(read_capped(folder / RECEIPT_NAME))
        except OSError:
            return None

    @classmethod
    def parse(cls, content: bytes) -> "Receipt | None":
        """Return the receipt that `to_bytes` wrote, or None where it is damaged."""
        return _parse_receipt(content)


@lru_cache(maxsize=64)  # a plan reads each receipt several times
def _parse_receipt(content: bytes) -> Receipt | None:
    try:
        raw = parse_json(content)
        if raw.pop("digest") != digest(raw):
            return None
        receipt: Receipt = from_json(Receipt, raw)
        return receipt if receipt.fingerprint == raw["fingerprint"] else None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def read_suspects(folder: Path) -> frozenset[str]:
    """Return the files of an output that `slicewise verify` found changed; every plan reads their content.

    The list lies in the output's folder, so that it moves with the output.
    """
    try:
        return frozenset(map(str, read_json(folder / SUSPECTS_NAME)))
    except (OSError, WorkspaceError, TypeError):
        return frozenset()


def read_origin(folder: Path) -> str | None:
    """Return the remote workspace that an output was pulled from; None where it was made here."""
    try:
        return str(read_json(folder / ORIGIN_NAME)["pulled_from"])
    except (OSError, WorkspaceError, TypeError, KeyError):
        return None


def write_suspects(folder: Path, names: Collection[str]) -> None:
    """Write the list of an output's changed files, or remove it where there are none."""
    if names:
        write_json(folder / SUSPECTS_NAME, sorted(names))
    else:
        (folder / SUSPECTS_NAME).unlink(missing_ok=True)


def checksum_folder(folder: Path) -> dict[str, FileChecksum]:
    """Return the checksum of every file below `folder`, except the engine's own."""
    notes = (RECEIPT_NAME, SUSPECTS_NAME, ORIGIN_NAME)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in notes)
    return {path.relative_to(folder).as_posix(): FileChecksum.of(path) for path in paths}


def product_digest(files: Mapping[str, Checksums], patterns: Iterable[str], shared: Checksums) -> str:
    """Return one digest over the content of shared files, and of those whose name matches a pattern."""
    globs = tuple(patterns)
    selected = {
        f"{slot}/{name}": checksum.sha256
        for slot, table in files.items()
        for name, checksum in table.items()
        if any(fnmatch(name, pattern) for pattern in globs)
    }
    return digest({**selected, **{name: checksum.sha256 for name, checksum in shared.items()}})


def describe_changes(stored: Identity, current: Identity) -> list[str]:
    """Return why a step runs again: what differs between the identity of its output and the current one."""
    if stored.step != current.step:
        return [f"its home holds an output of {stored.step}"]
    changes = [*_setting_changes(stored.settings, current.settings)]
    if stored.version != current.version:
        changes.insert(0, f"step version {stored.version} -> {current.version}")
    for name in {**current.inputs, **stored.inputs}:
        old, new = stored.inputs.get(name, {}), current.inputs.get(name, {})
        changed = [path for path in new if path in old and old[path] != new[path]]
        for verb, paths in (
            ("changed", changed), ("new", new.keys() - old.keys()), ("gone", old.keys() - new.keys())
        ):  # fmt: skip
            if paths:
                more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
                changes.append(f"{name}: {min(paths)}{more} {verb}")
    if needs := [name for name, value in current.needs.items() if stored.needs.get(name) != value]:
        changes.append(f"{' and '.join(needs)} changed")
    return changes


def conflicting_settings(stored: Identity, current: Identity) -> list[str]:
    """Return the settings with other values in an output; one that either of them lacks is no conflict."""
    common = stored.settings.keys() & current.settings.keys()
    new, old = (
        {key: value for key, value in settings.items() if key in common}
        for settings in (current.settings, stored.settings)
    )
    return [*_setting_changes(old, new)]


def _setting_changes(stored: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    for key in {**current, **stored}:
        old, new = stored.get(key, "(none)"), current.get(key, "(none)")
        if old != new:
            yield f"{key}: {_format(old)} -> {_format(new)}"


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def join_reasons(reasons: Iterable[str]) -> str:
    """Join reasons to one line; only the first few are listed."""
    listed = [*reasons]
    rest = len(listed) - _MAX_LISTED
    return "; ".join(listed[:_MAX_LISTED]) + (f"; and {rest} more" if rest > 0 else "")
