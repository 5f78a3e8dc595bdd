"""Who trains, who chooses the checkpoint, who is tested: decided over everyone known, then narrowed."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.files import write_json
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.demand import of_split
from slicewise.steps.settings import pick
from slicewise.steps.slices import SPLIT_NAME, read_manifest
from slicewise.steps.sources import (
    TRAIN_ONLY,
    found_sides,
    given_split,
    open_index,
    split_inputs,
    unused_split_keys,
    used_sources,
)

if TYPE_CHECKING:
    from slicewise.data.given import Given


def _settings(config: Config) -> dict[str, Any]:
    return pick(config, "split", TRAIN_ONLY, without=unused_split_keys(config))


def _run(context: Context[Config]) -> Outcome:
    from slicewise.data.cohort import SIDES
    from slicewise.data.split import Split

    config, index = context.config, open_index(context)
    given = {source.name: given_split(config, source, index) for source in used_sources(config)}
    sides = {source.name: found_sides(config, source, index) for source in used_sources(config)}
    everyone = Split.of(sides, config.split.seed, config.split)
    present = {(entry["source"], entry["group"]) for entry in read_manifest(context)}
    used = everyone.keep(present)
    origin = _origin(config, given)
    write_json(context.out("split") / SPLIT_NAME, {**used.to_json(), **origin})
    write_json(context.out("split") / "everyone.json", {**everyone.to_json(), **origin})
    counts = {source: {side: len(used.groups(source, side)) for side in SIDES} for source in used.sources}
    return Outcome({"counts": counts, **origin}, tuple(_notes(config, given)))


def _origin(config: Config, given: "Mapping[str, Given | None]") -> dict[str, Any]:
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


def _notes(config: Config, given: "Mapping[str, Given | None]") -> Iterator[str]:
    if not config.split.is_given:
        return
    for source, found in given.items():
        if found is None:
            yield f"{source}: the given split names none of its cases; split.seed divides it"
            continue
        drawn = f"; {' and '.join(found.drawn)} drawn by split.seed" if found.drawn else ""
        left_out = f"; {len(found.left_out)} cases left out (split.json lists them)" if found.left_out else ""
        yield f"{source}: the subsets are those of the given split{drawn}{left_out}"


SPLIT: Step[Config] = Step(
    name="split",
    run=_run,
    settings=_settings,
    needs=("download", "preprocess"),
    homes={"split": "data/split"},
    inputs=split_inputs,
    product=(SPLIT_NAME,),
    version=3,
    demand=of_split,
)
