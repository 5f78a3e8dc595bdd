"""Who trains, who chooses the checkpoint, who is tested: decided over everyone known, then narrowed."""

from typing import Any

from slicewise.config.schema import Config
from slicewise.core.files import write_json
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.demand import of_split
from slicewise.steps.settings import pick
from slicewise.steps.slices import SPLIT_NAME, read_manifest
from slicewise.steps.sources import FOLD_KEYS, TRAIN_ONLY, found_sides, open_index, used_sources


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
    write_json(context.out("split") / SPLIT_NAME, used.to_json())
    write_json(context.out("split") / "everyone.json", everyone.to_json())
    counts = {source: {side: len(used.groups(source, side)) for side in SIDES} for source in used.sources}
    return Outcome({"counts": counts})


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
