"""Who trains, who chooses the checkpoint, who is tested: decided over everyone known, then narrowed."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.errors import DataError
from slicewise.core.files import write_json
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.demand import of_split
from slicewise.steps.settings import pick
from slicewise.steps.slices import SPLIT_NAME, read_manifest, slice_store
from slicewise.steps.sources import (
    TRAIN_ONLY,
    found_sides,
    given_split,
    open_index,
    root_of,
    split_inputs,
    unused_split_keys,
    used_sources,
)

if TYPE_CHECKING:
    from slicewise.data.given import Given
    from slicewise.data.split import Split


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
    _require_sources(everyone, used)
    _require_tumour(context, used)
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
    inputs=split_inputs,
    product=(SPLIT_NAME,),
    version=4,
    demand=of_split,
)
