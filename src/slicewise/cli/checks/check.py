"""The result of a check."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "warn", "bad"]


@dataclass(frozen=True)
class Check:
    """`bad` prevents a run, `warn` may spoil it; `advice` says what to do, and is empty if nothing."""

    name: str
    level: Level
    found: str
    advice: str = ""
