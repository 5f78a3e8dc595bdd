"""What stopped a step, in words that say how to go on."""

import logging

from slicewise.core.console import say
from slicewise.core.disk import MIB, explain_disk_error
from slicewise.core.errors import ResourceError, SliceWiseError
from slicewise.core.memory import available_memory, is_out_of_memory
from slicewise.engine.record import RunRecord
from slicewise.engine.step import Demand
from slicewise.engine.workspace import Workspace

log = logging.getLogger(__name__)


def explain_failure(
    error: BaseException, step: str, workspace: Workspace, demand: Demand
) -> SliceWiseError | None:
    """Return an error that names the way out of a full disk or of full memory; None for any other error.

    What the domain has explained itself, with more knowledge, stays as it is.
    """
    if isinstance(error, SliceWiseError) or not isinstance(error, Exception):
        return None
    if is_out_of_memory(error):
        remedy = f", or {demand.remedy}" if demand.remedy else ""
        return ResourceError(
            f"{step} ran out of memory ({error}); about {demand.memory_bytes / MIB:,.0f} MiB were expected "
            f"and {available_memory() / MIB:,.0f} MiB are free now; stop other programs{remedy}, "
            "then run again; what was finished is kept"
        )
    return explain_disk_error(error, workspace.root, demand.disk_bytes)


def save_failed_record(record: RunRecord) -> None:
    """Save the record of a run that failed; where that fails too, say so and let the first error stand."""
    try:
        record.save()
    except OSError as error:
        if record.is_stale:
            return
        record.is_stale = True
        text = f"{record.path} could not be brought up to date either: {error.strerror or error}"
        log.warning(text)
        say(text, "warn")
