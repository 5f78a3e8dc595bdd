"""What a check found, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "warn", "bad"]


@dataclass(frozen=True)
class Check:
    """`bad` prevents a run, `warn` may spoil it; `advice` is what to do, empty where nothing need be done."""

    name: str
    level: Level
    found: str
    advice: str = ""
