"""Cases of preprocessing in bundles: a task of an array costs about two seconds, whatever it does."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from slicewise.config.schema import Config
from slicewise.core.errors import DataError
from slicewise.core.hashing import HashCache
from slicewise.data.cases import CaseFiles
from slicewise.data.preprocess import case_digest
from slicewise.data.store import SliceStore, entry_id
from slicewise.engine.plan import Decision
from slicewise.engine.step import Context
from slicewise.engine.workspace import Workspace
from slicewise.imaging.slicing import extract_slices
from slicewise.steps.preprocess import PREPROCESS
from slicewise.workflow.participants import open_index, select_cases
from slicewise.workflow.slices import slice_store

MAX_TASKS: Final = 1000
"""Of an array: Slurm's MaxArraySize is 1001 where it is not set"""
RAY_WORKERS: Final = 64
"""For so many workers bundles of Ray are made: where there are fewer, they are shorter than they could be."""
_LONGEST: Final = 3
"""Times the shortest bundle. A task that is requeued runs after all others: it must not take much longer."""
_MEASURED_CASES: Final = 2
"""Of each source; the first one also pays for imports."""


def case_context(
    decisions: Mapping[str, Decision[Config]], config: Config, workspace: Workspace, hashes: HashCache
) -> Context[Config]:
    """Return the context in which the cases of preprocessing are listed."""
    homes = {
        (name, slot): folder
        for name in PREPROCESS.needs
        if (output := decisions[name].output)
        for slot, folder in output.folders.items()
    }
    return Context(config, workspace, "", workspace.state, homes, {}, hashes)


def selected_cases(context: Context[Config]) -> list[CaseFiles]:
    """Return the cases that preprocessing takes, in its order."""
    config, index = context.config, open_index(context)
    return [case for source in config.data.sources.values() for case in select_cases(config, source, index)]


def make_bundles(context: Context[Config], least_seconds: float, slots: int) -> list[tuple[str, ...]]:
    """Return the keys of the cases that are not known to be stored, in bundles, see `divide`.

    What a case takes is estimated by one or two cases of its source, which are read here.
    """
    config, store = context.config, slice_store(context.workspace)
    cases = [case for case in selected_cases(context) if not _is_stored(case, store, context.hashes, config)]
    rates: dict[str, float] = {}
    for source in dict.fromkeys(case.key.source for case in cases):
        of_source = [case for case in cases if case.key.source == source]
        rates[source] = min(_seconds_per_slice(case, config) for case in of_source[:_MEASURED_CASES])
    seconds = [rates[case.key.source] * max(1, case.source.num_slices(case)) for case in cases]
    bundles = divide(seconds, least_seconds * config.cluster.data.cpus, slots)
    return [tuple(str(cases[place].key) for place in bundle) for bundle in bundles]


def divide(seconds: Sequence[float], least: float, slots: int = MAX_TASKS) -> list[list[int]]:
    """Return the places of consecutive cases in bundles of at least `least` seconds, the longest first.

    A bundle takes its part of what is left for twice as many tasks as run at a time, `slots` (guided
    self-scheduling, Polychronopoulos and Kuck 1987): fewer tasks, since each one takes time to start, and
    short ones at the end, so that no node waits long for another.
    """
    left = sum(seconds)
    least = max(least, left / MAX_TASKS)
    bundles: list[list[int]] = []
    filled = size = 0.0
    for place, each in enumerate(seconds):
        if filled >= size:
            size = max(least, min(_LONGEST * least, left / (2 * slots)))
            size = left / max(1, int(left / size))  # shared evenly
            bundles.append([])
            filled = 0.0
        bundles[-1].append(place)
        filled += each
        left -= each
    if len(bundles) > 1 and filled < least:
        bundles[-2:] = [bundles[-2] + bundles[-1]]
    return sorted(bundles, key=lambda bundle: -sum(seconds[place] for place in bundle))


def _is_stored(case: CaseFiles, store: SliceStore, hashes: HashCache, config: Config) -> bool:
    """Whether the store holds the slices of a case, without reading its files."""
    if not all(map(hashes.is_known, case.files)):
        return False
    return entry_id(case.key, case_digest(case, hashes), config.preprocessing) in store


def _seconds_per_slice(case: CaseFiles, config: Config) -> float:
    started = time.perf_counter()
    with suppress(DataError):  # the job reports it
        extract_slices(case.read(), config.preprocessing)
    return (time.perf_counter() - started) / max(1, case.source.num_slices(case))
