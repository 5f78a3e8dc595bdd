"""Remove credentials from everything that is shown or written.

Kaggle's are known by value, from the environment and from the files of its client. Others are recognised by
their place: after a name such as `token=`, in the address of a server, or as a parameter of a signed URL.
"""

import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

HIDDEN: Final = "[hidden]"

_VARIABLES: Final = ("KAGGLE_KEY", "KAGGLE_API_TOKEN")
_FILES: Final = ("kaggle.json", "access_token")
_MAX_FILE_BYTES: Final = 1 << 16
_MIN_LENGTH: Final = 6
"""Shorter values occur in ordinary words."""

_NAMES: Final = (
    r"(?:api[_-]?token|api[_-]?key|access[_-]?token|kaggle[_.-]?(?:key|token)|token|secret|password|passwd)"
)
_PATTERNS: Final = (
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+(?=@)", re.IGNORECASE),
    re.compile(
        r"(?P<keep>[?&](?:[a-z0-9_-]*(?:signature|credential|token|key|sig|password|secret))=)[^\s&\"'#]+",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?P<keep>(?<![a-z0-9])[a-z0-9_.-]*{_NAMES}[\"']?\s*[=:]\s*[\"']?)"
        r"(?!<)[^\s\"',;&}\]]+",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<keep>\b(?:Bearer|Basic)\s+)[A-Za-z0-9+/=._~-]{8,}"),
    re.compile(r"(?P<keep>)\b(?:KGAT_[A-Za-z0-9_-]+|hf_[A-Za-z0-9]{20,})"),
)


def redact(text: str) -> str:
    """Return `text` with every credential replaced by `[hidden]`."""
    for value in known_secrets():
        text = text.replace(value, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda match: f"{match['keep']}{HIDDEN}", text)
    return text


def contains_secret(text: str) -> bool:
    """Whether `redact` would change the text."""
    return redact(text) != text


def known_secrets() -> tuple[str, ...]:
    """Return the credentials on this machine that are known by value, the longest first."""
    secrets = {os.environ.get(name, "").strip() for name in _VARIABLES}
    home = Path(os.environ.get("HOME") or "~").expanduser()
    folders = [home / ".kaggle", Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"]
    if config_dir := os.environ.get("KAGGLE_CONFIG_DIR"):
        folders.append(Path(config_dir))
    paths = [folder / name for folder in folders for name in _FILES]
    token_path = os.environ.get("KAGGLE_API_TOKEN", "")
    if token_path.startswith(("/", "~")):  # the variable may hold the path of a file
        secrets.discard(token_path.strip())
        paths.append(Path(token_path).expanduser())
    for path in paths:
        with suppress(OSError, ValueError):
            stat = path.stat()
            if stat.st_size <= _MAX_FILE_BYTES:
                secrets.update(_parse_secrets(path, stat.st_mtime_ns, stat.st_size))
    return tuple(sorted((value for value in secrets if len(value) >= _MIN_LENGTH), key=len, reverse=True))


@lru_cache(maxsize=16)
def _parse_secrets(path: Path, _mtime_ns: int, _size: int) -> tuple[str, ...]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".json":
        return (text.strip(),)
    return tuple(re.findall(r'"key"\s*:\s*"([^"]+)"', text))
