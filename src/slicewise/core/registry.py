"""Registries: implementations by name, built in, registered in Python or offered by other packages.

Another package offers an implementation by an entry point, see docs/howto/extend.md:

    [project.entry-points."slicewise.sources"]
    dicom_series = "my_package.sources:DicomSeries"
"""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any, Generic, TypeVar

from slicewise.core.errors import ConfigError
from slicewise.core.packages import offer_any

T = TypeVar("T")


class Registry(Generic[T]):
    """Implementations of one kind by name; nothing is imported before its name is looked up.

    Args:
        kind: the kind in the plural, such as "sources": the entry points are those of `slicewise.<kind>`.
        builtin: "module:attribute" by name.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self._paths = dict(builtin)
        self._registered: dict[str, T] = {}
        self._loaded: dict[str, T] = {}

    def register(self, name: str, implementation: T) -> T:
        """Add an implementation in this process.

        Raises:
            ConfigError: the name is taken.
        """
        if name in self._registered or name in self._paths:
            raise ConfigError(f"{self.kind}: the name {name!r} is taken; choose another one")
        self._registered[name] = implementation
        return implementation

    def names(self) -> tuple[str, ...]:
        """Return every name: built in, registered, and offered by installed packages."""
        return tuple(dict.fromkeys([*self._paths, *self._registered, *self._offered()]))

    @property
    def is_builtin(self) -> bool:
        """Whether nothing was registered, and no package offers anything."""
        return not self._registered and not self._offered()

    def __contains__(self, name: object) -> bool:
        return name in self._paths or name in self._registered or name in self._offered()

    def require(self, name: str) -> str:
        """Return the name; raise ValueError where nothing has it."""
        if name in self:
            return name
        near = get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"{self.kind}: {name!r} is unknown; {hint}known are {', '.join(self.names())}")

    def __getitem__(self, name: str) -> T:
        """Return the implementation of a name.

        Raises:
            ConfigError: there is none, or the package that offers it cannot be imported.
        """
        if name in self._registered:
            return self._registered[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if path := self._paths.get(name):
            module, _, attribute = path.partition(":")
            implementation: T = getattr(import_module(module), attribute)
            return implementation
        try:
            self.require(name)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        point = self._offered()[name]
        try:
            loaded: T = point.load()
        except Exception as error:
            raise ConfigError(
                f"{self.kind}: {name!r} is offered by {point.value}, which cannot be imported "
                f"({type(error).__name__}: {error}); install that package again or choose another name"
            ) from error
        return loaded

    def _offered(self) -> dict[str, Any]:
        """Return the entry points by name."""
        if not offer_any("slicewise."):
            return {}
        return _entry_points(f"slicewise.{self.kind}", tuple(sys.path))


@cache
def _entry_points(group: str, _path: tuple[str, ...]) -> dict[str, Any]:
    """Return the entry points of a group by name; kept as long as `sys.path` stays: a search takes 20 ms."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}
