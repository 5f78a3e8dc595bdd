"""The subsets train, val and test: assigned over all known groups, then reduced to the preprocessed ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from slicewise.config.schema import Config
from slicewise.core.errors import DataError
from slicewise.core.files import write_json
from slicewise.data.split.assignment import SUBSETS, Split, Subset
from slicewise.data.split.predefined import PredefinedSplit
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.demand import split_demand
from slicewise.workflow.participants import (
    open_index,
    predefined_split,
    source_keys,
    source_root,
    split_inputs,
    split_source,
    unused_split_keys,
)
from slicewise.workflow.settings import select_settings
from slicewise.workflow.slices import SPLIT_NAME, read_manifest, slice_store

_MASK_KEYS: Final = ("mask", "masks", "labels", "values")
"""Keys of sources that name the masks and what their values mean"""


def _run(context: Context[Config]) -> Outcome:
    config, index, sources = context.config, open_index(context), context.config.data.sources.values()
    predefined = {source.name: predefined_split(config, source, index) for source in sources}
    subsets_by_source = {source.name: split_source(config, source, index) for source in sources}
    all_groups = Split.of(subsets_by_source, config.split.seed, config.split)
    used = all_groups.keep({(entry["source"], entry["group"]) for entry in read_manifest(context)})
    subset_of_role: dict[str, Subset] = {"full": "test", "train_only": "train"}
    if missing := [s.name for s in sources if not used.groups(s.name, subset_of_role[s.role])]:
        raise DataError(
            f"no patient of {', '.join(missing)} is left; data/processed/problems.txt says why each was "
            "left out"
        )
    _require_tumour_in_subsets(context, used)
    origin: dict[str, Any] = {}
    if config.split.is_given or any(predefined.values()):  # what decided the subsets of each source
        by = "folders" if config.split.file is None else "file"
        origin["given"] = {
            source: {"by": "seed"}
            if split is None
            else {"by": by, "drawn": list(split.drawn), "left_out": dict(sorted(split.left_out.items()))}
            for source, split in predefined.items()
        }
    folder = context.out("split")
    write_json(folder / SPLIT_NAME, {**used.to_json(), **origin})
    write_json(folder / "everyone.json", {**all_groups.to_json(), **origin})
    counts = {
        source: {subset: len(used.groups(source, subset)) for subset in SUBSETS} for source in used.sources
    }
    return Outcome({"counts": counts, **origin}, tuple(_notes(predefined) if origin else ()))


def _listed(keys: Sequence[str]) -> str:
    return f" ({' and '.join(keys)})" if keys else ""


def _notes(predefined: Mapping[str, PredefinedSplit | None]) -> Iterator[str]:
    for source, split in predefined.items():
        if split is None:
            yield f"{source}: the given split names none of its cases; split.seed divides it"
            continue
        drawn = f"; {' and '.join(split.drawn)} drawn by split.seed" if split.drawn else ""
        left_out = f"; {len(split.left_out)} cases left out (split.json lists them)" if split.left_out else ""
        yield f"{source}: the subsets are those of the given split{drawn}{left_out}"


def _require_tumour_in_subsets(context: Context[Config], used: Split) -> None:
    """Refuse a subset whose masks are all empty: it gives no training signal and no score."""
    store, manifest = slice_store(context.workspace), read_manifest(context)
    for key, source in context.config.data.sources.items():
        if not source.has_masks:
            continue
        cases = [entry for entry in manifest if entry["source"] == source.name]
        groups = {e["group"] for e in cases if (store.open(e["entry"]).labels == 1).any()}
        root = source_root(source, context.workspace)
        if not groups:
            keys = [f"data.sources.{key}.{name}" for name in _MASK_KEYS if hasattr(source, name)]
            raise DataError(
                f"{source.name}: not one mask of {len(cases)} cases in {root} has a pixel of a class; check "
                f"that the files taken as masks are those, and what their values mean{_listed(keys)}"
            )
        for subset in SUBSETS if source.role == "full" else ("train",):
            members = used.groups(source.name, subset)
            if not groups & {*members}:
                raise DataError(
                    f"{source.name}: not one mask of the {len(members)} patients for {subset} has a pixel of "
                    f"a class (such as {members[0]} in {root}), {len(groups)} of all patients have; add "
                    "patients, or draw another split with split.seed"
                )


SPLIT: Step[Config] = Step(
    name="split",
    run=_run,
    settings=lambda config: select_settings(
        config, "split", *source_keys(config, "role"), without=unused_split_keys(config)
    ),
    needs=("download", "preprocess"),
    homes={"split": "data/split"},
    group="data",
    per_fold=True,
    inputs=split_inputs,
    product=(SPLIT_NAME,),
    version=4,
    demand=split_demand,
)
