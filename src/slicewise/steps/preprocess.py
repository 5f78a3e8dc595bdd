"""Volumes and pictures become normalised slices, case by case; only new cases are processed."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.errors import DataError
from slicewise.core.files import write_json, write_text
from slicewise.data.problems import describe_problems, summarise_problems
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.demand import preprocess_demand
from slicewise.workflow.participants import (
    open_index,
    select_cases,
    source_keys,
    source_root,
    split_inputs,
    unused_split_keys,
)
from slicewise.workflow.settings import select_settings
from slicewise.workflow.slices import MANIFEST_NAME, slice_store

if TYPE_CHECKING:
    from slicewise.data.preprocess import PreprocessReport


def _settings(config: Config) -> dict[str, Any]:
    # The split decides which patients a scale takes; a patient's slices do not depend on it.
    keys = ("preprocessing", "scale", "split", *source_keys(config, "role"))
    return select_settings(config, *keys, without=unused_split_keys(config))


def _run(context: Context[Config]) -> Outcome:
    from slicewise.data.preprocess import preprocess_cases

    config, index = context.config, open_index(context)
    if changed := index.changed_files():
        raise DataError(f"{describe_problems(changed)}run download again to check them")
    store = slice_store(context.workspace)
    for path in context.faulty:
        store.discard(path)
    report = preprocess_cases(
        [case for source in config.data.sources.values() for case in select_cases(config, source, index)],
        store,
        config.preprocessing,
        num_workers=config.runtime.num_workers,
        max_worker_memory_mib=config.runtime.max_worker_memory_mib,
        hash_cache=context.hashes,
    )
    _require_each_source(context, report)
    folder = context.out("processed")
    entries = [
        {**asdict(case.key), "group": case.group, "entry": case.entry, "num_slices": len(case.indices)}
        for case in report.entries
    ]
    write_json(folder / MANIFEST_NAME, {"entries": entries})
    write_text(folder / "problems.txt", describe_problems(report.problems, shown=None))
    metrics = {
        "num_cases": len(entries),
        "num_new": len(report.new),
        "num_reused": report.num_reused,
        "num_slices": sum(entry["num_slices"] for entry in entries),
        "num_left_out": sum(problem.severity == "error" for problem in report.problems),
    }
    notes = [f"{len(report.new)} cases sliced, {report.num_reused} taken from the store"]
    if report.problems:
        notes += [describe_problems(report.problems).rstrip(), "all of them: data/processed/problems.txt"]
    files = [path for case in report.entries for path in sorted(case.folder.iterdir())]
    return Outcome(metrics, tuple(notes), tuple(files))


def _require_each_source(context: Context[Config], report: "PreprocessReport") -> None:
    """Refuse a source of which no case could be read."""
    for source in context.config.data.sources.values():
        root = source_root(source, context.workspace)
        if not any(case.key.source == source.name for case in report.entries):
            problems = [problem for problem in report.problems if problem.path.is_relative_to(root)]
            raise DataError(
                f"{source.name}: not one of {len(problems)} cases in {root} could be preprocessed"
                f"{summarise_problems(problems)}"
            )


PREPROCESS: Step[Config] = Step(
    name="preprocess",
    run=_run,
    settings=_settings,
    needs=("download",),
    homes={"processed": "data/processed"},
    group="data",
    aliases=("preprocessing",),
    inputs=split_inputs,
    product=(MANIFEST_NAME,),
    version=8,
    demand=preprocess_demand,
)
