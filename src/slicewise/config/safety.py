"""Checks before the merge: refuse configurations that would take for ever or reveal secrets.

Hydra and OmegaConf expand every alias, and parse brackets by recursion.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from slicewise.config.folders import MAX_BYTES
from slicewise.config.keys import flatten_dict
from slicewise.core.errors import ConfigError
from slicewise.core.redact import contains_secret, redact

YAML_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""That of libyaml takes a tenth of the time."""
_MAX_DEPTH: Final = 20
_MAX_CHARACTERS: Final = 10_000
_OPENING: Final = re.compile(r"[\[({]")
_RESOLVER: Final = re.compile(r"\$\{[^}]*:")
_READS_ENVIRONMENT: Final = (
    "reads the environment, which may hold secrets and is not recorded; write the value itself"
)


def check_files(folder: Path) -> None:
    """Check every YAML file below `folder`, except in `final`.

    Raises:
        ConfigError: a file is too large or nested too deeply, has aliases, tags or resolvers, or is not YAML.
    """
    for path in sorted(folder.rglob("*.yaml")):
        if path.relative_to(folder).parts[0] == "final":
            continue
        _checked_text(path)


def _checked_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path} has {len(data):,} bytes; the limit is {MAX_BYTES:,}")
        text = data.decode()
        _check_events(path, yaml.parse(text, Loader=YAML_LOADER))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if _RESOLVER.search(text):
        raise ConfigError(f"{path}: ${{...:...}} {_READS_ENVIRONMENT}")
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of one file of keys, checked as those of a folder.

    Raises:
        ConfigError: as of `check_files`, or the file holds no keys.
    """
    text = _checked_text(path)
    tree = yaml.load(text, YAML_LOADER)  # noqa: S506
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no keys; write such a file with `slicewise config > FILE`")
    return {str(key): value for key, value in tree.items()}


def check_overrides(overrides: Sequence[str]) -> None:
    """Check the overrides before Hydra parses them.

    Raises:
        ConfigError: an override is too long, nested too deeply, not printable or calls a resolver.
    """
    for line in overrides:
        excerpt = redact(line[:80])
        if len(line) > _MAX_CHARACTERS or len(_OPENING.findall(line)) > _MAX_DEPTH:
            raise ConfigError(
                f"{excerpt!r}... is too long or nested too deeply for one value; split it into keys"
            )
        if not line.isprintable():
            raise ConfigError(
                f"{excerpt!r} contains characters that cannot be printed; write key=value in plain text"
            )
        if _RESOLVER.search(line):
            raise ConfigError(f"{excerpt!r} {_READS_ENVIRONMENT}")


def check_text(key: str, text: str) -> None:
    """Check a text or path of the command line, which Hydra does not parse.

    Raises:
        ConfigError: it is too long, or contains control characters or surrogates.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"{key}={redact(text[:80])!r}... is too long for one value")
    invalid = next((each for each in text if unicodedata.category(each) in ("Cc", "Cs")), None)
    if invalid is not None:
        raise ConfigError(
            f"{key}={redact(text)!r} contains the invalid character {invalid!r}; rename the "
            "file or folder (`convmv -f latin1 -t utf8 --notest` converts names of an older system)"
        )


def check_values(tree: dict[str, Any]) -> None:
    """Check that no value is a credential: it would be printed, recorded and hashed into every output.

    Raises:
        ConfigError: lists the keys.
    """
    leaves = flatten_dict(tree).items()
    keys = [key for key, value in leaves if isinstance(value, str) and contains_secret(value)]
    if keys:
        raise ConfigError(
            f"{', '.join(keys)}: a credential in the configuration would be printed and recorded. Take it "
            "out. Kaggle's are read from KAGGLE_API_TOKEN or ~/.kaggle/"
        )


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
            raise ConfigError(f"{path}, line {line}: nested too deeply; the limit is {_MAX_DEPTH} levels")
