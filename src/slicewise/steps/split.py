"""Who trains, who chooses the checkpoint, who is tested: decided over everyone known, then narrowed."""

from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.errors import DataError
from slicewise.core.files import write_json
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.demand import of_split
from slicewise.steps.settings import pick
from slicewise.steps.slices import SPLIT_NAME, read_manifest, slice_store
from slicewise.steps.sources import FOLD_KEYS, TRAIN_ONLY, found_sides, open_index, root_of, used_sources

if TYPE_CHECKING:
    from slicewise.data.split import Split


def _settings(config: Config) -> dict[str, Any]:
    return pick(config, "split", TRAIN_ONLY, without=() if config.split.fold else FOLD_KEYS)


def _run(context: Context[Config]) -> Outcome:
    from slicewise.data.cohort import SIDES
    from slicewise.data.split import Split

    config, index = context.config, open_index(context)
    sides = {source.name: found_sides(config, source, index) for source in used_sources(config)}
    everyone = Split.of(sides, config.split.seed, config.split)
    present = {(entry["source"], entry["group"]) for entry in read_manifest(context)}
    used = everyone.keep(present)
    _require_sources(everyone, used)
    _require_tumour(context, used)
    write_json(context.out("split") / SPLIT_NAME, used.to_json())
    write_json(context.out("split") / "everyone.json", everyone.to_json())
    counts = {source: {side: len(used.groups(source, side)) for side in SIDES} for source in used.sources}
    return Outcome({"counts": counts})


def _require_sources(everyone: "Split", used: "Split") -> None:
    if absent := sorted({*everyone.sources} - {*used.sources}):
        raise DataError(
            f"no patient of {', '.join(absent)} is left; data/processed/problems.txt says why each was "
            "left out"
        )


def _require_tumour(context: Context[Config], used: "Split") -> None:
    """Refuse a subset whose masks are all empty: nothing can be learned, chosen or measured on it."""
    from slicewise.data.cohort import SIDES

    volumes, store = context.config.data.volumes, slice_store(context.workspace)
    cases = [entry for entry in read_manifest(context) if entry["source"] == volumes.name]
    groups = {e["group"] for e in cases if (store.open(e["entry"]).labels == 1).any()}
    root = root_of(volumes, context.workspace)
    if not groups:
        raise DataError(
            f"{volumes.name}: not one mask of {len(cases)} cases in {root} has a tumour pixel; check that "
            "the files taken as masks are those of the tumour (data.volumes.mask names them) and what their "
            "values mean (data.volumes.labels)"
        )
    for side in SIDES:
        members = used.groups(volumes.name, side)
        if not groups & {*members}:
            raise DataError(
                f"{volumes.name}: not one mask of the {len(members)} patients for {side} has a tumour pixel "
                f"(such as {members[0]} in {root}), {len(groups)} of all patients have; add patients, or "
                "draw another split with split.seed"
            )


SPLIT: Step[Config] = Step(
    name="split",
    run=_run,
    settings=_settings,
    needs=("download", "preprocess"),
    homes={"split": "data/split"},
    product=(SPLIT_NAME,),
    version=3,
    demand=of_split,
)
