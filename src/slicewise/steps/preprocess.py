"""Volumes and pictures become normalised slices, case by case; only cases that are new are worked on."""

from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.errors import DataError
from slicewise.core.files import write_json, write_text
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.demand import preprocess_demand
from slicewise.workflow.settings import select_settings
from slicewise.workflow.slices import MANIFEST_NAME, slice_store
from slicewise.workflow.sources import (
    TRAIN_ONLY,
    open_index,
    select_cases,
    source_root,
    split_inputs,
    unused_split_keys,
    used_sources,
)

if TYPE_CHECKING:
    from slicewise.data.index import CaseIndex
    from slicewise.data.preprocess import EntryRef, PreprocessReport


def _settings(config: Config) -> dict[str, Any]:
    # The split decides which patients a scale takes; nothing of a patient's slices depends on it.
    return select_settings(
        config, "preprocessing", "scale", "split", TRAIN_ONLY, without=unused_split_keys(config)
    )


def _run(context: Context[Config]) -> Outcome:
    from slicewise.data.preprocess import preprocess_cases
    from slicewise.data.problems import describe_problems

    config, index = context.config, open_index(context)
    _require_unchanged(index)
    store = slice_store(context.workspace)
    for path in context.faulty:
        store.discard(path)
    report = preprocess_cases(
        [case for source in used_sources(config) for case in select_cases(config, source, index)],
        store,
        config.preprocessing,
        num_workers=config.runtime.num_workers,
        max_worker_memory_mib=config.runtime.max_worker_memory_mib,
        hash_cache=context.hashes,
    )
    text = describe_problems(report.problems, shown=None)
    _require_each_source(context, report)
    folder = context.out("processed")
    entries = [_manifest_entry(ref) for ref in report.entries]
    write_json(folder / MANIFEST_NAME, {"entries": entries})
    write_text(folder / "problems.txt", text)
    metrics = {
        "num_cases": len(report.entries),
        "num_new": report.num_new,
        "num_reused": report.num_reused,
        "num_slices": sum(ref.num_slices for ref in report.entries),
        "num_left_out": report.num_left_out,
    }
    notes = [f"{report.num_new} cases sliced, {report.num_reused} taken from the store"]
    notes += [text.rstrip()] if report.problems else []
    files = [path for ref in report.entries for path in sorted(store.folder(ref.entry).iterdir())]
    return Outcome(metrics, tuple(notes), tuple(files))


def _require_each_source(context: Context[Config], report: "PreprocessReport") -> None:
    """Refuse to hand on a source of which no case could be read."""
    from slicewise.data.problems import summarise_problems

    for source in used_sources(context.config):
        root = source_root(source, context.workspace)
        if not any(ref.key.source == source.name for ref in report.entries):
            source_problems = [problem for problem in report.problems if problem.path.is_relative_to(root)]
            raise DataError(
                f"{source.name}: not one of {len(source_problems)} cases in {root} could be preprocessed"
                f"{summarise_problems(source_problems)}"
            )


def _require_unchanged(index: "CaseIndex") -> None:
    """Refuse files that are not those which download checked, labelled and grouped."""
    from slicewise.data.problems import describe_problems

    changed_files_found = index.changed_files()
    if changed_files_found:
        raise DataError(f"{describe_problems(changed_files_found)}run download again to look at them anew")


def _manifest_entry(ref: "EntryRef") -> dict[str, Any]:
    return {
        "source": ref.key.source,
        "patient": ref.key.patient,
        "case": ref.key.case,
        "group": ref.group,
        "entry": ref.entry,
        "num_slices": ref.num_slices,
    }


PREPROCESS: Step[Config] = Step(
    name="preprocess",
    run=_run,
    settings=_settings,
    needs=("download",),
    homes={"processed": "data/processed"},
    inputs=split_inputs,
    product=(MANIFEST_NAME,),
    version=5,
    demand=preprocess_demand,
)
