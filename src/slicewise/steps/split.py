"""Who trains, who chooses the checkpoint, who is tested: decided over everyone known, then narrowed."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.errors import DataError
from slicewise.core.files import write_json
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.demand import split_demand
from slicewise.workflow.settings import select_settings
from slicewise.workflow.slices import SPLIT_NAME, read_manifest, slice_store
from slicewise.workflow.sources import (
    TRAIN_ONLY,
    open_index,
    predefined_split,
    source_root,
    split_inputs,
    split_source,
    unused_split_keys,
    used_sources,
)

if TYPE_CHECKING:
    from slicewise.data.split.predefined import PredefinedSplit
    from slicewise.data.split.subsets import Split


def _settings(config: Config) -> dict[str, Any]:
    return select_settings(config, "split", TRAIN_ONLY, without=unused_split_keys(config))


def _run(context: Context[Config]) -> Outcome:
    from slicewise.data.split.assignment import SUBSETS
    from slicewise.data.split.subsets import Split

    config, index = context.config, open_index(context)
    given = {source.name: predefined_split(config, source, index) for source in used_sources(config)}
    subsets_by_source = {source.name: split_source(config, source, index) for source in used_sources(config)}
    all_groups = Split.of(subsets_by_source, config.split.seed, config.split)
    preprocessed = {(entry["source"], entry["group"]) for entry in read_manifest(context)}
    used = all_groups.keep(preprocessed)
    _require_sources(all_groups, used)
    _require_tumour_in_subsets(context, used)
    provenance = _provenance(config, given)
    write_json(context.out("split") / SPLIT_NAME, {**used.to_json(), **provenance})
    write_json(context.out("split") / "everyone.json", {**all_groups.to_json(), **provenance})
    counts = {
        source: {subset: len(used.groups(source, subset)) for subset in SUBSETS} for source in used.sources
    }
    return Outcome({"counts": counts, **provenance}, tuple(_notes(config, given)))


def _provenance(config: Config, given: "Mapping[str, PredefinedSplit | None]") -> dict[str, Any]:
    """Return where the subsets of each source came from; nothing where the seed decided all of them."""
    if not config.split.is_given:
        return {}
    by = "folders" if config.split.folders else "file"
    return {
        "given": {
            source: {"by": "seed"}
            if found is None
            else {"by": by, "drawn": list(found.drawn), "left_out": dict(sorted(found.left_out.items()))}
            for source, found in given.items()
        }
    }


def _notes(config: Config, given: "Mapping[str, PredefinedSplit | None]") -> Iterator[str]:
    if not config.split.is_given:
        return
    for source, found in given.items():
        if found is None:
            yield f"{source}: the given split names none of its cases; split.seed divides it"
            continue
        drawn = f"; {' and '.join(found.drawn)} drawn by split.seed" if found.drawn else ""
        left_out = f"; {len(found.left_out)} cases left out (split.json lists them)" if found.left_out else ""
        yield f"{source}: the subsets are those of the given split{drawn}{left_out}"


def _require_sources(all_groups: "Split", used: "Split") -> None:
    if missing_sources := sorted({*all_groups.sources} - {*used.sources}):
        raise DataError(
            f"no patient of {', '.join(missing_sources)} is left; data/processed/problems.txt says why each "
            "was left out"
        )


def _require_tumour_in_subsets(context: Context[Config], used: "Split") -> None:
    """Refuse a subset whose masks are all empty: nothing can be learned, chosen or measured on it."""
    from slicewise.data.split.assignment import SUBSETS

    volumes, store = context.config.data.volumes, slice_store(context.workspace)
    cases = [entry for entry in read_manifest(context) if entry["source"] == volumes.name]
    groups = {e["group"] for e in cases if (store.open(e["entry"]).labels == 1).any()}
    root = source_root(volumes, context.workspace)
    if not groups:
        raise DataError(
            f"{volumes.name}: not one mask of {len(cases)} cases in {root} has a tumour pixel; check that "
            "the files taken as masks are those of the tumour (data.volumes.mask names them) and what their "
            "values mean (data.volumes.labels)"
        )
    for subset in SUBSETS:
        members = used.groups(volumes.name, subset)
        if not groups & {*members}:
            raise DataError(
                f"{volumes.name}: not one mask of the {len(members)} patients for {subset} has a tumour "
                f"pixel (such as {members[0]} in {root}), {len(groups)} of all patients have; add patients, "
                "or draw another split with split.seed"
            )


SPLIT: Step[Config] = Step(
    name="split",
    run=_run,
    settings=_settings,
    needs=("download", "preprocess"),
    homes={"split": "data/split"},
    inputs=split_inputs,
    product=(SPLIT_NAME,),
    version=4,
    demand=split_demand,
)
