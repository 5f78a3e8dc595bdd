"""A look at a configuration before it is merged: what would take for ever, or tell secrets, is refused.

Hydra and OmegaConf copy what an alias names each time it is named, and follow brackets by recursion.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from slicewise.config.origin import flatten_dict
from slicewise.core.errors import ConfigError
from slicewise.core.redact import contains_secret, redact

_MAX_BYTES: Final = 1 << 18
_MAX_DEPTH: Final = 20
_MAX_CHARACTERS: Final = 10_000
_OPENING: Final = re.compile(r"[\[({]")
_RESOLVER: Final = re.compile(r"\$\{[^}]*:")
_READS_ENVIRONMENT: Final = (
    "reads the environment, which may hold secrets and would not be on record; write the value itself"
)


def check_files(folder: Path) -> None:
    """Look at every YAML file below `folder`.

    Raises:
        ConfigError: a file is too large or nested too deeply, holds aliases or tags, calls a resolver, or is
            not YAML.
    """
    for path in sorted(folder.rglob("*.yaml")):
        if path.relative_to(folder).parts[0] != "final":
            _check_file(path)


def check_overrides(overrides: Sequence[str]) -> None:
    """Look at the command line before Hydra does.

    Raises:
        ConfigError: an override is endless, nested too deeply or calls a resolver.
    """
    for line in overrides:
        excerpt = redact(line[:80])
        if len(line) > _MAX_CHARACTERS or len(_OPENING.findall(line)) > _MAX_DEPTH:
            raise ConfigError(
                f"{excerpt!r}... is too long or nested too deeply for one value; split it into keys"
            )
        if not line.isprintable():
            raise ConfigError(
                f"{excerpt!r} holds characters that cannot be printed; write key=value in plain text"
            )
        if _RESOLVER.search(line):
            raise ConfigError(f"{excerpt!r} {_READS_ENVIRONMENT}")


def check_text(key: str, text: str) -> None:
    """Look at a text or path of the command line, which no parser reads.

    Raises:
        ConfigError: it is endless, or holds control characters or half a character.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"{key}={redact(text[:80])!r}... is too long for one value")
    bad_character = next(
        (character for character in text if unicodedata.category(character) in ("Cc", "Cs")), None
    )
    if bad_character is not None:
        raise ConfigError(
            f"{key}={redact(text)!r} holds {bad_character!r}, which is no character of a text; rename the "
            "file or folder (`convmv -f latin1 -t utf8 --notest` converts names of an older system)"
        )


def check_values(tree: dict[str, Any]) -> None:
    """Refuse credentials among the values: they would be printed, recorded and hashed into every output.

    Raises:
        ConfigError: names the keys.
    """
    keys = [
        key for key, value in flatten_dict(tree).items() if isinstance(value, str) and contains_secret(value)
    ]
    if keys:
        raise ConfigError(
            f"{', '.join(keys)}: a credential stands in the configuration, which is printed and recorded; "
            "take it out. Kaggle's are read from KAGGLE_API_TOKEN or ~/.kaggle/"
        )


def _check_file(path: Path) -> None:
    try:
        data = path.read_bytes()
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path} has {len(data):,} bytes; a configuration has at most {_MAX_BYTES:,}")
        text = data.decode()
        _check_events(path, yaml.parse(text, Loader=yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if _RESOLVER.search(text):
        raise ConfigError(f"{path}: ${{...:...}} {_READS_ENVIRONMENT}")


def _check_events(path: Path, events: Iterable[yaml.Event]) -> None:
    depth = 0
    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 0
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path}, line {line}: *{event.anchor} repeats another value; write it out")
        if tag:
            raise ConfigError(f"{path}, line {line}: the tag {tag} is not allowed; write a plain value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise ConfigError(
                f"{path}, line {line}: nested too deeply; the schema has {_MAX_DEPTH} levels at most"
            )
