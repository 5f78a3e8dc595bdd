"""Composed configurations kept in a workspace, so that a run with nothing to do need not compose them again.

An entry holds for the content of the configuration files, the overrides, this program and the installed
packages. It is JSON, not pickle: a workspace may be shared. What is damaged, or belongs to someone else, is
composed again.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from slicewise.config.folders import MAX_BYTES, RECIPES, config_folders
from slicewise.config.schema import Config
from slicewise.config.schema.base import Section, plain
from slicewise.config.schema.model import ARCHITECTURES, LOSSES
from slicewise.config.schema.sources import SOURCES, SourceSettings, settings_type
from slicewise.core.files import parse_json, write_json
from slicewise.core.hashing import digest
from slicewise.core.packages import distributions

_MAX_ENTRIES: Final = 16
_MAX_ENTRY_BYTES: Final = 1 << 20
_FLOORS: Final = ("config", "core", "domain")
"""The packages of this program that decide a configuration; they import no others."""
_WRITABLE_BY_OTHERS: Final = 0o022


class ConfigCache:
    """The configurations kept in a folder, which is made where the folder above it exists."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._composed: tuple[str, Sequence[str], Config] | None = None

    def compose(self, overrides: Sequence[str]) -> Config:
        """Return the configuration of these overrides, composed where it is not kept.

        Errors are those of `compose`.
        """
        key = _key(overrides)
        if key and (config := self._read(key)):
            return config
        from slicewise.config.compose import compose

        config = compose(overrides)
        if key:
            self._composed = key, overrides, config
            self.keep()
        return config

    def keep(self) -> None:
        """Write what was composed, unless the folder above is missing yet or a file was changed meanwhile."""
        if self._composed is None or not self._folder.parent.is_dir():
            return
        (key, overrides, config), self._composed = self._composed, None
        tree = plain(config)
        # A value of another package's type might not come back as it was.
        if key != _key(overrides) or repr(_rebuild(Config, tree)) != repr(config):
            return
        with suppress(OSError):  # it only saves time
            write_json(self._path(key), {"key": key, "digest": digest(tree), "config": tree})
            entries = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in entries[:-_MAX_ENTRIES]:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key[:16]}.json"

    def _read(self, key: str) -> Config | None:
        try:
            with self._path(key).open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & _WRITABLE_BY_OTHERS:
                    return None
                entry = parse_json(stream.read(_MAX_ENTRY_BYTES))
            if (entry["key"], entry["digest"]) != (key, digest(entry["config"])):
                return None
            config: Config = _rebuild(Config, entry["config"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return config


def _key(overrides: Sequence[str]) -> str | None:
    """Return the digest of all that decides a configuration; None where that is not known for certain."""
    # What other packages offer may decide it too, by code of theirs; and of this program another version
    # may have been installed since it started.
    if not all(registry.is_builtin for registry in (ARCHITECTURES, LOSSES, RECIPES, SOURCES)):
        return None
    if _digest_of_program() != _STARTED_WITH or any(
        line.lstrip("+~").startswith("final") for line in overrides
    ):
        return None
    installed = [folder.name for folder in distributions()]
    try:
        files = [[*_read_files(folder)] for folder in config_folders()]
    except (OSError, ValueError):
        return None
    return digest([sys.version, _STARTED_WITH, installed, files, [*overrides]])


def _read_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the digest of each file, and the path of each folder, in an order that stays.

    The merged files in `final` are no part of a configuration that does not name them.

    Raises:
        OSError, ValueError: there is a link to a folder, or a file that is refused or names a merged one.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.partition("/")[0] == "final":
            continue
        if path.is_dir():
            if path.is_symlink():
                raise ValueError("a link, which is not followed here")
            yield name, ""
        elif path.suffix == ".yaml":
            content = path.read_bytes()
            if len(content) > MAX_BYTES or b"final/" in content:
                raise ValueError("not to be kept")
            yield name, sha256(content).hexdigest()


def _digest_of_program() -> str:
    root, content = Path(__file__).parents[1], sha256()
    for path in sorted(path for floor in _FLOORS for path in (root / floor).rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()


_STARTED_WITH: Final = _digest_of_program()


def _rebuild(kind: Any, value: Any) -> Any:
    """Return the value of a type of the schema from its JSON, which is not checked again."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _rebuild(parts[0], value)
    if (
        origin is Literal
    ):  # the very object that validation returns: a pickle notes which texts are one object
        return next(part for part in parts if part == value)
    if origin in (Union, UnionType):
        others = [part for part in parts if part is not NoneType]
        return _rebuild(others[0], value) if len(others) == 1 and value is not None else value
    if isinstance(value, dict):
        if isinstance(kind, type) and issubclass(kind, Section):
            return _rebuild_section(kind, value)
        return {key: _rebuild(parts[1], each) for key, each in value.items()} if parts else value
    if isinstance(value, list) and origin is tuple:
        kinds = repeat(parts[0]) if parts[-1] is ... else parts  # without an end: not strict
        return tuple(_rebuild(each, element) for each, element in zip(kinds, value, strict=False))
    return Path(value) if kind is Path else value


def _rebuild_section(kind: type[Section], tree: dict[str, Any]) -> Section:
    if issubclass(kind, SourceSettings):
        kind = settings_type(tree["kind"])
    fields = kind.model_fields
    return kind.model_construct(**{name: _rebuild(fields[name].annotation, tree[name]) for name in fields})
