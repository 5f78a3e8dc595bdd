"""The checks of `slicewise doctor`.

machine    Python, packages, text encoding, cores, memory, accelerator, workspace, ports and supervisor
inputs     what the configuration names: weights, trackers, files, data sets, Kaggle credentials
"""

from typing import Literal, NamedTuple


class Check(NamedTuple):
    """A result: `bad` prevents a run, `warn` may spoil it; `advice` says what to do, if anything."""

    level: Literal["good", "warn", "bad"]
    found: str
    advice: str = ""
